"""What a submitter may say, as people say it: durations as ``"2m"``, moments as dates."""

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, Final

from offload.durations import seconds
from offload.errors import UsageError
from offload.work.jobs.records import Options

_DURATIONS: Final = ("timeout", "run_after", "expires_in", "deadline_in", "retry_delay")
_NOTHING: Final = Options()
_NAMES: Final = frozenset(field.name for field in fields(Options))


def wished(wishes: Mapping[str, Any], base: Options = _NOTHING) -> Options:
    """
    Return ``base`` with what ``wishes`` mean, such as ``{"deadline_in": "2m", "priority": 3}``.

    Raises:
        UsageError: If one is unknown, or is no duration or moment; it names the option.
    """
    options: dict[str, Any] = {}
    for name, value in wishes.items():
        if name in _DURATIONS:
            options[f"{name}_s"] = duration(name, value)
        elif name == "run_at":
            options[name] = moment(name, value)
        elif name in _NAMES:
            options[name] = value
        else:
            known = ", ".join(sorted(n.removesuffix("_s") for n in _NAMES))
            raise UsageError(f"options.{name}: unknown; known are {known}")
    return replace(base, **options) if options else base


def duration(name: str, value: Any) -> float | None:
    """Return the seconds that ``value`` means; None stays None; raise ``UsageError``."""
    if value is None:
        return None
    try:
        return seconds(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: {error}") from None


def moment(name: str, value: Any) -> float:
    """Return the wall-clock seconds of a datetime, an ISO 8601 text or seconds; ``UsageError``."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise UsageError(f"{name}: {value!r} is no moment; write 2030-01-31T10:05") from None
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise UsageError(f"{name}: {value!r} is no moment; give a datetime, or 2030-01-31T10:05")
