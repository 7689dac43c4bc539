"""
What the manager tells the house: the events on the bus about own jobs.

Those that every job brings are tuples, as the job itself (``Job``).
"""

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from offload.work.jobs import Attempt, Job, Spec, State


@dataclass(frozen=True, slots=True)
class JobQueued:
    """
    A job waits for a place to run: it was added, or came back.

    Of one that was just added, ``spec`` says what it is to run, so that nobody has to read it.
    """

    job: Job
    spec: Spec | None = field(default=None, compare=False)


class JobAdded(NamedTuple):
    """
    A new job is on disk; what follows of it comes after this, ``JobQueued`` first.

    Of one that began at once the bus tells with ``JobBegun`` alone.
    """

    job: Job


class JobBegun(NamedTuple):
    """
    A new job is on disk and has begun at once: it never waited.

    People are told in two steps (``steps``), as of any other job.

    Attributes:
        job: As it is.
        made: As it was made; it has no place in the order yet.
    """

    job: Job
    made: Job

    def steps(self) -> "tuple[JobAdded, JobChanged]":
        """Return the same as one that was added, then began."""
        job, made = self
        return JobAdded(made.but(seq=job.seq)), JobChanged(job, made.state, wall=job.started_wall)


class JobChanged(NamedTuple):
    """
    A job is no longer in the state ``was``; this is on disk, with the attempt that ended.

    ``wall`` is when that was decided, as in the facts below (0: nobody said).
    """

    job: Job
    was: State
    attempt: Attempt | None = None
    wall: float = 0.0


@dataclass(frozen=True, slots=True)
class JobAltered:
    """Something else of a job than its state is another: its priority, its time, a wish to stop."""

    job: Job
    wall: float = 0.0


@dataclass(frozen=True, slots=True)
class JobRemoved:
    """A job that had ended, or could not be read, is deleted for good by a person."""

    job_id: str
    topic: str
    wall: float


@dataclass(frozen=True, slots=True)
class JobNews:
    """
    What a job says while it runs.

    ``kind`` is "log" (a line), "progress" (JSON text), "partial" (a value ahead of the result:
    ``app.partial_value``) or "properties" (JSON text: what it keeps).
    """

    job_id: str
    wall: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class SlotFree:
    """An attempt has left its place."""


@dataclass(frozen=True, slots=True)
class RunEnded:
    """What came of attempts that ran here is recorded."""


@dataclass(frozen=True, slots=True)
class JobStopping:
    """A job under way is to be stopped: no outcome of its attempt counts any more."""

    job: Job
    wall: float = 0.0


@dataclass(frozen=True, slots=True)
class GateMoved:
    """Queues were suspended or resumed, processing was disabled or enabled, or rules changed."""


JobEvent: TypeAlias = JobAdded | JobChanged | JobStopping | JobAltered | JobNews | JobRemoved
