"""What a queue rules: how many run at once, who is next, when a failed one runs again. Pure."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice, zip_longest
from typing import Final, Generic, NamedTuple, TypeVar

from tenacity import RetryCallState, Retrying
from tenacity.wait import wait_base, wait_exponential, wait_fixed, wait_random

from offload.work.jobs import Job, RetryRule

K = TypeVar("K", bound=Hashable)
PACES_KEPT: Final = 10_000
TINY: Final = 1e-9  # ten tenths of a processor are one
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


class Stock(Generic[K]):
    """
    The resources of one instance, and who has taken how much of which.

    Attributes:
        totals: How much there is, by name.
    """

    def __init__(self, totals: Mapping[str, float]) -> None:
        self.totals = dict(totals)
        self._taken: dict[K, Mapping[str, float]] = {}

    def never(self, needs: Mapping[str, float]) -> str:
        """Say why ``needs`` cannot be met here, whoever leaves; "" if they can."""
        for name, amount in needs.items():
            there = self.totals.get(name, 0.0)
            if there < amount:
                return f"has only {there:g} {name} (needed: {amount:g})"
        return ""

    def taken(self) -> dict[str, float]:
        """Return how much is taken, by name."""
        sums: dict[str, float] = {}
        for needs in self._taken.values():
            for name, amount in needs.items():
                sums[name] = sums.get(name, 0.0) + amount
        return sums

    def short(self, needs: Mapping[str, float]) -> set[str]:
        """Return the names of those of which less is free now than ``needs`` asks for."""
        taken = self.taken()
        return {
            name
            for name, amount in needs.items()
            if self.totals.get(name, 0.0) - taken.get(name, 0.0) < amount - TINY
        }

    def take(self, key: K, needs: Mapping[str, float]) -> None:
        """Give ``key`` what it needs."""
        if needs:
            self._taken[key] = needs

    def has(self, key: K) -> bool:
        """Say whether ``key`` has taken what it needs."""
        return key in self._taken

    def give_back(self, key: K) -> bool:
        """Take back what ``key`` has; say whether it had anything."""
        return self._taken.pop(key, None) is not None


class _Waiting(NamedTuple, Generic[K]):
    """Somebody in a line."""

    key: K
    begin: Callable[[], None]
    needs: Mapping[str, float]


class Line(Generic[K]):
    """
    The places of one queue: who runs, and who was promised the next free one.

    Those who wait are served in turn by whom they belong to, so that no origin crowds out another.
    Who needs a resource that is taken is passed by those who do not; but nothing of what one waits
    for goes to a later one.

    Args:
        stock: The resources of the instance, which all lines share.
    """

    def __init__(self, stock: Stock[K] | None = None) -> None:
        self.running: set[K] = set()
        self._stock: Stock[K] = stock or Stock({})
        self._waiting: dict[str, deque[_Waiting[K]]] = {}

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(map(len, self._waiting.values()))

    def enter(
        self,
        key: K,
        owner: str,
        begin: Callable[[], None],
        places: int,
        needs: Mapping[str, float] | None = None,
    ) -> None:
        """
        Call ``begin`` when ``key`` has a place and what it needs: now, or later.

        There is a place if fewer than ``places`` run.
        """
        full = self._waiting or len(self.running) >= places
        if full or (needs and self._stock.short(needs)):
            self._waiting.setdefault(owner, deque()).append(_Waiting(key, begin, needs or {}))
            self.let_in(places)
        else:
            self._let_in(key, begin, needs or {})

    def leave(self, key: K) -> bool:
        """
        Free the place of ``key``, or its turn; ``let_in`` is to follow.

        Returns:
            Whether it had a resource, for which others may wait in other lines.
        """
        if key not in self.running:
            self.withdraw(key)
        self.running.discard(key)
        return self._stock.give_back(key)

    def let_in(self, places: int) -> None:
        """Begin with those who wait, as long as fewer than ``places`` run."""
        while self._waiting and len(self.running) < places:
            found = self._next()
            if found is None:
                return
            owner, index = found
            turn = self._waiting.pop(owner)
            following = turn[index]
            del turn[index]
            if turn:
                self._waiting[owner] = turn  # to the end of the round
            self._let_in(*following)

    def _let_in(self, key: K, begin: Callable[[], None], needs: Mapping[str, float]) -> None:
        self.running.add(key)
        self._stock.take(key, needs)
        begin()

    def _next(self) -> tuple[str, int] | None:
        """Return whose turn it is, and which of theirs has what it needs."""
        wanted: set[str] = set()  # what an earlier one waits for
        for owner, turn in self._waiting.items():
            for index, one in enumerate(turn):
                short = self._stock.short(one.needs) if one.needs else set()
                if not short and wanted.isdisjoint(one.needs):
                    return owner, index
                wanted |= short
        return None

    def coming(self, count: int) -> list[K]:
        """Return who comes next, as far as that depends on places alone: ``count`` at most."""
        turns = zip_longest(*self._waiting.values())
        found = (one for turn in turns for one in turn if one is not None)
        return [one.key for one in islice(found, count) if not one.needs]

    def withdraw(self, key: K) -> tuple[str, Callable[[], None], Mapping[str, float]] | None:
        """Take ``key`` out of its turn; return its owner, what begins it and its needs, or None."""
        for owner, turn in self._waiting.items():
            found = next((one for one in turn if one.key == key), None)
            if found is not None:
                turn.remove(found)
                if not turn:
                    del self._waiting[owner]
                return owner, found.begin, found.needs
        return None
