"""Kinds of values that the configuration knows, checked as they come in."""

import ipaddress
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator

from offload.calendar import Kind, Times, zone_of
from offload.commands import check_command
from offload.durations import rate, seconds
from offload.errors import InvalidTopic
from offload.hours import span
from offload.permissions import check_names
from offload.sizes import LARGEST, size_bytes
from offload.topics import check_pattern, check_topic
from offload.traits import Scalar, fault, is_host

DEFAULT_PORT: Final = 4711
MOST_PARALLEL: Final = 2**31
_WORD: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_T = TypeVar("_T")

Policy = Literal["local-first", "remote-first", "remote-only", "local-only", "balanced"]
DeliveryName = Literal["at-least-once", "exclusive", "at-most-once"]
FinalName = Literal["succeeded", "given_up", "error", "stopped", "expired", "dropped", "lost"]


def _duration(value: object) -> float:
    if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)  # the environment knows only text
    if not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is no duration; write 90s, 2m or seconds")  # noqa: TRY004 - pydantic reports ValueError
    return seconds(value)


def _rate(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no rate; write 10/s, 100/m or 5/30s")  # noqa: TRY004 - as above
    rate(value)
    return value


def _size(value: object) -> int:
    if not isinstance(value, str | int):
        raise ValueError(f"{value!r} is no size; write 500MB, 2GiB or bytes")  # noqa: TRY004 - as above
    return size_bytes(value)


def _number(value: object) -> object:
    """Let no truth stand for 0 or 1: who writes ``retries = true`` means something else."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number; it is {str(value).lower()}")  # noqa: TRY004 - as above
    return value


def _command(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
        raise ValueError(
            'must be a list of arguments, such as ["ffmpeg", "-i", "{input}", "{output.mp4}"];'
            " there is no shell"
        )
    return check_command(value)


def _split(value: object) -> object:
    """Take one text for a list: of one, or, as from the environment, with commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _pattern(value: str) -> str:
    try:
        return check_pattern(value)
    except InvalidTopic as error:
        raise ValueError(f"{value!r} {error.reason}") from None


def _topic(value: str) -> str:
    try:
        return check_topic(value)
    except InvalidTopic as error:
        raise ValueError(f"{value!r} {error.reason}") from None


def _when(kind: Kind, value: object) -> str | None:
    return None if value is None else Times.of(kind, value).value


def _zone(value: str) -> str:
    zone_of(value)
    return value


def _hours(value: str) -> str:
    span(value)
    return value


def _instance(value: str) -> str:
    return check_names([value])[0]


def _word(value: str) -> str:
    if not _WORD.fullmatch(value):
        raise ValueError(f"{value!r} may hold only letters, digits, '.', '_' and '-' (64 at most)")
    return value


def _name(value: str) -> str:
    if not 1 <= len(value) <= 64 or not value.isprintable() or value != value.strip():
        raise ValueError(f"{value!r} must be 1 to 64 printable characters")
    return value


def _checked_address(value: str) -> str:
    split_address(value)
    return value


def _shown_address(value: str) -> str:
    host, _ = split_address(value)
    if not is_host(host):
        raise ValueError(f"{value!r} is no address; write host or host:port")
    return value


def _scalars(value: object) -> Mapping[str, Scalar]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a table")  # noqa: TRY004 - as above
    for name, entry in value.items():
        _word(name)
        if wrong := fault(entry):
            raise ValueError(f"{name}: {wrong}")
    return dict(value)


def _label(value: str) -> str:
    if wrong := fault(value):
        raise ValueError(wrong)
    return value


def _amounts(value: object) -> Mapping[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError("must be a table, such as {gpu = 1}")  # noqa: TRY004 - as above
    amounts: dict[str, float] = {}
    for name, entry in value.items():
        _word(name)
        text = isinstance(entry, str) and re.fullmatch(r"\d*\.?\d+", entry)
        number = float(entry) if text or isinstance(entry, int | float) else _size(entry)
        if isinstance(entry, bool) or not 0 <= number <= LARGEST:
            raise ValueError(f"{name}: {entry!r} is no amount; write 2, 0.5 or 4GiB")
        amounts[name] = number
    return amounts


def _shares(value: object) -> Mapping[str, Path]:
    if not isinstance(value, Mapping):
        raise ValueError('must be a table, such as {media = "/mnt/media"}')  # noqa: TRY004 - as above
    folders: dict[str, Path] = {}
    for name, entry in value.items():
        _word(name)
        folder = Path(entry).expanduser() if isinstance(entry, str | Path) else Path()
        if not folder.is_absolute() or ".." in folder.parts:
            raise ValueError(f"{name}: {entry!r} is no folder from / or ~ on")
        folders[name] = folder
    return folders


def _parallel(value: object) -> int | float:
    """Check CONFORMANCE C030; the environment gives numbers as text."""
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        value = int(value)
    elif isinstance(value, str) and re.fullmatch(r"\d*\.\d+", value):
        value = float(value)
    if type(value) is int and (value == -1 or 1 <= value < MOST_PARALLEL):
        return value
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise ValueError(
        f"{value!r}: must be a number of jobs, -1 for one per core, or a fraction of the cores"
        " between 0 and 1"
    )


Integer = Annotated[int, BeforeValidator(_number)]
NotNegative = Annotated[Integer, Field(ge=0)]
Positive = Annotated[Integer, Field(ge=1)]
Number = Annotated[float, BeforeValidator(_number)]
Duration = Annotated[float, BeforeValidator(_duration)]
Size = Annotated[int, PlainValidator(_size), PlainSerializer(lambda n: n)]
Rate = Annotated[str, PlainValidator(_rate), PlainSerializer(str)]
CommandLine = Annotated[tuple[str, ...], PlainValidator(_command), PlainSerializer(list)]
ExitCode = Annotated[Integer, Field(ge=1, le=255)]
Word = Annotated[str, AfterValidator(_word)]
Label = Annotated[str, AfterValidator(_label)]
Name = Annotated[str, AfterValidator(_name)]
Address = Annotated[str, AfterValidator(_checked_address)]
ShownAddress = Annotated[str, AfterValidator(_shown_address)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Topic = Annotated[str, AfterValidator(_topic)]
Instances = Annotated[str, AfterValidator(_instance)]
Hours = Annotated[str, AfterValidator(_hours)]
Zone = Annotated[str, AfterValidator(_zone)]
ScheduledEvery = Annotated[str | None, BeforeValidator(partial(_when, Kind.EVERY))]
ScheduledHourly = Annotated[str | None, BeforeValidator(partial(_when, Kind.HOURLY))]
ScheduledDaily = Annotated[str | None, BeforeValidator(partial(_when, Kind.DAILY))]
ScheduledWeekly = Annotated[str | None, BeforeValidator(partial(_when, Kind.WEEKLY))]
ScheduledMonthly = Annotated[str | None, BeforeValidator(partial(_when, Kind.MONTHLY))]
ScheduledYearly = Annotated[str | None, BeforeValidator(partial(_when, Kind.YEARLY))]
ScheduledAt = Annotated[str | None, BeforeValidator(partial(_when, Kind.AT))]
ScheduledCron = Annotated[str | None, BeforeValidator(partial(_when, Kind.CRON))]
Listed = Annotated[tuple[_T, ...], BeforeValidator(_split)]
Parallel = Annotated[int | float, PlainValidator(_parallel), PlainSerializer(lambda n: n)]
Amounts = Annotated[Mapping[str, float], PlainValidator(_amounts), PlainSerializer(dict)]
SharedFolders = Annotated[
    Mapping[str, Path],
    PlainValidator(_shares),
    PlainSerializer(lambda folders: {name: str(folder) for name, folder in folders.items()}),
]
Conditions = Annotated[Mapping[str, Scalar], PlainValidator(_scalars), PlainSerializer(dict)]
Scalars = Annotated[Mapping[str, Scalar], PlainValidator(_scalars), PlainSerializer(dict)]


def split_address(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Return host and port of ``host``, ``host:port``, ``::1`` or ``[::1]:port``; ValueError."""
    if text.count(":") > 1 and not text.startswith("["):  # a bare IPv6 address
        return text, default_port
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:/\s]+))(?::(\d{1,5}))?", text)
    if match is None or not 0 < int(match[3] or default_port) < 65_536:
        raise ValueError(f"{text!r} is no address; write host or host:port")
    return match[1] or match[2], int(match[3] or default_port)


def is_loopback(host: str) -> bool:
    """Say whether ``host``, an address or a name, can only mean this machine."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"
