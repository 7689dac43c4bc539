"""What an instance keeps of a job: its own, and another's that it holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from offload.work.jobs.states import FINAL, Delivery, HeldState, Result, State
from offload.work.jobs.work import Outcome


class Job(NamedTuple):
    """
    A job as its origin keeps it (its spec apart, which never changes).

    A tuple, since every step of a job makes a new one: a frozen dataclass takes six times as long.

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
        properties: What its consumers have kept, as a JSON object, or "".
        order_by: Jobs with the same value run one after the other; "": in no order.
        lane: What it is lined up in: its ``order_by`` value, its ORDERED queue, or "".
        behind: Others of its lane, added earlier, have not ended yet.
        waits_since: Since when it stands in line: when it was added, or its start time.
        expires_at: Not started by then, it expires; 0: never.
        deadline_at: Not finished by then, it expires; 0: never.
        run_at: The wall-clock time of which ``not_before`` is the steady one, or 0.
        overdue: It is being stopped because its time is over, not by a person.
        again_of: Id of the finished job that it repeats (C042), or "".
        retry_delay_s: Seconds before each retry; None: the queue's rule.
        idempotent: It may run twice at the same time: the first success counts.
        demands: What it demands of the place where it runs (``read_demands``), or "".
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
    properties: str = ""
    order_by: str = ""
    lane: str = ""
    behind: bool = False
    waits_since: float = 0.0
    expires_at: float = 0.0
    deadline_at: float = 0.0
    run_at: float = 0.0
    overdue: bool = False
    again_of: str = ""
    retry_delay_s: float | None = None
    demands: str = ""
    idempotent: bool = False

    @property
    def finished(self) -> bool:
        """Whether nothing more can become of it."""
        return self.state in FINAL

    def but(self, **changes: Any) -> "Job":
        """Return it with ``changes``: as ``_replace`` does, in a quarter of the time."""
        values = list(self)
        for name, value in changes.items():
            values[_PLACES[name]] = value
        return tuple.__new__(Job, values)  # ``_make`` only counts them once more


_PLACES: Final = {name: place for place, name in enumerate(Job._fields)}


@dataclass(frozen=True, slots=True)
class Options:
    """
    What a submitter may wish for a job.

    Attributes:
        priority: Higher runs first, within its topic's queue at the origin; None: the queue's.
        key: Submit key; ``if_key`` says what becomes of a job whose key is taken.
        if_key: ``same``: the same key with the same content is the same job, ended or not, and
            other content a conflict. The others let one job per key live: ``existing``: it stays,
            whatever its content; ``replace``: it is stopped; ``refuse``: this one is not added.
        policy: Placement policy; "": the topic's or the default.
        into: Folder for the output files; "": ``results/<job>`` in the data directory.
        if_exists: What to do about files there: ``keep-both``, ``overwrite`` or ``refuse``.
        delivery: How often it may be started; None: the topic's, or at-least-once.
        timeout_s: Longest run of one attempt, in seconds; None: the topic's.
        retries: Failed attempts after which one more follows; None: the queue's; -1: endless.
        run_after_s: Seconds to wait before it may start.
        order_by: Jobs with the same value run one after the other, in the order of adding.
        expires_in_s: Not started by then, it expires; None: never.
        deadline_in_s: Not finished by then, it is stopped and expires; None: never.
        run_at: When it may start, in seconds of the wall clock; None: now.
        retry_delay_s: Seconds before each retry, unless its consumer wishes others; None: the
            queue's rule.
        needs: Resources that it takes while it runs, such as ``{"gpu": 1, "memory": "4GiB"}``.
        where: What must be true of the instance: ``{"room": "lab", "cores": ">=8"}``.
        idempotent: It may run twice at the same time; if it takes long, a second worker gets it.
        if_full: When as many jobs wait as may: ``fail``, or ``wait`` until there is room.
    """

    priority: int | None = None
    key: str = ""
    policy: str = ""
    into: str = ""
    if_exists: str = "keep-both"
    delivery: str | None = None
    timeout_s: float | None = None
    retries: int | None = None
    run_after_s: float = 0.0
    order_by: str = ""
    expires_in_s: float | None = None
    deadline_in_s: float | None = None
    run_at: float | None = None
    if_key: str = "same"
    retry_delay_s: float | None = None
    needs: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)
    if_full: str = "fail"
    idempotent: bool = False

    def __post_init__(self) -> None:
        """Take ``needs`` and ``where`` as they are now: what becomes of the caller's is theirs."""
        for name in ("needs", "where"):
            given = getattr(self, name)
            if isinstance(given, Mapping):  # all else is refused by name when it is looked at
                object.__setattr__(self, name, dict(given))


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
        retry_count: Failed attempts before this one.
        properties: What earlier attempts have kept, as a JSON object, or "".
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
    retry_count: int = 0
    properties: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    An outcome that nobody takes, or that came too late to be applied.

    Attributes:
        number: Its own; given by the store.
        store_id: Store id of the origin; with ``job_id`` the job's name.
        origin: Instance id of the origin.
        sender: Instance id of the worker.
        reason: Why it is one, in one sentence.
        kept_wall: Since when, in wall seconds.
    """

    number: int
    store_id: str
    job_id: str
    attempt: int
    origin: str
    sender: str
    topic: str
    reason: str
    kept_wall: float
    outcome: Outcome


class Attempt(NamedTuple):
    """
    A line of a job's history of attempts.

    Attributes:
        run_s: Seconds that the consumer ran; None: nobody who lives knows.
    """

    number: int
    worker: str
    result: Result
    reason: str
    ended_wall: float
    run_s: float | None = None


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
