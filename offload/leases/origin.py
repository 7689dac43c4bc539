"""
The origin's rules: what becomes of an own job by a message about (job, attempt), or by time.

Each function takes the job as the store has it inside the transaction, and returns what to keep
(None: nothing changes) beside what to answer, if there is an answer. OUTCOME is not here: what
comes from afar obeys the same rule as what ran here, ``jobs.conclude``.
"""

from enum import StrEnum
from typing import Final

from offload.work.jobs import (
    UNDER_WAY,
    Delivery,
    Event,
    Job,
    Outcome,
    Result,
    RetryRule,
    State,
    after,
    decide,
    ended,
    given_back,
    queued_again,
    stopped,
    time_over,
)

LOST_FUTURE: Final = 1000  # attempts that a restored backup may be behind


class Verdict(StrEnum):
    """The answer to one line of a HOLDING."""

    OK = "ok"
    STALE = "stale"
    CANCEL = "cancel"
    DROP = "drop"
    UNKNOWN = "unknown"


def assign(job: Job, worker: str) -> Job:
    """Give ``job`` to ``worker`` as a new attempt; the number is the fencing token."""
    return job.but(
        state=after(job.state, Event.ASSIGN),
        attempt=job.attempt + 1,
        worker=worker,
        given=_given(job, worker),
        not_before=0.0,
        reason="",
    )


def begun(job: Job, worker: str, now: float, wall: float) -> Job:
    """Give ``job`` to ``worker``, which is about to call its consumer: ``assign``, ``started``."""
    return job.but(
        state=after(after(job.state, Event.ASSIGN), Event.START),
        attempt=job.attempt + 1,
        worker=worker,
        given=_given(job, worker),
        not_before=0.0,
        reason="",
        started_at=now,
        started_wall=wall,
    )


def _given(job: Job, worker: str) -> tuple[tuple[int, str], ...]:
    """Return who was given which attempt, with a new one of ``worker``."""
    new = (job.attempt + 1, worker)
    return (*(pair for pair in job.given if pair[0] >= job.fence), new) if job.given else (new,)


def second_run(job: Job, worker: str, now: float) -> Job | None:
    """
    Give a job that runs to ``worker`` too; None if it must not, or not any more.

    The fence stays: the first success of either attempt counts. A failure counts only of this new
    one, as of any latest attempt, and ends the other (DESIGN §5, OUTCOME).
    """
    may = job.idempotent and job.delivery is Delivery.AT_LEAST_ONCE and not job.stopping
    given = [who for attempt, who in job.given if attempt >= job.fence]
    if not may or job.state is not State.ACTIVE or job.placing or len(given) != 1:
        return None
    if worker in given:
        return None
    reason = "a second run of it was begun: the first takes long"
    return assign(queued_again(job, now, 0.0), worker)._replace(reason=reason)


def started(job: Job, now: float, wall: float) -> Job:
    """Note that the consumer of the current attempt is about to be called."""
    if job.state is not State.ASSIGNED:
        return job
    return job._replace(state=State.ACTIVE, started_at=now, started_wall=wall, reason="")


def is_current(job: Job, worker: str, attempt: int) -> bool:
    """Say whether ``attempt`` of ``worker`` is the one under way."""
    return job.state in UNDER_WAY and job.attempt == attempt and job.worker == worker


def refused(job: Job, worker: str, attempt: int, reason: str, now: float) -> Job | None:
    """REFUSED: back in line at no cost. It frees an at-most-once job too."""
    return given_back(job, worker, attempt, reason, now)


def holding(job: Job | None, worker: str, attempt: int) -> Verdict:
    """HOLDING: may the worker go on with this attempt?"""
    if job is None:
        return Verdict.UNKNOWN
    if job.finished or job.placing:
        return Verdict.DROP
    if job.stopping:
        return Verdict.CANCEL
    if is_current(job, worker, attempt):
        return Verdict.OK
    return Verdict.DROP if attempt < job.fence else Verdict.STALE


def adopted(job: Job, worker: str, attempt: int) -> Job | None:
    """
    HOLDING of an attempt that we do not know: ours is a restored backup (rule 9).

    A job that waits here is what the worker holds: the attempt is adopted, and its outcome will
    count. A number too far ahead is none that we can have given.
    """
    if job.state is not State.QUEUED or not 0 < attempt - job.attempt <= LOST_FUTURE:
        return None
    return assign(job._replace(attempt=attempt - 1), worker)._replace(reason="adopted")


def stop(job: Job, now: float) -> Job | None:
    """
    Stop ``job``: raise the fence above the attempt, so that no outcome of it can be applied.

    None if it is too late: it is finished, or its output files are being put in place.
    """
    return stopped(job, now, "stopped by a person")


def overdue(job: Job, now: float) -> Job | None:
    """Stop a job whose time is over, so that it expires; None if there is nothing to stop."""
    why = time_over(job, now)
    kept = stop(job._replace(overdue=True), now) if why and not job.stopping else None
    return None if kept is None else kept._replace(reason=why)


def cancelled(job: Job, worker: str, attempt: int, now: float) -> Job | None:
    """CANCELLED: the worker has let go of it for good."""
    if not job.stopping or job.worker != worker or attempt < job.attempt:
        return None
    return ended(job, Event.STOP, now)


def died(job: Job, worker: str, attempt: int, rule: RetryRule, now: float) -> Job | None:
    """HOLDING with ``died``: it was STARTED in an earlier boot of the worker, which crashed."""
    if not is_current(job, worker, attempt) or job.placing:
        return None
    if job.stopping:
        return ended(job, Event.STOP, now)
    if job.delivery is Delivery.AT_MOST_ONCE:
        return lost(job, now)
    crash = Outcome(Result.CRASHED, reason="the instance that ran it crashed")
    return decide(job, crash, rule, now)


def gone(
    job: Job, worker: str, rule: RetryRule, now: float, why: str, *, crashed: bool = True
) -> Job | None:
    """
    The worker is *confirmed* gone (rule 6): at-least-once jobs move at once.

    One that went cleanly has not ``crashed``: its job is not to blame. Exclusive ones wait for
    their lease; at-most-once ones may have run: ``lapsed`` decides.
    """
    if job.state not in UNDER_WAY or job.worker != worker or job.placing:
        return None
    if job.delivery is not Delivery.AT_LEAST_ONCE:
        return None
    if job.stopping:
        return ended(job, Event.STOP, now)
    if crashed and job.state is State.ACTIVE:
        crashes = job.crashes + 1
        job = job._replace(crashes=crashes, reason=why)
        if crashes >= rule.max_crashes:
            return ended(job, Event.GIVE_UP, now)._replace(fence=job.attempt + 1)
    return queued_again(job, now, 0.0)._replace(reason=why)


def lapsed(job: Job, attempt: int, rule: RetryRule, now: float) -> Job | None:
    """
    The lease of ``attempt`` is over, unexplained: the network is to blame, not the job.

    An at-least-once job moves, and its old attempt may still bring a success home; an exclusive
    one moves with the old attempt fenced off; an at-most-once one stays, unreachable.
    """
    if job.state not in UNDER_WAY or job.attempt != attempt or job.placing:
        return None
    if job.stopping:
        return ended(job, Event.STOP, now)
    if job.delivery is Delivery.AT_MOST_ONCE:
        return None
    lapses = job.lapses + 1
    fence = attempt + 1 if job.delivery is Delivery.EXCLUSIVE else job.fence
    job = job._replace(lapses=lapses, fence=fence, reason="its worker fell silent")
    if lapses >= rule.max_lapses:
        job = job._replace(reason="no worker kept it")
        return ended(job, Event.GIVE_UP, now)
    return queued_again(job, now, rule.delay_s(lapses))


def lost(job: Job, now: float) -> Job:
    """An at-most-once job whose fate stays unknown."""
    return ended(job, Event.LOSE, now)._replace(reason="its worker is gone; it may have run")


def restarted(job: Job, own_id: str, rule: RetryRule, now: float) -> Job | None:
    """
    Our own start: what ran here ended with the former boot.

    What runs elsewhere goes on, and is given a full lease and grace by the caller (rule 3).
    """
    if job.state not in UNDER_WAY or job.worker != own_id or job.placing:
        return None
    if job.stopping:
        return ended(job, Event.STOP, now)
    if job.state is State.ASSIGNED:
        return queued_again(job, now, 0.0)
    if job.delivery is Delivery.AT_MOST_ONCE:
        return lost(job, now)
    crash = Outcome(Result.CRASHED, reason="the instance stopped while it ran")
    return decide(job, crash, rule, now)
