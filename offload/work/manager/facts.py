"""What the manager tells the house: the events on the bus about own jobs."""

from dataclasses import dataclass

from offload.work.jobs import Job, State


@dataclass(frozen=True, slots=True)
class JobQueued:
    """A job waits for a place to run: it was added, or came back."""

    job: Job


@dataclass(frozen=True, slots=True)
class JobChanged:
    """A job is no longer in the state ``was``; this is on disk."""

    job: Job
    was: State


@dataclass(frozen=True, slots=True)
class JobNews:
    """A line of a job's log (``kind`` "log"), or of its progress ("progress", JSON text)."""

    job_id: str
    wall: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class SlotFree:
    """An attempt has left its place in ``queue``."""

    queue: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """What came of an attempt that ran here is recorded."""

    job_id: str
