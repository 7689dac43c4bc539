"""What is remembered of own jobs under way at peers, and what they take there."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from offload.work.jobs import Delivery, Job, read_demands

OFFER_AGAIN_S: Final = 1.0
TINY: Final = 1e-9
Life = tuple[str, int]  # store id and boot of an instance
Item = tuple[float, str, str]  # of news: wall time, kind, text
NOBODY: Final = ("", 0)


@dataclass(slots=True)
class Flight:
    """One own job under way at ``worker``, taking a place in its ``queue``."""

    worker: str
    attempt: int
    queue: str
    lease_s: float
    told: bool = False  # the worker has answered …
    life: Life = NOBODY  # … in this life of it
    again_at: float = 0.0  # when to say it once more: OFFER, or CANCEL
    pause_s: float = OFFER_AGAIN_S
    stopping: bool = False
    hurried: bool = False  # because its time is over: it may take no more of it
    silent_since: float | None = None
    needs: Mapping[str, float] = field(default_factory=dict)
    kind: tuple[str, bool] = ("", False)  # its topic; exclusive work?
    heard: int = 0  # the number of the last of its news

    def fresh(self, first: int, items: list[Item], oldest: int = 0) -> list[Item]:
        """
        Return which of these news, numbered from ``first`` (0: not at all), are new here.

        None are, if some before them did not come yet that the worker still has, from number
        ``oldest`` on (0: it does not say): it tells all of them again, in their order.
        """
        if not first:
            return items
        if oldest and first > max(oldest, self.heard + 1):
            return []
        known = max(0, self.heard + 1 - first)
        self.heard = max(self.heard, first + len(items) - 1)
        return items[known:]

    def hears_on(self, attempt: int, number: int) -> None:
        """What is kept of its news ends with this one, if it was of this attempt."""
        if attempt == self.attempt:
            self.heard = max(self.heard, number)


class Flights(dict[str, Flight]):
    """The flights by job id, counted by where they take what."""

    def __init__(self) -> None:
        super().__init__()
        self._load: Counter[tuple[str, str]] = Counter()
        self._needs: dict[str, dict[str, float]] = {}

    def outstanding(self, worker: str, queue: str) -> int:
        """Return how many are under way in that queue of ``worker``."""
        return self._load[worker, queue]

    def needed(self, worker: str) -> Mapping[str, float]:
        """Return what they take of the resources of ``worker``."""
        return self._needs.get(worker, {})

    def take_off(self, job: Job, queue: str, lease_s: float) -> Flight:
        """Remember ``job``, which is on its way to its worker."""
        self.land(job.id)
        needs = read_demands(job.demands).needs
        kind = job.topic, job.delivery is Delivery.EXCLUSIVE
        flight = Flight(
            job.worker, job.attempt, queue, lease_s, stopping=job.stopping, needs=needs, kind=kind
        )
        self[job.id] = flight
        self._load[job.worker, queue] += 1
        self._count_needs(flight, 1)
        return flight

    def land(self, job_id: str) -> bool:
        """Forget the job; say whether it was remembered."""
        flight = self.pop(job_id, None)
        if flight is None:
            return False
        self._load[flight.worker, flight.queue] -= 1
        self._count_needs(flight, -1)
        return True

    def heard(self, worker: str, job_ids: Iterable[str]) -> dict[str, int]:
        """Return up to where the news of these jobs at ``worker`` were heard."""
        flights = ((job_id, self.get(job_id)) for job_id in job_ids)
        return {i: f.heard for i, f in flights if f is not None and f.worker == worker and f.heard}

    def _count_needs(self, flight: Flight, sign: int) -> None:
        for name, amount in flight.needs.items():
            there = self._needs.setdefault(flight.worker, {})
            there[name] = there.get(name, 0.0) + sign * amount
            if there[name] < TINY:
                del there[name]
