"""Packages whose names are resolved when they are used (PEP 562), so that a part costs no whole."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """
    Return the ``__getattr__`` of a package.

    Args:
        package: Its ``__name__``.
        homes: Name -> the module where it is, from the package on (``.link``); a name that is
            also that of a module in the package would be hidden by it.
    """

    def resolved(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home, package), name)

    return resolved
