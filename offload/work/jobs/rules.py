"""What becomes of a job by an outcome. Pure: ``now`` is an argument."""

from typing import Any, Final

from offload.work.jobs.properties import merged
from offload.work.jobs.records import Job, RetryRule
from offload.work.jobs.states import (
    TAKEN_BACK,
    UNDER_WAY,
    Delivery,
    Event,
    Result,
    State,
    after,
)
from offload.work.jobs.work import Outcome

AGEING_S: Final = 600.0  # of waiting, which count as much as one step of priority


def decide(job: Job, outcome: Outcome, rule: RetryRule, now: float) -> Job:
    """
    Return what becomes of ``job`` after ``outcome``: success, another try later, or an end.

    The attempt is over: what follows of it is fenced off (DESIGN §5, OUTCOME).
    """
    kept = merged(job.properties, outcome.properties)
    over: dict[str, Any] = {
        "fence": job.attempt + 1,
        "reason": outcome.reason,
        "properties": kept,
    }
    if outcome.result is Result.SUCCEEDED:
        return ended(job, Event.SUCCEED, now, **over)
    job = job._replace(**over)
    if outcome.result is Result.REFUSED:  # by who has it already: not at once again
        return queued_again(job, now, rule.delay_s(1))
    match outcome.result:
        case Result.STOPPED:
            return ended(job, Event.STOP, now)
        case Result.FAILED if outcome.final:
            return ended(job, Event.FAIL, now)
        case _ if job.delivery is Delivery.AT_MOST_ONCE:
            return ended(job, Event.GIVE_UP, now)
        case Result.UNREACHABLE:
            return queued_again(job, now, 0.0)
        case Result.FAILED | Result.TIMED_OUT:
            return _failed(job, outcome.retry_after_s, rule, now)
        case Result.CRASHED:
            job = job._replace(crashes=job.crashes + 1)
            if job.crashes >= rule.max_crashes:
                return ended(job, Event.GIVE_UP, now)
            return queued_again(job, now, rule.delay_s(job.crashes))


def _failed(job: Job, retry_after_s: float | None, rule: RetryRule, now: float) -> Job:
    job = job._replace(failures=job.failures + 1)
    retries = rule.retries if job.retries is None else job.retries
    if 0 <= retries < job.failures:
        return ended(job, Event.GIVE_UP, now)
    own_s = job.retry_delay_s if retry_after_s is None else retry_after_s
    return queued_again(job, now, rule.delay_s(job.failures) if own_s is None else own_s)


def came(job: Job | None, sender: str, attempt: int, outcome: Outcome) -> bool:
    """
    Say whether an outcome counts (DESIGN §5, OUTCOME); what does not, changes nothing.

    A final outcome (success, "never again") counts from any attempt at or above the fence of a
    job that is not finished; a failed attempt only if it is the current one. Each only from the
    instance that the attempt was given to.
    """
    if job is None or job.finished or job.placing or attempt < job.fence:
        return False
    if (attempt, sender) not in job.given:
        return False
    return outcome.conclusive or (attempt == job.attempt and job.worker == sender)


def came_late(job: Job | None, sender: str, attempt: int) -> bool:
    """Say whether this is what came of an attempt whose job was given up as LOST meanwhile."""
    return job is not None and job.state is State.LOST and (attempt, sender) in job.given


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
    return job._replace(state=state, worker="", not_before=now + delay_s if delay_s > 0 else 0.0)


def given_back(job: Job, worker: str, attempt: int, reason: str, now: float) -> Job | None:
    """
    Return a job whose attempt was not begun, back in line at no cost; an at-most-once one too.

    None if that attempt is not under way any more.
    """
    current = job.state in UNDER_WAY and (job.worker, job.attempt) == (worker, attempt)
    if not current or job.placing:
        return None
    if job.stopping:
        return ended(job, Event.STOP, now)
    return queued_again(job, now, 0.0)._replace(fence=attempt + 1, reason=reason)


def requeued(job: Job, now: float) -> Job | str:
    """
    Return ``job`` as a person lets it go again now, or why that cannot be.

    Of one that had ended, failures, crashes and time limits are forgotten; late outcomes of its
    former attempts are fenced off.
    """
    if job.state is State.QUEUED:
        if job.not_before <= now:
            return f"job {job.id} waits for nothing but a place to run"
        return job._replace(not_before=0.0, run_at=0.0)
    if job.state not in TAKEN_BACK:
        return f"job {job.id} is {job.state}; only one that failed or waits can go again"
    if job.delivery is Delivery.AT_MOST_ONCE and job.attempt:
        return f"job {job.id} must not be started twice; a retry makes a new one"
    return job._replace(
        state=after(job.state, Event.REQUEUE),
        fence=job.attempt + 1,
        given=(),
        worker="",
        failures=0,
        crashes=0,
        lapses=0,
        not_before=0.0,
        run_at=0.0,
        expires_at=0.0,
        deadline_at=0.0,
        overdue=False,
        behind=bool(job.lane),  # the store lets the first of its lane to the front
        waits_since=now,
        started_at=0.0,
        started_wall=0.0,
        finished_at=0.0,
        finished_wall=0.0,
        reason="",
    )


def ended(job: Job, event: Event, now: float, **more: Any) -> Job:
    """Return ``job``, with ``more``, as ``event`` ends it; one that is overdue expires."""
    if event is Event.STOP and job.overdue:
        event = Event.EXPIRE
    state = after(job.state, event)
    return job.but(state=state, stopping=False, finished_at=now, **more)


def due(job: Job, now: float) -> bool:
    """Say whether ``job`` waits for nothing but a place to run."""
    waits = job.state is State.QUEUED and job.not_before <= now and not job.behind
    return waits and not time_over(job, now)


def stopped(job: Job, now: float, why: str) -> Job | None:
    """
    Stop ``job``: raise the fence above the attempt, so that no outcome of it can be applied.

    None if it is too late: it is finished, or its output files are being put in place.
    """
    if job.finished or job.placing:
        return None
    job = job._replace(fence=job.attempt + 1, reason=why)
    if job.state is State.QUEUED:
        return ended(job, Event.STOP, now)
    return job._replace(stopping=True)


def time_over(job: Job, now: float) -> str:
    """Return by which of its limits the time of ``job`` is over, or ""."""
    if 0 < job.deadline_at <= now:
        return "not finished by its deadline"
    idle = job.state is not State.ACTIVE and not job.started_at
    return "not started in time" if idle and 0 < job.expires_at <= now else ""


def limits_of(job: Job) -> list[float]:
    """Return when the time of ``job`` will be over."""
    return [at for at in (job.expires_at, job.deadline_at) if at]


def moved(job: Job, now: float, offset_s: float) -> Job | None:
    """
    Return a job that waits for a time of the wall clock as it waits now; None: as before.

    ``offset_s`` is how far the wall clock is ahead of the steady one.
    """
    if job.state is not State.QUEUED or not job.run_at or job.attempt:
        return None
    at = max(now, job.run_at - offset_s)
    return None if at == job.not_before else job._replace(not_before=at, waits_since=at)


def turn(job: Job) -> tuple[float, int]:
    """
    Return what jobs that wait are sorted by, the first to run first.

    Waiting raises a job as a higher priority does, so that none starves; since all that wait grow
    older alike, the order of two of them never changes.
    """
    return job.waits_since - AGEING_S * job.priority, job.seq
