"""
What a job is, and what may become of it. Pure.

Every ``now`` and every ``*_at`` without another word is in steady seconds (``offload.clock``);
``created_wall`` and the like are wall-clock seconds, for people.
"""

from offload.work.jobs.ids import ID_LENGTH, digest, is_id, is_sha256, new_id
from offload.work.jobs.reading import Fields
from offload.work.jobs.records import Attempt, Held, Job, Options, RetryRule
from offload.work.jobs.rules import came, conclude, decide, due, ended, queued_again
from offload.work.jobs.states import (
    FINAL,
    HURTS,
    TRANSITIONS,
    UNDER_WAY,
    Delivery,
    Event,
    HeldState,
    Result,
    State,
    after,
)
from offload.work.jobs.work import FileEntry, Outcome, Spec, file_entries

__all__ = [
    "FINAL",
    "HURTS",
    "ID_LENGTH",
    "TRANSITIONS",
    "UNDER_WAY",
    "Attempt",
    "Delivery",
    "Event",
    "Fields",
    "FileEntry",
    "Held",
    "HeldState",
    "Job",
    "Options",
    "Outcome",
    "Result",
    "RetryRule",
    "Spec",
    "State",
    "after",
    "came",
    "conclude",
    "decide",
    "digest",
    "due",
    "ended",
    "file_entries",
    "is_id",
    "is_sha256",
    "new_id",
    "queued_again",
]
