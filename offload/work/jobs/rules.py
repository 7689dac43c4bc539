"""What becomes of a job by an outcome. Pure: ``now`` is an argument."""

from dataclasses import replace

from offload.work.jobs.records import Job, RetryRule
from offload.work.jobs.states import UNDER_WAY, Delivery, Event, Result, State, after
from offload.work.jobs.work import Outcome


def decide(job: Job, outcome: Outcome, rule: RetryRule, now: float) -> Job:
    """
    Return what becomes of ``job`` after ``outcome``: success, another try later, or an end.

    The attempt is over: what follows of it is fenced off (DESIGN §5, OUTCOME).
    """
    job = replace(job, fence=job.attempt + 1, reason=outcome.reason)
    if outcome.result is Result.REFUSED:  # by who has it already: not at once again
        return queued_again(job, now, rule.delay_s(1))
    match outcome.result:
        case Result.SUCCEEDED:
            return ended(job, Event.SUCCEED, now)
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
            job = replace(job, crashes=job.crashes + 1)
            if job.crashes >= rule.max_crashes:
                return ended(job, Event.GIVE_UP, now)
            return queued_again(job, now, rule.delay_s(job.crashes))


def _failed(job: Job, retry_after_s: float | None, rule: RetryRule, now: float) -> Job:
    job = replace(job, failures=job.failures + 1)
    retries = rule.retries if job.retries is None else job.retries
    if 0 <= retries < job.failures:
        return ended(job, Event.GIVE_UP, now)
    delay_s = rule.delay_s(job.failures) if retry_after_s is None else retry_after_s
    return queued_again(job, now, delay_s)


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
