"""What a submitter may say, as people say it: durations as ``"2m"``, moments as dates."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from datetime import datetime
from pathlib import PurePath
from typing import Any, Final, get_args, get_origin, get_type_hints

from offload.durations import seconds
from offload.errors import UsageError
from offload.work.jobs.records import Options
from offload.work.jobs.states import Delivery, Policy

_DURATIONS: Final = ("timeout", "run_after", "expires_in", "deadline_in", "retry_delay")
_NOTHING: Final = Options()
_NAMES: Final = frozenset(field.name for field in fields(Options))
_HINTS: Final = get_type_hints(Options)
_NUMBERED: Final = ("key", "order_by")  # often the number of a customer or an order
_IF_KEY: Final = ("same", "existing", "replace", "refuse")
_CHOICES: Final = {
    "if_exists": ("keep-both", "overwrite", "refuse"),
    "if_full": ("fail", "wait"),
    "if_key": _IF_KEY,
}
TEXT_LIMIT: Final = 1_000  # characters
LATEST: Final = 1e11  # wall seconds


def wished(wishes: Mapping[str, Any], base: Options = _NOTHING) -> Options:
    """
    Return ``base`` with what ``wishes`` mean, such as ``{"deadline_in": "2m", "priority": 3}``.

    Raises:
        UsageError: If one is unknown, of the wrong type, or no duration or moment; it names the
            option.
    """
    options: dict[str, Any] = {}
    for name, value in wishes.items():
        if name in _DURATIONS:
            wished_s = duration(name, value)
            options[f"{name}_s"] = 0.0 if wished_s is None and name == "run_after" else wished_s
        elif name == "run_at":
            options[name] = moment(name, value)
        elif name in _NAMES:
            options[name] = _plain(name, value)
            if not fits(name, options[name]):
                raise UsageError(f"{name}: {value!r} is of the wrong type")
            if value == "" and name in _NUMBERED:
                raise UsageError(f"{name}: is empty; leave it out for none")
        else:
            known = ", ".join(sorted(n.removesuffix("_s") for n in _NAMES))
            raise UsageError(f"options.{name}: unknown; known are {known}")
    return replace(base, **options) if options else base


def _plain(name: str, value: Any) -> Any:
    """Return ``value`` as the option has it: a number that is a name, or a path, as text."""
    numbered = name in _NUMBERED and type(value) is int
    return str(value) if numbered or (name == "into" and isinstance(value, PurePath)) else value


def fits(name: str, value: Any) -> bool:
    """Say whether ``value`` is of the type that the option ``name`` has."""
    hint = _HINTS[name]
    if get_origin(hint) is Mapping:
        return True  # ``demands`` names what is wrong in it
    kinds = get_args(hint) or (hint,)
    return type(value) in kinds or (float in kinds and type(value) is int)


def checked(options: Options) -> Delivery:
    """Return how often the job may be started; raise ``UsageError`` that names a wrong option."""
    for name, known in _CHOICES.items():
        if getattr(options, name) not in known:
            raise UsageError(f"{name}: must be one of {', '.join(known)}")
    if options.policy and options.policy not in list(Policy):
        raise UsageError(f"policy: must be one of {', '.join(Policy)}")
    if options.if_key != _IF_KEY[0] and not options.key:
        raise UsageError("if_key: needs a key")
    try:
        delivery = Delivery(options.delivery or Delivery.AT_LEAST_ONCE)
    except ValueError:
        raise UsageError(f"delivery: must be one of {', '.join(Delivery)}") from None
    for name in ("key", "order_by", "into"):
        _check_text(name, getattr(options, name))
    _check_numbers(options)
    _check_limits(options)
    return delivery


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
    with suppress(ValueError, OverflowError):
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    raise UsageError(f"{name}: {value!r} is no moment; give a datetime, or 2030-01-31T10:05")


def _check_text(name: str, text: str) -> None:
    if name in _NUMBERED and len(text) > TEXT_LIMIT:
        raise UsageError(f"{name}: is longer than {TEXT_LIMIT} characters")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(f"{name}: {text!r} is no text")


def _check_numbers(options: Options) -> None:
    if options.retries is not None and not -1 <= options.retries < 2**31:
        raise UsageError("retries: must be ≥ -1, and fit into 32 bits")
    if options.retry_delay_s is not None and not 0 <= options.retry_delay_s < float("inf"):
        raise UsageError("retry_delay: must be ≥ 0")
    if options.timeout_s is not None and not options.timeout_s > 0:
        raise UsageError("timeout: must be above 0")
    if options.priority is not None and not -(2**31) <= options.priority < 2**31:
        raise UsageError("priority: must fit into 32 bits")
    if not 0 <= options.run_after_s < float("inf"):
        raise UsageError("run_after: must be ≥ 0")


def _check_limits(options: Options) -> None:
    if options.idempotent and options.delivery not in (None, Delivery.AT_LEAST_ONCE):
        raise UsageError(f"idempotent: {options.delivery} work never runs twice")
    for name, limit_s in (
        ("expires_in", options.expires_in_s),
        ("deadline_in", options.deadline_in_s),
    ):
        if limit_s is None:
            continue
        if not 0 < limit_s < float("inf"):
            raise UsageError(f"{name}: must be above 0")
        if limit_s <= options.run_after_s:
            raise UsageError(f"{name}: is over before it may start (run_after)")
    if options.run_at is not None:
        if options.run_after_s:
            raise UsageError("run_at: give this or run_after, not both")
        if not 0 <= options.run_at < LATEST:
            raise UsageError("run_at: is no moment")
