"""
What a job is, and what may become of it: states, transitions, outcomes, retry rules. Pure.

Every ``now`` and every ``*_at`` without another word is in steady seconds (``offload.clock``);
``created_wall`` and the like are wall-clock seconds, for people.
"""

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, TypeVar

from offload.errors import IllegalTransition, Malformed

_Choice = TypeVar("_Choice", bound=StrEnum)

# Stored and sent as the lower-case name: never rename a member.
State = StrEnum(
    "State",
    [
        "QUEUED",
        "ASSIGNED",
        "ACTIVE",
        "SUCCEEDED",
        "GIVEN_UP",
        "ERROR",
        "STOPPED",
        "EXPIRED",
        "DROPPED",
        "LOST",
    ],
)
Event = StrEnum(
    "Event",
    ["ASSIGN", "START", "RETURN", "SUCCEED", "GIVE_UP", "FAIL", "STOP", "EXPIRE", "DROP", "LOSE"],
)
Result = StrEnum(
    "Result",
    ["SUCCEEDED", "FAILED", "CRASHED", "TIMED_OUT", "UNREACHABLE", "REFUSED", "STOPPED"],
)


class Delivery(StrEnum):
    """How often a job may be started (DESIGN §5, Delivery)."""

    AT_LEAST_ONCE = "at-least-once"
    EXCLUSIVE = "exclusive"
    AT_MOST_ONCE = "at-most-once"


class HeldState(StrEnum):
    """What a worker keeps of another's job."""

    HAVE = "have"
    STARTED = "started"
    DONE = "done"
    TOMB = "tomb"


HURTS: Final = frozenset({Result.FAILED, Result.CRASHED, Result.TIMED_OUT})  # elsewhere, rather
_LIVE: Final = (State.QUEUED, State.ASSIGNED, State.ACTIVE)
TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = {
    (State.QUEUED, Event.ASSIGN): State.ASSIGNED,
    (State.ASSIGNED, Event.START): State.ACTIVE,
    (State.ASSIGNED, Event.RETURN): State.QUEUED,  # refused, or the worker is gone
    (State.ACTIVE, Event.RETURN): State.QUEUED,  # failed with retries left, or the worker is gone
    # A late success of an earlier attempt counts while the job waits for its next one.
    **{(state, Event.SUCCEED): State.SUCCEEDED for state in _LIVE},
    **{(state, Event.FAIL): State.ERROR for state in _LIVE},
    (State.ASSIGNED, Event.GIVE_UP): State.GIVEN_UP,
    (State.ACTIVE, Event.GIVE_UP): State.GIVEN_UP,
    **{(state, Event.STOP): State.STOPPED for state in _LIVE},
    **{(state, Event.EXPIRE): State.EXPIRED for state in _LIVE},
    **{(state, Event.DROP): State.DROPPED for state in _LIVE},
    (State.ASSIGNED, Event.LOSE): State.LOST,
    (State.ACTIVE, Event.LOSE): State.LOST,
}
UNDER_WAY: Final = (State.ASSIGNED, State.ACTIVE)
FINAL: Final = frozenset(State) - {state for state, _ in TRANSITIONS}


def after(state: State, event: Event) -> State:
    """Return the state that follows, or raise ``IllegalTransition``."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file that travels: its name, digest (hex), size in bytes, and whether it is executable."""

    name: str
    sha256: str
    size: int
    executable: bool = False

    def to_wire(self) -> list[str | int | bool]:
        """Return ``[name, sha256, size, executable]``."""
        return [self.name, self.sha256, self.size, self.executable]


@dataclass(frozen=True, slots=True)
class Spec:
    """
    What is to be run: made at the origin, and the same wherever the job goes.

    Attributes:
        topic: Its topic.
        payload: The packed arguments; None if they travel as the blob ``payload_sha256``.
        payload_sha256: Digest of the packed arguments, hex.
        files: The input files.
        delivery: How often it may be started.
        payload_size: Length of the packed arguments, in bytes.
        timeout_s: Longest run of one attempt; None: the worker's topic decides.
    """

    topic: str
    payload: bytes | None
    payload_sha256: str
    payload_size: int = 0
    files: tuple[FileEntry, ...] = ()
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    timeout_s: float | None = None

    def envelope(self) -> dict[str, Any]:
        """Return all but the payload as plain values, for the store and the wire."""
        return {
            "topic": self.topic,
            "payload_sha256": self.payload_sha256,
            "payload_size": self.payload_size,
            "files": [entry.to_wire() for entry in self.files],
            "delivery": self.delivery.value,
            "timeout_s": self.timeout_s,
        }

    @classmethod
    def from_envelope(cls, envelope: Any, payload: bytes | None) -> "Spec":
        """Read ``envelope`` back; raise ``Malformed`` naming the field that is wrong."""
        fields = Fields(envelope, "envelope")
        timeout_s = fields.take("timeout_s", (int, float, type(None)))
        return cls(
            topic=fields.take("topic", str),
            payload=payload,
            payload_sha256=fields.digest("payload_sha256"),
            payload_size=fields.take("payload_size", int),
            files=file_entries(fields.take("files", list)),
            delivery=fields.choice("delivery", Delivery),
            timeout_s=None if timeout_s is None else float(timeout_s),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What came of one attempt.

    Attributes:
        result: How it ended.
        value: The packed return value (``payload.decode``), if it succeeded.
        value_blob: Where the value is if it is too large to travel in a frame; ``value`` is empty.
        files: The output files, if it succeeded.
        reason: One sentence for a person, if it did not.
        error_type: Class name of the consumer's exception, or "".
        traceback: Its traceback as text, or "".
        final: The consumer said: never again (a FAILED that is not to be retried).
        retry_after_s: The consumer's own wish for the delay before the next try, or None.
        run_s: Seconds that the consumer ran.
    """

    result: Result
    value: bytes = b""
    value_blob: FileEntry | None = None
    files: tuple[FileEntry, ...] = ()
    reason: str = ""
    error_type: str = ""
    traceback: str = ""
    final: bool = False
    retry_after_s: float | None = None
    run_s: float = 0.0

    @property
    def conclusive(self) -> bool:
        """Whether it ends the job, whichever attempt it is of."""
        return self.result is Result.SUCCEEDED or self.final

    def blobs(self) -> tuple[FileEntry, ...]:
        """Return the files that must be here before it can be applied, the large value too."""
        return self.files if self.value_blob is None else (*self.files, self.value_blob)

    def to_wire(self) -> dict[str, Any]:
        """Return plain values, for the store and the wire."""
        return {
            "result": self.result.value,
            "value": self.value,
            "value_blob": None if self.value_blob is None else self.value_blob.to_wire(),
            "files": [entry.to_wire() for entry in self.files],
            "reason": self.reason,
            "error_type": self.error_type,
            "traceback": self.traceback,
            "final": self.final,
            "retry_after_s": self.retry_after_s,
            "run_s": self.run_s,
        }

    @classmethod
    def from_wire(cls, wire: Any) -> "Outcome":
        """Read it back; raise ``Malformed`` naming the field that is wrong."""
        fields = Fields(wire, "outcome")
        retry_after_s = fields.take("retry_after_s", (int, float, type(None)))
        value_blob = fields.take("value_blob", (list, type(None)))
        return cls(
            result=fields.choice("result", Result),
            value=fields.take("value", bytes),
            value_blob=None if value_blob is None else file_entries([value_blob])[0],
            files=file_entries(fields.take("files", list)),
            reason=fields.take("reason", str),
            error_type=fields.take("error_type", str),
            traceback=fields.take("traceback", str),
            final=fields.take("final", bool),
            retry_after_s=None if retry_after_s is None else float(retry_after_s),
            run_s=float(fields.take("run_s", (int, float))),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """
    A job as its origin keeps it (its spec apart, which never changes).

    Attributes:
        id: 26 lower-case Crockford characters.
        seq: Its place in the order of adding, given by the store.
        attempt: Number of the latest attempt, raised in the commit that assigns it; 0: none yet.
        fence: The lowest attempt whose outcome may still be applied.
        worker: Instance id of the one it is assigned to, or "".
        given: Who was given which attempt, ``(attempt, instance id)``, from the fence on.
        stopping: Somebody asked to stop it, and its worker has not confirmed yet.
        placing: The attempt whose output files are being put in place, or 0.
        failures: Attempts that used up a retry.
        crashes: Attempts that ended with their process.
        lapses: Attempts whose lease ran out unexplained.
        not_before: It must not start before this (steady seconds).
        into: Folder for the output files, or "" for the default.
        if_exists: What to do about files there: ``keep-both``, ``overwrite`` or ``refuse``.
        outputs: Where its output files were placed, in the order of the outcome's files.
        policy: Placement policy, or "" for the topic's or the default.
        reason: Why it is where it is, in one sentence.
    """

    id: str
    topic: str
    queue: str
    state: State = State.QUEUED
    seq: int = 0
    priority: int = 0
    attempt: int = 0
    fence: int = 1
    worker: str = ""
    given: tuple[tuple[int, str], ...] = ()
    stopping: bool = False
    placing: int = 0
    failures: int = 0
    crashes: int = 0
    lapses: int = 0
    not_before: float = 0.0
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    into: str = ""
    if_exists: str = "keep-both"
    outputs: tuple[str, ...] = ()
    policy: str = ""
    key: str = ""
    retries: int | None = None
    reason: str = ""
    created_wall: float = 0.0
    started_wall: float = 0.0
    finished_wall: float = 0.0
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether nothing more can become of it."""
        return self.state in FINAL


@dataclass(frozen=True, slots=True)
class Options:
    """
    What a submitter may wish for a job.

    Attributes:
        priority: Higher runs first, within its topic's queue at the origin.
        key: Submit key: the same key with the same content is the same job.
        policy: Placement policy; "": the topic's or the default.
        into: Folder for the output files; "": ``results/<job>`` in the data directory.
        if_exists: What to do about files there: ``keep-both``, ``overwrite`` or ``refuse``.
        delivery: How often it may be started; None: the topic's, or at-least-once.
        timeout_s: Longest run of one attempt, in seconds; None: the topic's.
        retries: Failed attempts after which one more follows; None: the queue's; -1: endless.
        run_after_s: Seconds to wait before it may start.
    """

    priority: int = 0
    key: str = ""
    policy: str = ""
    into: str = ""
    if_exists: str = "keep-both"
    delivery: str | None = None
    timeout_s: float | None = None
    retries: int | None = None
    run_after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """
    Another's job as its worker keeps it (its spec apart).

    Attributes:
        store_id: Store id of the origin; with ``job_id`` the key.
        origin: Instance id of the origin.
        boot: The own boot in which it was STARTED; 0: not started.
        refused: Why, if it was refused (TOMB); the same answer is given again.
        outcome: What came of it (DONE).
        at: When the state was last changed (steady seconds).
    """

    store_id: str
    job_id: str
    origin: str
    state: HeldState
    attempt: int
    topic: str = ""
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    boot: int = 0
    refused: str = ""
    outcome: Outcome | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """A line of a job's history of attempts."""

    number: int
    worker: str
    result: Result
    reason: str
    ended_wall: float
    run_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RetryRule:
    """
    When a failed job runs again.

    Attributes:
        retries: Failed attempts after which one more follows; -1: without end.
        delay_s: Given the number of failures so far (1, 2, …), seconds before the next try.
        max_crashes: Crashes after which it is given up.
        max_lapses: Unexplained ends of a lease after which it is given up.
    """

    retries: int = 10
    delay_s: Callable[[int], float] = field(default=lambda _failures: 2.0)
    max_crashes: int = 5
    max_lapses: int = 20


def decide(job: Job, outcome: Outcome, rule: RetryRule, now: float) -> Job:
    """
    Return what becomes of ``job`` after ``outcome``: success, another try later, or an end.

    The attempt is over: what follows of it is fenced off (DESIGN §5, OUTCOME).
    """
    job = replace(job, fence=job.attempt + 1, reason=outcome.reason)
    match outcome.result:
        case Result.SUCCEEDED:
            return ended(job, Event.SUCCEED, now)
        case Result.STOPPED:
            return ended(job, Event.STOP, now)
        case Result.FAILED if outcome.final:
            return ended(job, Event.FAIL, now)
        case Result.REFUSED | Result.UNREACHABLE:
            return queued_again(job, now, 0.0)
        case _ if job.delivery is Delivery.AT_MOST_ONCE:
            return ended(job, Event.GIVE_UP, now)
        case Result.FAILED | Result.TIMED_OUT:
            job = replace(job, failures=job.failures + 1)
            retries = rule.retries if job.retries is None else job.retries
            if 0 <= retries < job.failures:
                return ended(job, Event.GIVE_UP, now)
            delay_s = outcome.retry_after_s
            return queued_again(
                job, now, rule.delay_s(job.failures) if delay_s is None else delay_s
            )
        case Result.CRASHED:
            job = replace(job, crashes=job.crashes + 1)
            if job.crashes >= rule.max_crashes:
                return ended(job, Event.GIVE_UP, now)
            return queued_again(job, now, rule.delay_s(job.crashes))


def came(job: Job | None, sender: str, attempt: int, outcome: Outcome) -> bool:
    """
    Say whether an outcome counts (DESIGN §5, OUTCOME); what does not, changes nothing.

    A final outcome (success, "never again") counts from any attempt at or above the fence of a
    job that is not finished; a failed attempt only if it is the current one. Each only from the
    instance that the attempt was given to.
    """
    if job is None or job.finished or job.placing or attempt < job.fence:
        return False
    if attempt > job.attempt:  # ours is a restored backup: the attempt is of our lost future
        return outcome.conclusive
    if (attempt, sender) not in job.given:
        return False
    return outcome.conclusive or (attempt == job.attempt and job.worker == sender)


def conclude(
    job: Job, sender: str, attempt: int, outcome: Outcome, rule: RetryRule, now: float
) -> Job | None:
    """
    OUTCOME, from here or from afar: return what becomes of ``job``, None if it changes nothing.

    The end of an attempt that somebody stopped is as good as a CANCELLED.
    """
    if came(job, sender, attempt, outcome):
        return decide(job, outcome, rule, now)
    current = job.state in UNDER_WAY and (job.worker, job.attempt) == (sender, attempt)
    if job.stopping and current and not job.placing:
        return ended(job, Event.STOP, now)
    return None


def queued_again(job: Job, now: float, delay_s: float) -> Job:
    """Return ``job`` waiting for its next attempt, ``delay_s`` from now at the earliest."""
    state = after(job.state, Event.RETURN)
    return replace(job, state=state, worker="", not_before=now + delay_s if delay_s > 0 else 0.0)


def ended(job: Job, event: Event, now: float) -> Job:
    """Return ``job`` in the final state that ``event`` leads to."""
    return replace(job, state=after(job.state, event), stopping=False, finished_at=now)


def due(job: Job, now: float) -> bool:
    """Say whether ``job`` waits for nothing but a place to run."""
    return job.state is State.QUEUED and job.not_before <= now


# --- ids ---------------------------------------------------------------------------------------

_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
ID_LENGTH: Final = 26


def new_id(wall_ms: int | None = None, random_bytes: bytes | None = None) -> str:
    """Return a new job id: 48 bits of milliseconds and 80 random bits, in Crockford base 32."""
    ms = time.time_ns() // 1_000_000 if wall_ms is None else wall_ms
    noise = os.urandom(10) if random_bytes is None else random_bytes
    number = (ms & (2**48 - 1)) << 80 | int.from_bytes(noise, "big")
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def is_id(text: str) -> bool:
    """Say whether ``text`` has the form of a job id."""
    return len(text) == ID_LENGTH and set(text) <= set(_CROCKFORD)


def digest(data: bytes) -> str:
    """Return the SHA-256 of ``data``, hex."""
    return hashlib.sha256(data).hexdigest()


# --- reading what came from outside ------------------------------------------------------------


class Fields:
    """The fields of a map from outside, taken one by one with their types checked."""

    __slots__ = ("_map", "_what")

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(f"{what} is no map")
        self._map, self._what = value, what

    def take(self, name: str, kind: Any) -> Any:
        """Return the field ``name``, which must be of ``kind`` (a type or several)."""
        value = self._map.get(name)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kinds):
            raise Malformed(f"{self._what}.{name} is missing or of the wrong type")
        return value

    def choice(self, name: str, kind: type[_Choice]) -> _Choice:
        """Return the field ``name`` as a member of ``kind``."""
        try:
            return kind(self.take(name, str))
        except ValueError:
            raise Malformed(f"{self._what}.{name} is none of {', '.join(kind)}") from None

    def digest(self, name: str) -> str:
        """Return the field ``name``, a SHA-256 in lower-case hex."""
        value: str = self.take(name, str)
        if not is_sha256(value):
            raise Malformed(f"{self._what}.{name} is no SHA-256")
        return value


def is_sha256(text: str) -> bool:
    """Say whether ``text`` is a SHA-256 in lower-case hex."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def file_entries(value: list[Any]) -> tuple[FileEntry, ...]:
    """Read ``[[name, sha256, size, executable], …]``; raise ``Malformed``."""
    entries = []
    for entry in value:
        match entry:
            case [str(name), str(sha256), int(size), bool(executable)] if (
                is_sha256(sha256) and type(size) is int and 0 <= size < 2**63
            ):
                entries.append(FileEntry(name, sha256, size, executable))
            case _:
                raise Malformed("files: an entry is not [name, sha256, size, executable]")
    return tuple(entries)
