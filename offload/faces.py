"""Packages whose names are resolved when they are used (PEP 562), so that a part costs no whole."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """
    Return the ``__getattr__`` of a package.

    Args:
        package: Its ``__name__``.
        homes: Module, from the package on (``.link``) -> the names that are in it, with spaces
            between. A name that is also that of a module in the package would be hidden by it.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def resolved(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home_of[name], package), name)

    return resolved
