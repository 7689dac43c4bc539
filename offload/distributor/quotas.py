"""What one origin may have here at once, and how often it may come."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from offload.buckets import Buckets
from offload.distributor.bounds import Bounds
from offload.sizes import size_text
from offload.work.jobs import Spec

Present = Callable[[str], tuple[int, int]]


class Quotas:
    """
    The limits per origin, as far as there are any.

    Args:
        bounds: The bounds as they are now.
        present: How many jobs of an origin are here that are not done, and how many bytes the
            files of all its jobs take that are here.
    """

    def __init__(self, bounds: Callable[[], Bounds], present: Present) -> None:
        self._bounds = bounds
        self._present = present
        self._jobs: Counter[str] = Counter()  # offers that are being answered, by origin
        self._bytes: Counter[str] = Counter()
        self._rate: tuple[int, float] | None = None
        self._starts: Buckets[str] = Buckets(1.0, 1.0)

    @contextmanager
    def arriving(self, origin: str, now: float) -> Iterator[Callable[[Spec], str]]:
        """
        Judge a batch of offers.

        What is yielded says why one more job of ``origin`` is one too many, "" if it is not; then
        it counts until the batch is on the shelf.
        """
        bounds = self._bounds()
        limited = bounds.origin_held or bounds.origin_disk_bytes or bounds.origin_rate
        jobs, used = self._present(origin) if limited else (0, 0)
        taken = taken_bytes = 0

        def judge(spec: Spec) -> str:
            nonlocal taken, taken_bytes
            if not limited:
                return ""
            size = sum(size for _, size in spec.inputs())
            refusal = (
                self._too_many(bounds, jobs + self._jobs[origin])
                or self._too_much(bounds, used + self._bytes[origin], size)
                or self._too_often(bounds, origin, now)
            )
            if not refusal:
                taken, taken_bytes = taken + 1, taken_bytes + size
                self._jobs[origin] += 1
                self._bytes[origin] += size
            return refusal

        try:
            yield judge
        finally:
            self._jobs[origin] -= taken
            self._bytes[origin] -= taken_bytes
            if not self._jobs[origin]:
                del self._jobs[origin], self._bytes[origin]

    def _too_many(self, bounds: Bounds, jobs: int) -> str:
        if not bounds.origin_held or jobs < bounds.origin_held:
            return ""
        return f"it holds {bounds.origin_held} jobs of one origin at most (its limits.origin_held)"

    def _too_much(self, bounds: Bounds, used: int, size: int) -> str:
        if not bounds.origin_disk_bytes or used + size <= bounds.origin_disk_bytes:
            return ""
        most = size_text(bounds.origin_disk_bytes)
        return f"it keeps {most} of files of one origin at most (its limits.origin_disk)"

    def _too_often(self, bounds: Bounds, origin: str, now: float) -> str:
        rate = bounds.origin_rate
        if rate != self._rate:
            self._rate = rate
            self._starts = Buckets(rate[0] / rate[1], rate[0]) if rate else Buckets(1.0, 1.0)
        if rate is None or self._starts.draw(origin, now):
            return ""
        return f"it takes {rate[0]} jobs of one origin in {rate[1]:g} s (its limits.origin_rate)"
