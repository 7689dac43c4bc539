"""
What a job is, and what may become of it. Pure.

Every ``now`` and every ``*_at`` without another word is in steady seconds (``offload.clock``);
``created_wall`` and the like are wall-clock seconds, for people.
"""

from offload.work.jobs.demands import (
    NO_DEMANDS,
    Demands,
    Fact,
    amount,
    condition,
    demands,
    read_demands,
    written_needs,
    written_where,
)
from offload.work.jobs.ids import ID_LENGTH, digest, is_id, is_sha256, new_id
from offload.work.jobs.properties import as_map, merged
from offload.work.jobs.queries import UNREADABLE, WORDS, Condition, Query, conditions_as_text, query
from offload.work.jobs.reading import Fields
from offload.work.jobs.records import Attempt, DeadLetter, Held, Job, Options, RetryRule
from offload.work.jobs.rules import (
    AGEING_S,
    came,
    came_late,
    conclude,
    decide,
    due,
    ended,
    given_back,
    limits_of,
    moved,
    queued_again,
    requeued,
    stopped,
    time_over,
    turn,
)
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
from offload.work.jobs.wishes import duration, moment, wished
from offload.work.jobs.work import FileEntry, Outcome, Spec, file_entries

__all__ = [
    "AGEING_S",
    "FINAL",
    "HURTS",
    "ID_LENGTH",
    "NO_DEMANDS",
    "TRANSITIONS",
    "UNDER_WAY",
    "UNREADABLE",
    "WORDS",
    "Attempt",
    "Condition",
    "DeadLetter",
    "Delivery",
    "Demands",
    "Event",
    "Fact",
    "Fields",
    "FileEntry",
    "Held",
    "HeldState",
    "Job",
    "Options",
    "Outcome",
    "Query",
    "Result",
    "RetryRule",
    "Spec",
    "State",
    "after",
    "amount",
    "as_map",
    "came",
    "came_late",
    "conclude",
    "condition",
    "conditions_as_text",
    "decide",
    "demands",
    "digest",
    "due",
    "duration",
    "ended",
    "file_entries",
    "given_back",
    "is_id",
    "is_sha256",
    "limits_of",
    "merged",
    "moment",
    "moved",
    "new_id",
    "query",
    "queued_again",
    "read_demands",
    "requeued",
    "stopped",
    "time_over",
    "turn",
    "wished",
    "written_needs",
    "written_where",
]
