"""What becomes of own jobs under way: rules put to the job inside the store's transaction."""

from collections.abc import Callable
from typing import Final

from offload.distributor.wire import Line
from offload.leases import origin
from offload.leases.origin import Verdict
from offload.peers.topology import Gone
from offload.work.jobs import Attempt, Job, Result, RetryRule, State
from offload.work.store import Step

UNREACHABLE: Final = "unreachable: its worker fell silent"


class Rulings:
    """
    The rules of ``leases.origin``, with the line of the job's history that goes with each.

    Args:
        own_id: Who we are.
        retry_of: When failed jobs of a topic run again.
        lost_after_s: How long an at-most-once job waits for its worker.
        wall: The time of day.
    """

    def __init__(
        self,
        own_id: str,
        retry_of: Callable[[str], RetryRule],
        lost_after_s: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._own_id = own_id
        self._retry_of = retry_of
        self._lost_after_s = lost_after_s
        self._wall = wall

    def restarted(self, now: float, job: Job) -> Step[None]:
        """Our own start, and it ran here."""
        rule = self._retry_of(job.topic)
        return self._ended(job, origin.restarted(job, self._own_id, rule, now), Result.CRASHED)

    def refused(
        self, peer: str, attempt: int, reason: str, now: float, job: Job
    ) -> Step[tuple[Job, str] | None]:
        """A worker gives it back."""
        kept = origin.refused(job, peer, attempt, reason, now)
        if kept is None:
            return Step(None)
        line = self._line(job, Result.REFUSED, reason)
        return Step((job, reason), keep=kept, attempt=line)

    def lapsed(self, attempt: int, silent_s: float, now: float, job: Job) -> Step[None]:
        """Its lease is over; nobody has heard of the worker for ``silent_s``."""
        kept = origin.lapsed(job, attempt, self._retry_of(job.topic), now)
        if kept is not None or not origin.is_current(job, job.worker, attempt) or job.placing:
            return self._ended(job, kept, Result.UNREACHABLE)
        if silent_s >= self._lost_after_s():  # at most once: it waits that long for its worker
            return self._ended(job, origin.lost(job, now), Result.UNREACHABLE)
        kept = job._replace(reason=UNREACHABLE)
        return Step(None, keep=None if kept == job else kept)

    def left(self, fact: Gone, now: float, job: Job) -> Step[None]:
        """Its worker is confirmed gone."""
        why, rule = f"its worker is gone: {fact.reason}", self._retry_of(job.topic)
        kept = origin.gone(job, fact.id, rule, now, why, crashed=not fact.cleanly)
        return self._ended(job, kept, Result.UNREACHABLE)

    def forgotten(self, peer: str, now: float, job: Job) -> Step[None]:
        """Its worker has come back, and knows nothing of it."""
        why, rule = "its worker came back without it", self._retry_of(job.topic)
        return self._ended(job, origin.gone(job, peer, rule, now, why), Result.UNREACHABLE)

    def held(
        self, peer: str, line: Line, now: float, wall: float, stored: Job
    ) -> Step[tuple[Verdict, Job | None]]:
        """A worker says that it holds it; answer whether it may go on."""
        job = origin.adopted(stored, peer, line.attempt) or stored
        verdict = origin.holding(job, peer, line.attempt)
        if verdict is not Verdict.OK:
            return Step((verdict, None))
        if line.died:
            kept = origin.died(job, peer, line.attempt, self._retry_of(job.topic), now)
            crash = self._line(job, Result.CRASHED, "the instance that ran it crashed")
            return Step((Verdict.DROP, None), keep=kept, attempt=crash)
        kept = origin.started(job, now, wall) if line.phase != "have" else job
        return Step((verdict, kept), keep=None if kept is stored else kept)

    # --- inside ----------------------------------------------------------------------------

    def _ended(self, job: Job, kept: Job | None, result: Result) -> Step[None]:
        if kept is None:
            return Step(None)
        return Step(None, keep=kept, attempt=self._line(job, result, kept.reason))

    def _line(self, job: Job, result: Result, reason: str) -> Attempt:
        # Who could say how long it ran is gone or silent, or says only that it gives it back.
        never_began = result is Result.REFUSED and job.state is State.ASSIGNED
        run_s = 0.0 if never_began else None
        return Attempt(job.attempt, job.worker, result, reason, self._wall(), run_s)
