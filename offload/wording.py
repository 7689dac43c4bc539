"""When and how often, as people say it to ``schedule``, and what else they say with it. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from offload.calendar import Kind, as_text
from offload.errors import UsageError

HOW: Final[tuple[str, ...]] = ("zone", "misfire", "scope")


def apart(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return what of ``given`` says when, what says how, and the rest: the jobs' arguments."""
    arguments = dict(given)
    when = {kind.value: arguments.pop(kind) for kind in Kind if kind in arguments}
    how = {name: arguments.pop(name) for name in HOW if name in arguments}
    return when, how, arguments


def as_said(when: Mapping[str, Any]) -> dict[str, str]:
    """Return ``when`` with its values as text; raise ``UsageError``."""
    try:
        return {kind: as_text(value) for kind, value in when.items() if value is not None}
    except ValueError as error:
        raise UsageError(str(error)) from None
