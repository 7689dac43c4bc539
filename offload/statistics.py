"""
Statistics per queue and topic, of the jobs that were added here.

They are fed from the bus, live in memory, and begin anew with the instance. Each job is counted
once, in the line of its queue and topic; those of a queue, of a topic and of all are summed up when
somebody asks. What waits and runs is asked of the store, so a reset keeps it (CONFORMANCE C040).
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, Final

from offload.clock import Clock
from offload.events import Bus
from offload.moments import iso
from offload.work.jobs import FINAL, HURTS, Job, State
from offload.work.manager import JobAdded, JobBegun, JobChanged
from offload.work.store import Store

Place = tuple[str, str]  # queue and topic
LINES_LIMIT: Final = 1_000  # topics; what comes later shares one line, of its queue or of all
OTHERS: Final = "…"
SAMPLES: Final = 512  # of which the percentiles are
RATE_STEP_S: Final = 5
RATE_STEPS: Final = 12
PERCENTILES: Final = (50, 95, 99)
BACK_LIMIT: Final = (
    10_000  # jobs that came back of which we know when; of others, since when at all
)


class Spread:
    """
    Durations: the average of all, percentiles of the last ``SAMPLES``.

    Each has a number, by which the last ones of several spreads are found.
    """

    __slots__ = ("_count", "_last", "_numbers", "_sum")

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0.0
        self._last, self._numbers = array("d"), array("q")

    @classmethod
    def of(cls, spreads: Sequence["Spread"]) -> "Spread":
        """Return all of ``spreads`` in one, to be read."""
        whole = cls()
        whole._count = sum(each._count for each in spreads)
        whole._sum = sum(each._sum for each in spreads)
        latest = merge(*(each._latest() for each in spreads), reverse=True)
        for number, duration_s in islice(latest, SAMPLES):
            whole._numbers.append(number)
            whole._last.append(duration_s)
        return whole

    def add(self, number: int, duration_s: float) -> None:
        """Take in one more."""
        if self._count < SAMPLES:
            self._numbers.append(number)
            self._last.append(duration_s)
        else:
            at = self._count % SAMPLES
            self._numbers[at], self._last[at] = number, duration_s
        self._count += 1
        self._sum += duration_s

    def _latest(self) -> Iterator[tuple[int, float]]:
        """Yield the last ones with their numbers, the latest first."""
        for place in range(self._count - 1, self._count - len(self._last) - 1, -1):
            yield self._numbers[place % SAMPLES], self._last[place % SAMPLES]

    def as_json(self) -> dict[str, float]:
        """Return average and percentiles (nearest rank) in seconds; 0 if there is none yet."""
        ordered = sorted(self._last)
        ranks = {f"p{p}_s": -(-len(ordered) * p // 100) for p in PERCENTILES}
        return {
            "average_s": self._sum / self._count if self._count else 0.0,
            **{name: ordered[rank - 1] if ordered else 0.0 for name, rank in ranks.items()},
        }


class Rate:
    """How often something happens, over the last minute."""

    __slots__ = ("_at", "_counts", "_since", "_until")

    def __init__(self, since: float) -> None:
        self._since = since
        self._at = int(since // RATE_STEP_S)
        self._until = (self._at + 1) * RATE_STEP_S  # the end of this step
        self._counts = [0] * RATE_STEPS

    @classmethod
    def of(cls, rates: Iterable["Rate"], since: float, now: float) -> "Rate":
        """Return that of all ``rates`` together."""
        whole = cls(since)
        whole._advance(now)
        for each in rates:
            each._advance(now)
            pairs = zip(whole._counts, each._counts, strict=True)
            whole._counts = [ours + theirs for ours, theirs in pairs]
        return whole

    def add(self, now: float) -> None:
        """Count one."""
        if now >= self._until:
            self._advance(now)
        self._counts[self._at % RATE_STEPS] += 1

    def per_s(self, now: float) -> float:
        """Return how many came per second, lately."""
        self._advance(now)
        whole_s = (RATE_STEPS - 1) * RATE_STEP_S + now % RATE_STEP_S
        past_s = max(min(now - self._since, whole_s), 1.0)
        return sum(self._counts) / past_s

    def _advance(self, now: float) -> None:
        at = int(now // RATE_STEP_S)
        for step in range(max(self._at + 1, at - RATE_STEPS + 1), at + 1):
            self._counts[step % RATE_STEPS] = 0
        self._at = max(self._at, at)
        self._until = (self._at + 1) * RATE_STEP_S


class Line:
    """What is counted of some jobs; wall times that never were are 0."""

    __slots__ = (
        "activated",
        "added",
        "adding",
        "ended",
        "ending",
        "failed",
        "finished",
        "running",
        "waiting",
    )

    def __init__(self, since: float) -> None:
        self.added = 0
        self.failed = 0
        self.ended: Counter[State] = Counter()
        self.waiting, self.running = Spread(), Spread()
        self.adding, self.ending = Rate(since), Rate(since)
        self.activated = self.finished = 0.0

    @classmethod
    def of(cls, lines: Iterable["Line"], since: float, now: float) -> "Line":
        """Return the sum of ``lines``, which were begun at ``since``."""
        lines, whole = list(lines), cls(since)
        if len(lines) == 1:
            return lines[0]
        for each in lines:
            whole.added += each.added
            whole.failed += each.failed
            whole.ended.update(each.ended)
            whole.activated = max(whole.activated, each.activated)
            whole.finished = max(whole.finished, each.finished)
        whole.waiting = Spread.of([each.waiting for each in lines])
        whole.running = Spread.of([each.running for each in lines])
        whole.adding = Rate.of((each.adding for each in lines), since, now)
        whole.ending = Rate.of((each.ending for each in lines), since, now)
        return whole

    def as_json(self, now: float, live: Counter[bool]) -> dict[str, Any]:
        """Return it as plain values; ``live``: how many jobs are active, and how many are not."""
        succeeded, ended = self.ended[State.SUCCEEDED], sum(self.ended.values())
        return {
            "queued": live[False],
            "active": live[True],
            "jobs": sum(live.values()),
            "added": self.added,
            "finished": succeeded,
            "failed": self.failed,
            "cancelled": ended - succeeded,
            "processed": ended + self.failed,
            "ended": {state.value: count for state, count in sorted(self.ended.items())},
            "last_activated": iso(self.activated),
            "last_finished": iso(self.finished),
            "waiting": self.waiting.as_json(),
            "processing": self.running.as_json(),
            "added_per_s": self.adding.per_s(now),
            "ended_per_s": self.ending.per_s(now),
        }


class Statistics:
    """Counts what happens to jobs from now on."""

    def __init__(self, bus: Bus, clock: Clock, store: Store) -> None:
        self._clock = clock
        self._store = store
        self.reset()
        bus.listen(JobAdded, self._added)
        bus.listen(JobBegun, self._added)
        bus.listen(JobChanged, self._changed)

    def reset(self) -> None:
        """Begin anew; what waits and runs is still known (C040)."""
        self._since_wall = self._clock.wall()
        self._since = self._clock.now()
        self._lines: dict[Place, Line] = {}
        self._back: dict[str, float] = {}  # jobs that wait once more -> from when they could start
        self._successes = 0

    async def as_json(self) -> dict[str, Any]:
        """
        Return ``{since, total, queues, topics}``.

        Each line has ``queued`` and ``active`` as they are now, and since the last reset
        ``added``, ``finished`` (succeeded), ``failed`` (attempts that are retried), ``cancelled``
        (ended otherwise; ``ended`` says how) and ``processed`` (all three). ``waiting`` and
        ``processing`` count successes only; rates are those of the last minute.
        """
        live = defaultdict[Place, Counter[bool]](Counter)
        for queue, topic, state, count in await self._store.live_counts():
            live[queue, topic][state != State.QUEUED] += count
        sum_up, places = partial(self._sum, live, self._clock.now()), {*live, *self._lines}
        return {
            "since": iso(self._since_wall),
            "total": sum_up(places),
            "queues": {name: sum_up(some) for name, some in _by(0, places).items()},
            "topics": {name: sum_up(some) for name, some in _by(1, places).items()},
        }

    # --- what happens ----------------------------------------------------------------------

    def _added(self, fact: JobAdded | JobBegun) -> None:
        job = fact.job
        line = self._line(job)
        line.added += 1
        line.adding.add(self._clock.now())
        if job.state is State.ACTIVE:
            line.activated = job.started_wall

    def _changed(self, changed: JobChanged) -> None:
        job, attempt = changed.job, changed.attempt
        if job.state is State.ASSIGNED:
            return
        now = self._clock.now()
        line = self._line(job)
        if job.state is State.ACTIVE:
            line.activated = job.started_wall
        elif job.state is State.QUEUED:
            self._note_return(job, now)
            line.failed += attempt is not None and attempt.result in HURTS
        elif job.state in FINAL:
            line.ended[job.state] += 1
            line.ending.add(now)
            back_at = self._back.pop(job.id, 0.0)
            if job.state is State.SUCCEEDED:
                self._note_success(line, job, (attempt and attempt.run_s) or 0.0, back_at)

    def _note_return(self, job: Job, now: float) -> None:
        self._back[job.id] = max(now, job.not_before)
        if len(self._back) > BACK_LIMIT:
            del self._back[next(iter(self._back))]

    def _note_success(self, line: Line, job: Job, run_s: float, back_at: float) -> None:
        self._successes += 1
        started_at = job.started_at or job.finished_at - run_s
        waited_s = started_at - max(job.created_at, job.waits_since, back_at)
        line.waiting.add(self._successes, max(waited_s, 0.0))
        line.running.add(self._successes, run_s)
        line.finished = job.finished_wall

    def _line(self, job: Job) -> Line:
        line = self._lines.get((job.queue, job.topic))
        return self._new_line(job.queue, job.topic) if line is None else line

    def _new_line(self, queue: str, topic: str) -> Line:
        if len(self._lines) >= LINES_LIMIT:
            topic = OTHERS
        if len(self._lines) >= 2 * LINES_LIMIT:
            queue = OTHERS
        return self._lines.setdefault((queue, topic), Line(self._since))

    def _sum(
        self, live: Mapping[Place, Counter[bool]], now: float, places: Collection[Place]
    ) -> dict[str, Any]:
        """Return the sum of what is counted in ``places``, as plain values."""
        counted = (self._lines[place] for place in places if place in self._lines)
        under_way = sum((live[place] for place in places if place in live), Counter[bool]())
        return Line.of(counted, self._since, now).as_json(now, under_way)


def _by(part: int, places: Iterable[Place]) -> dict[str, list[Place]]:
    """Return ``places`` by queue (0) or topic (1), in the order of the names."""
    found: dict[str, list[Place]] = {}
    for place in sorted(places, key=itemgetter(part)):
        found.setdefault(place[part], []).append(place)
    return found
