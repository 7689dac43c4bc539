"""
Leases, as both sides see them: in memory only, in monotonic seconds, never compared (rule 5).

The worker may run exclusive work for one lease from the moment it *sent* the HOLDING that was
answered ``ok``, by its own clock; the origin waits a little longer, from the moment it answered.
How long a lease is, the origin says with the job (``Spec.lease_s``), so that both mean the same.
"""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

DRIFT: Final = 0.02
GRACE_S: Final = 3.0


def watch_s(lease_s: float) -> float:
    """Return how long the origin waits for a sign before it calls a lease over."""
    return lease_s * (1 + DRIFT) + GRACE_S


class WatchedTerms:
    """The origin's side: until when each attempt under way is believed in."""

    def __init__(self) -> None:
        self._until: dict[str, tuple[int, float]] = {}

    def renew(self, job_id: str, attempt: int, now: float, lease_s: float) -> None:
        """Believe in ``attempt`` for a whole lease and grace from now."""
        self._until[job_id] = attempt, now + watch_s(lease_s)

    def forget(self, job_id: str) -> None:
        """Stop watching; harmless if it was not watched."""
        self._until.pop(job_id, None)

    def over(self, now: float) -> list[tuple[str, int]]:
        """Return the ``(job id, attempt)`` whose lease is over."""
        return [(job_id, n) for job_id, (n, until) in self._until.items() if now > until]


class GrantedTerms(Generic[K]):
    """The worker's side: until when each held job may run."""

    def __init__(self) -> None:
        self._until: dict[K, float] = {}

    def grant(self, key: K, sent_at: float, lease_s: float) -> None:
        """Allow a lease from ``sent_at``, when the question that was answered was sent."""
        self._until[key] = max(self._until.get(key, 0.0), sent_at + lease_s)

    def holds(self, key: K, now: float) -> bool:
        """Say whether ``key`` may run now."""
        return self._until.get(key, -1.0) > now

    def until(self, key: K) -> float:
        """Return until when ``key`` may run; in the past, if it may not."""
        return self._until.get(key, -1.0)

    def forget(self, key: K) -> None:
        """End the allowance; harmless if there is none."""
        self._until.pop(key, None)

    def over(self, now: float) -> list[K]:
        """Return the keys whose lease is over."""
        return [key for key, until in self._until.items() if until <= now]
