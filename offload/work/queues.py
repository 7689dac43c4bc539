"""What a queue rules: how many run at once, who is next, when a failed one runs again. Pure."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import zip_longest
from typing import Final, Generic, TypeVar

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base, wait_exponential, wait_fixed, wait_random

from offload.work.jobs import Job, RetryRule

K = TypeVar("K", bound=Hashable)
PACES_KEPT: Final = 10_000
LONGEST_S: Final = 3_600.0  # a rate per key over longer times may be forgotten in a crowd of keys


class QueueType(StrEnum):
    """In which order a queue's jobs start."""

    UNORDERED = "unordered"  # as they were added, higher priorities first
    ORDERED = "ordered"  # one after the other, strictly as they were added
    TOPIC_ROUND_ROBIN = "topic-round-robin"  # one of each topic in turn


@dataclass(frozen=True, slots=True)
class QueueRule:
    """
    One queue's rules as they are in force.

    Attributes:
        name: The queue's name.
        max_parallel: Jobs that may run at once on this instance; 1 or more.
        retry: When a failed job of this origin runs again.
        type: In which order its jobs start.
        prefer_creator: Its jobs run where they were added, as far as there is room.
        priority: Of jobs that wish none.
        timeout_s: Longest run of one attempt, where neither job nor topic says; None: no limit.
        rate: So many ``(count, seconds)`` of its jobs start in any such time; None: no limit.
        rate_per_key: That counts for each key of the jobs, not for all of them.
    """

    name: str
    max_parallel: int
    retry: RetryRule = field(default_factory=RetryRule)
    type: QueueType = QueueType.UNORDERED
    prefer_creator: bool = False
    priority: int = 0
    timeout_s: float | None = None
    rate: tuple[int, float] | None = None
    rate_per_key: bool = False

    def lane(self, order_by: str) -> str:
        """Return in which lane a job of this queue stands, one after the other; "": in none."""
        if self.type is QueueType.ORDERED:
            return f"queue {self.name}"
        return f"by {order_by}" if order_by else ""


class Paces:
    """When jobs of queues with a rate have started, as far as it matters."""

    def __init__(self) -> None:
        self._starts: dict[tuple[str, str], deque[float]] = {}
        self._full: dict[tuple[str, str], float] = {}  # until when
        self.fresh: list[tuple[str, str, float, float]] = []  # not kept yet; see ``start``

    def allow(self, rule: QueueRule, job: Job, now: float) -> bool:
        """Say whether ``job`` may start now."""
        if rule.rate is None:
            return True
        count, period_s = rule.rate
        pace = _pace(rule, job)
        starts = self._starts.get(pace, deque())
        while starts and starts[0] <= now - period_s:
            starts.popleft()
        if len(starts) < count:
            return True
        self._full[pace] = starts[-count] + period_s
        return False

    def start(self, rule: QueueRule, job: Job, now: float) -> None:
        """Note that ``job`` starts; in ``fresh`` is (queue, key, at, until) what is to be kept."""
        if rule.rate is None:
            return
        pace = _pace(rule, job)
        self._starts.setdefault(pace, deque()).append(now)
        self.fresh.append((*pace, now, now + rule.rate[1]))
        if len(self._starts) > PACES_KEPT:
            over = [pace for pace, starts in self._starts.items() if starts[-1] <= now - LONGEST_S]
            for pace in over or list(self._starts)[: PACES_KEPT // 2]:
                del self._starts[pace]

    def restore(self, kept: Sequence[tuple[str, str, float]]) -> None:
        """Count what had started, ``(queue, key, at)`` in this order, before the present start."""
        for queue, key, at in kept:
            self._starts.setdefault((queue, key), deque()).append(at)

    def next_at(self, now: float) -> float | None:
        """Return when the next of those that were not allowed may start."""
        self._full = {pace: at for pace, at in self._full.items() if at > now}
        return min(self._full.values(), default=None)


def _pace(rule: QueueRule, job: Job) -> tuple[str, str]:
    return rule.name, (job.order_by or job.key) if rule.rate_per_key else ""


def in_turn(pages: Mapping[str, Sequence[Job]], last: str) -> Iterator[Job]:
    """Yield the jobs of several topics, one of each in turn, beginning after the topic ``last``."""
    topics = sorted(pages, key=lambda topic: (topic <= last, topic))
    for jobs in zip_longest(*(pages[topic] for topic in topics)):
        yield from (job for job in jobs if job is not None)


def delays(
    first_s: float, most_s: float, backoff: str, jitter_s: float = 0.0
) -> Callable[[int], float]:
    """
    Return the seconds before the next try, by the number of failures so far (1, 2, …).

    Args:
        first_s: Seconds before the first retry.
        most_s: Where doubling ends.
        backoff: ``fixed``, or ``exponential``: each delay is twice the one before.
        jitter_s: Up to so many more, by chance, so that what failed together is not tried together.
    """
    wait: wait_base = wait_fixed(first_s)
    if backoff == "exponential":
        wait = wait_exponential(multiplier=first_s, max=max(first_s, most_s))
    if jitter_s:
        wait += wait_random(0, jitter_s)

    def delay_s(failures: int) -> float:
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = failures
        return float(wait(state))

    return delay_s


class Line(Generic[K]):
    """
    The places of one queue: who runs, and who was promised the next free one.

    Those who wait are served in turn by whom they belong to, so that no origin crowds out another.
    """

    def __init__(self) -> None:
        self.running: set[K] = set()
        self._waiting: dict[str, deque[tuple[K, Callable[[], None]]]] = {}

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(map(len, self._waiting.values()))

    def enter(self, key: K, owner: str, begin: Callable[[], None], places: int) -> None:
        """Call ``begin`` when ``key`` has a place: now if one of ``places`` is free, or later."""
        self._waiting.setdefault(owner, deque()).append((key, begin))
        self.let_in(places)

    def leave(self, key: K, places: int) -> None:
        """Free the place of ``key``, or its turn, and let the next ones in."""
        if key not in self.running:
            self.withdraw(key)
        self.running.discard(key)
        self.let_in(places)

    def let_in(self, places: int) -> None:
        """Begin with those who wait, as long as fewer than ``places`` run."""
        while self._waiting and len(self.running) < places:
            owner = next(iter(self._waiting))
            turn = self._waiting.pop(owner)
            following, begin = turn.popleft()
            if turn:
                self._waiting[owner] = turn  # to the end of the round
            self.running.add(following)
            begin()

    def withdraw(self, key: K) -> tuple[str, Callable[[], None]] | None:
        """Take ``key`` out of its turn; return who owns it and what begins it, or None."""
        for owner, turn in self._waiting.items():
            found = next((entry for entry in turn if entry[0] == key), None)
            if found is not None:
                turn.remove(found)
                if not turn:
                    del self._waiting[owner]
                return owner, found[1]
        return None
