"""
What becomes of the own jobs of an instance whose machine is dead, at the one that takes them over.

Workers that still have an attempt of one can bring its outcome to nobody: their origin was the dead
instance. So what may run twice runs again, what may never run at two places waits until every
lease is over, and what may never start twice is lost if it was given to anybody.
"""

from offload.work.jobs import UNDER_WAY, Delivery, Event, Job, ended, queued_again

UNKNOWN_FATE = "it was under way when its instance died; it may have run"


def taken_over(job: Job, now: float, wall: float, lease_over_s: float) -> Job:
    """
    Return ``job`` as it is at the instance that takes it over; it must not have ended.

    Args:
        job: As the dead instance kept it, with moments by its own steady clock.
        now: Our steady time.
        wall: Our wall clock, the only one that both have.
        lease_over_s: After that, no lease that the dead instance gave can still hold.
    """
    job = _moved(job, now - wall + job.created_wall - job.created_at)
    job = job._replace(seq=0, fence=job.attempt + 1, given=(), placing=0, behind=False)
    if job.stopping:
        return ended(job, Event.STOP, now)
    if job.state not in UNDER_WAY:
        return job
    if job.delivery is Delivery.AT_MOST_ONCE:
        return ended(job, Event.LOSE, now)._replace(reason=UNKNOWN_FATE)
    wait_s = lease_over_s if job.delivery is Delivery.EXCLUSIVE else 0.0
    return queued_again(job, now, wait_s)._replace(reason="its instance died; adopted")


def _moved(job: Job, shift_s: float) -> Job:
    """Return ``job`` with all moments by another steady clock."""
    names = ("created_at", "started_at", "not_before", "waits_since", "expires_at", "deadline_at")
    moments = {name: at + shift_s for name in names if (at := getattr(job, name))}
    return job._replace(**moments)
