"""What becomes of an own attempt that was ended, or not begun, because this instance wants so."""

from typing import Final

from offload.work.jobs import Delivery, Job, Outcome, Result, given_back
from offload.work.store import Step

HANDED_BACK: Final = "handed back: the instance was shut down"


def taken_back(begun: Job, reason: str, now: float, job: Job) -> Step[None]:
    """Take back an attempt that had a place in line only; it counts as one that never started."""
    kept = given_back(job, begun.worker, begun.attempt, reason, now)
    if kept is not None and not (job.failures or job.crashes or job.lapses):
        kept = kept._replace(started_at=0.0, started_wall=0.0)
    return Step(None, keep=kept)


def returned(outcome: Outcome, job: Job, taken_off: str, *, handing_back: bool) -> Outcome:
    """Return ``outcome``, or, of one that was ended to go back, that it is free to go elsewhere."""
    if outcome.result is not Result.STOPPED:
        return outcome
    if handing_back and job.delivery is Delivery.AT_MOST_ONCE:
        reason = "the instance was shut down while it ran"
        return Outcome(Result.CRASHED, reason=reason, run_s=outcome.run_s)
    if not (handing_back or taken_off):
        return outcome
    reason = HANDED_BACK if handing_back else f"handed back: {taken_off}"
    return Outcome(Result.REFUSED, reason=reason, run_s=outcome.run_s)
