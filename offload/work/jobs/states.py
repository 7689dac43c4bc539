"""The states of a job, how one leads to another, and the results of an attempt."""

from collections.abc import Mapping
from enum import StrEnum, auto
from typing import Final

from offload.errors import IllegalTransition


class _Word(StrEnum):
    """
    Stored and sent as the lower-case name: never rename a member.

    It is found in a set or a table as the text that it is: an enum's own way is a call in Python,
    and every job asks a dozen times.
    """

    __hash__ = str.__hash__


class State(_Word):
    """Where a job is on its way."""

    QUEUED = auto()
    ASSIGNED = auto()
    ACTIVE = auto()
    SUCCEEDED = auto()
    GIVEN_UP = auto()
    ERROR = auto()
    STOPPED = auto()
    EXPIRED = auto()
    DROPPED = auto()
    LOST = auto()


class Event(_Word):
    """What brings a job from one state to the next."""

    ASSIGN = auto()
    START = auto()
    RETURN = auto()
    SUCCEED = auto()
    GIVE_UP = auto()
    FAIL = auto()
    STOP = auto()
    EXPIRE = auto()
    DROP = auto()
    LOSE = auto()
    REQUEUE = auto()


class Result(_Word):
    """How an attempt ended."""

    SUCCEEDED = auto()
    FAILED = auto()
    CRASHED = auto()
    TIMED_OUT = auto()
    UNREACHABLE = auto()
    REFUSED = auto()
    STOPPED = auto()


class Delivery(_Word):
    """How often a job may be started (DESIGN §5, Delivery)."""

    AT_LEAST_ONCE = "at-least-once"
    EXCLUSIVE = "exclusive"
    AT_MOST_ONCE = "at-most-once"


class Policy(_Word):
    """Where a job may go, and where it goes first."""

    LOCAL_FIRST = "local-first"
    REMOTE_FIRST = "remote-first"
    REMOTE_ONLY = "remote-only"
    LOCAL_ONLY = "local-only"
    BALANCED = "balanced"


class HeldState(_Word):
    """What a worker keeps of another's job."""

    HAVE = "have"
    STARTED = "started"
    DONE = "done"
    TOMB = "tomb"


HURTS: Final = frozenset({Result.FAILED, Result.CRASHED, Result.TIMED_OUT})  # elsewhere, rather
_LIVE: Final = (State.QUEUED, State.ASSIGNED, State.ACTIVE)
TAKEN_BACK: Final = (State.GIVEN_UP, State.ERROR, State.STOPPED, State.EXPIRED, State.DROPPED)
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
    # A person takes an end back; of nothing else does anything follow an end.
    **{(state, Event.REQUEUE): State.QUEUED for state in TAKEN_BACK},
}
UNDER_WAY: Final = (State.ASSIGNED, State.ACTIVE)
FINAL: Final = frozenset(State) - {s for s, event in TRANSITIONS if event is not Event.REQUEUE}


def after(state: State, event: Event) -> State:
    """Return the state that follows, or raise ``IllegalTransition``."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None
