"""What a schedule is, how it is named, and which of two versions of it holds. Pure."""

import base64
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar

from offload import codec
from offload.calendar import Kind, Misfire, Times, chosen
from offload.errors import InvalidTopic, Malformed, UsageError
from offload.payload import Encoded, arrived
from offload.topics import check_topic
from offload.work.jobs import Options, checked, demands, fits

E = TypeVar("E", bound=StrEnum)
PAYLOAD_LIMIT: Final = 64 * 1024
ID_LENGTH: Final = 26
LATEST: Final = 1e11  # wall seconds
_OPTIONS: Final = (
    "priority",
    "policy",
    "into",
    "if_exists",
    "delivery",
    "timeout_s",
    "retries",
    "retry_delay_s",
    "needs",
    "where",
    "order_by",
    "expires_in_s",
    "deadline_in_s",
    "idempotent",
)
_OF_ONE_JOB: Final = ("key", "run_after_s", "run_at", "if_full")
_PLAIN: Final = Options()


class Scope(StrEnum):
    """Who fires: each instance that has the schedule, or one in the whole topology."""

    INSTANCE = "instance"
    TOPOLOGY = "topology"


class Condition(StrEnum):
    """Whether a schedule fires; a removed one is remembered, so that all learn of it."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REMOVED = "removed"


class Mark(NamedTuple):
    """
    Up to ``fired`` (wall seconds) all firings are settled, the last one by ``by``.

    While ``asked``, that one is not settled yet: ``by`` asks the others whether it may be.
    """

    fired: float = 0.0
    by: str = ""
    asked: bool = False

    def gives_way(self, other: "Mark", own_id: str) -> bool:
        """Say whether ``other``, heard of by ``own_id``, holds in place of this one."""
        if other.fired != self.fired:
            return other.fired > self.fired
        if not self.asked or other == self:
            return False
        if self.by == other.by == own_id:  # of its own it knows best
            return False
        # Of two who ask at the same time the one with the lower id has it.
        return not other.asked or self.by != own_id or other.by < own_id


@dataclass(frozen=True, slots=True)
class Schedule:
    """
    A job that is to be made again and again, or once, when it is time.

    Attributes:
        id: Made of what it is: the same topic, payload, times and scope are the same schedule.
        payload: The arguments, packed.
        files: Path and name of each file among them, read at each firing.
        fields: By what its jobs are found.
        since: Firings up to this moment (wall seconds) do not count.
        version: Raised by each change; of two versions the higher one holds.
    """

    id: str
    topic: str
    times: Times
    payload: bytes
    files: tuple[tuple[str, str], ...] = ()
    fields: Mapping[str, str | int | float] = field(default_factory=dict)
    misfire: Misfire = Misfire.ONCE
    scope: Scope = Scope.INSTANCE
    options: Options = _PLAIN
    condition: Condition = Condition.ACTIVE
    since: float = 0.0
    version: int = 1

    @property
    def encoded(self) -> Encoded:
        """Return the arguments as a job takes them."""
        files = tuple(arrived(path, name) for path, name in self.files)
        return Encoded(self.payload, files, self.fields)

    @property
    def wishes(self) -> dict[str, Any]:
        """Return the options that say something; some of the others are unknown to older ones."""
        given = {name: getattr(self.options, name) for name in _OPTIONS}
        return {name: value for name, value in given.items() if value != getattr(_PLAIN, name)}

    def changed(self, condition: Condition, now: float) -> "Schedule":
        """Return it in another condition, as its next version; firings count from ``now`` on."""
        return replace(self, condition=condition, since=now, version=self.version + 1)

    def to_wire(self) -> dict[str, Any]:
        """Return it as plain values; its id follows from them."""
        return {
            "topic": self.topic,
            "kind": self.times.kind.value,
            "value": self.times.value,
            "zone": self.times.zone,
            "payload": self.payload,
            "files": [list(entry) for entry in self.files],
            "fields": dict(self.fields),
            "misfire": self.misfire.value,
            "scope": self.scope.value,
            "options": self.wishes,
            "condition": self.condition.value,
            "since": self.since,
            "version": self.version,
        }

    @classmethod
    def from_wire(cls, wire: object) -> "Schedule":
        """Read it back; raise ``Malformed``."""
        match wire:
            case {
                "topic": str(topic),
                "kind": str(kind),
                "value": str(value),
                "zone": str(zone),
                "payload": bytes(payload),
                "files": list(files),
                "fields": dict(fields),
                "misfire": str(misfire),
                "scope": str(scope),
                "options": dict(options),
                "condition": str(condition),
                "since": int() | float() as since,
                "version": int(version),
            } if 0 <= since < LATEST and 0 < version < 2**62 and len(payload) <= PAYLOAD_LIMIT:
                pass
            case _:
                raise Malformed("schedule: a field is missing or wrong")
        try:
            read = cls(
                id="",
                topic=check_topic(topic),
                times=Times.of(Kind(kind), value, zone),
                payload=payload,
                files=tuple(_file(entry) for entry in files),
                fields=_fields(fields),
                misfire=Misfire(misfire),
                scope=Scope(scope),
                options=_options(options),
                condition=Condition(condition),
                since=float(since),
                version=version,
            )
            _check_scope(read)
        except (ValueError, InvalidTopic, UsageError) as error:
            raise Malformed(f"schedule: {error}") from None
        return replace(read, id=name_of(read))


def make(
    topic: str,
    encoded: Encoded,
    times: Times,
    *,
    misfire: str = Misfire.ONCE,
    scope: str = Scope.INSTANCE,
    options: Options = _PLAIN,
    now: float,
) -> Schedule:
    """
    Return a schedule whose firings count from ``now`` on.

    Raises:
        UsageError: If it cannot be; the reason names the argument.
        InvalidTopic: If the topic is none.
    """
    checked(options)
    for name in _OF_ONE_JOB:
        if getattr(options, name) != getattr(_PLAIN, name):
            said = name.removesuffix("_s")
            raise UsageError(f"{said}: is not for a schedule; each firing has its own")
    demands(options.needs, options.where)
    if len(encoded.data) > PAYLOAD_LIMIT:
        raise UsageError(f"a schedule's arguments are limited to {PAYLOAD_LIMIT} bytes; use a file")
    made = Schedule(
        id="",
        topic=check_topic(topic),
        times=times,
        payload=encoded.data,
        files=tuple((str(file.path.absolute()), file.travels_as) for file in encoded.files),
        fields=dict(encoded.fields),
        misfire=_choice("misfire", Misfire, misfire),
        scope=_choice("scope", Scope, scope),
        options=options,
        since=now,
    )
    _check_scope(made)
    return replace(made, id=name_of(made))


def times_of(when: Mapping[str, Any], zone: str = "") -> Times:
    """Return the times that exactly one entry of ``when`` says; raise ``UsageError``."""
    try:
        return chosen(when, zone)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from None


def name_of(schedule: Schedule) -> str:
    """Return the id: the same for the same topic, payload, times and scope (C043)."""
    times = schedule.times
    said = [
        schedule.topic,
        schedule.payload,
        schedule.files,
        times.kind.value,
        times.value,
        times.zone,
        schedule.scope.value,
    ]
    digest = hashlib.sha256(codec.pack(said)).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:ID_LENGTH]


def holds_over(one: Schedule, other: Schedule) -> bool:
    """Say whether ``one`` holds, of two versions of a schedule; all instances say the same."""
    if one.version != other.version:
        return one.version > other.version
    return codec.pack(one.to_wire()) > codec.pack(other.to_wire())


def again(old: Schedule, new: Schedule) -> Schedule:
    """Return what becomes of ``old`` when ``new``, the same schedule, is added (C043)."""
    if old.condition is Condition.REMOVED:
        return replace(new, version=old.version + 1)
    kept = replace(new, condition=old.condition, since=old.since, version=old.version)
    return old if kept == old else replace(kept, version=old.version + 1)


def pack(schedule: Schedule) -> bytes:
    """Return ``schedule`` as it is kept."""
    return codec.pack(schedule.to_wire())


def unpack(record: bytes) -> Schedule:
    """Read it back; raise ``Malformed``."""
    return Schedule.from_wire(codec.unpack(record))


def topic_of(record: bytes) -> str:
    """Return the topic in what cannot be read otherwise, or ""."""
    try:
        match codec.unpack(record):
            case {"topic": str(topic)}:
                return check_topic(topic)
    except (InvalidTopic, Malformed):
        pass
    return ""


def moment(value: object) -> float:
    """Return ``value`` as wall seconds, or raise ``Malformed``."""
    if type(value) not in (int, float) or not 0 <= value < LATEST:  # type: ignore[operator]
        raise Malformed("schedule: not a moment")
    return float(value)  # type: ignore[arg-type]


def _check_scope(schedule: Schedule) -> None:
    """Let no instance say what another reads and writes on its disk."""
    if schedule.scope is Scope.TOPOLOGY and (schedule.files or schedule.options.into):
        what = "files" if schedule.files else "into"
        raise UsageError(f"{what}: is not for schedules of the whole topology; any may fire them")


def _choice(name: str, kind: type[E], value: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"{name}: must be one of {', '.join(kind)}") from None


def _file(entry: object) -> tuple[str, str]:
    match entry:
        case [str(path), str(name)]:
            return path, name
    raise ValueError("files: not [path, name]")


def _fields(fields: Mapping[Any, Any]) -> dict[str, str | int | float]:
    for name, value in fields.items():
        finite = not isinstance(value, float) or math.isfinite(value)
        if not isinstance(name, str) or not isinstance(value, str | int | float) or not finite:
            raise ValueError("fields: neither a text nor a number")
    return dict(fields)


def _options(options: Mapping[Any, Any]) -> Options:
    for name, value in options.items():
        if name not in _OPTIONS or not fits(name, value):
            raise ValueError(f"options: {name!r} is unknown or wrong")
    read = Options(**options)
    checked(read)
    demands(read.needs, read.where)
    return read
