"""
Statistics per queue and topic, of the jobs that were added here.

They are fed from the bus, live in memory, and begin anew with the instance. What waits and runs is
asked of the store, so a reset keeps it (CONFORMANCE C040).
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from offload.clock import Clock
from offload.events import Bus
from offload.work.jobs import FINAL, HURTS, Job, State
from offload.work.manager import JobAdded, JobChanged
from offload.work.store import Store

LINES_LIMIT: Final = 1_000  # queues, and topics; what comes later shares one line
OTHERS: Final = "…"
SAMPLES: Final = 512  # of which the percentiles are
RATE_STEP_S: Final = 5
RATE_STEPS: Final = 12
PERCENTILES: Final = (50, 95, 99)
BACK_LIMIT: Final = (
    10_000  # jobs that came back of which we know when; of others, since when at all
)


class Spread:
    """Durations: the average of all, percentiles of the last ``SAMPLES``."""

    __slots__ = ("_count", "_last", "_sum")

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0.0
        self._last = array("d")

    def add(self, duration_s: float) -> None:
        """Take in one more."""
        if len(self._last) < SAMPLES:
            self._last.append(duration_s)
        else:
            self._last[self._count % SAMPLES] = duration_s
        self._count += 1
        self._sum += duration_s

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

    def __init__(self, now: float) -> None:
        self._since = now
        self._at = int(now // RATE_STEP_S)
        self._until = (self._at + 1) * RATE_STEP_S  # the end of this step
        self._counts = [0] * RATE_STEPS

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
    """What is counted of one queue, one topic, or all."""

    __slots__ = ("added", "adding", "ended", "ending", "failed", "moments", "running", "waiting")

    def __init__(self, now: float) -> None:
        self.added = 0
        self.failed = 0
        self.ended: Counter[State] = Counter()
        self.waiting, self.running = Spread(), Spread()
        self.adding, self.ending = Rate(now), Rate(now)
        self.moments: dict[str, float] = {}  # wall times: last activated, last finished

    def as_json(self, now: float, queued: int, active: int) -> dict[str, Any]:
        """Return it as plain values; moments that never were are None."""
        succeeded, ended = self.ended[State.SUCCEEDED], sum(self.ended.values())
        return {
            "queued": queued,
            "active": active,
            "jobs": queued + active,
            "added": self.added,
            "finished": succeeded,
            "failed": self.failed,
            "cancelled": ended - succeeded,
            "processed": ended + self.failed,
            "ended": {state.value: count for state, count in sorted(self.ended.items())},
            "last_activated": _iso(self.moments.get("activated")),
            "last_finished": _iso(self.moments.get("finished")),
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
        bus.listen(JobChanged, self._changed)

    def reset(self) -> None:
        """Begin anew; what waits and runs is still known (C040)."""
        now = self._clock.now()
        self._since_wall = self._clock.wall()
        self._total = Line(now)
        self._back: dict[str, float] = {}  # jobs that wait once more -> from when they could start
        self._queues: dict[str, Line] = {}
        self._topics: dict[str, Line] = {}
        self._known: dict[tuple[str, str], tuple[Line, Line, Line]] = {}  # looked up before

    async def as_json(self) -> dict[str, Any]:
        """
        Return ``{since, total, queues, topics}``.

        Each line has ``queued`` and ``active`` as they are now, and since the last reset
        ``added``, ``finished`` (succeeded), ``failed`` (attempts that are retried), ``cancelled``
        (ended otherwise; ``ended`` says how) and ``processed`` (all three). ``waiting`` and
        ``processing`` count successes only; rates are those of the last minute.
        """
        live: dict[str, dict[str, Counter[bool]]] = {"queues": {}, "topics": {}}
        total: Counter[bool] = Counter()
        for queue, topic, state, count in await self._store.live_counts():
            active = state != State.QUEUED
            total[active] += count
            for kind, name in (("queues", queue), ("topics", topic)):
                live[kind].setdefault(name, Counter())[active] += count
        now = self._clock.now()
        return {
            "since": _iso(self._since_wall),
            "total": self._total.as_json(now, total[False], total[True]),
            "queues": _lines(self._queues, live["queues"], now),
            "topics": _lines(self._topics, live["topics"], now),
        }

    # --- what happens ----------------------------------------------------------------------

    def _added(self, added: JobAdded) -> None:
        now = self._clock.now()
        for line in self._of(added.job.queue, added.job.topic, now):
            line.added += 1
            line.adding.add(now)

    def _changed(self, changed: JobChanged) -> None:
        job, attempt = changed.job, changed.attempt
        if job.state is State.ASSIGNED:
            return
        now = self._clock.now()
        lines = self._of(job.queue, job.topic, now)
        if job.state is State.ACTIVE:
            for line in lines:
                line.moments["activated"] = job.started_wall
        elif job.state is State.QUEUED:
            self._note_return(job, now)
            for line in lines:
                line.failed += attempt is not None and attempt.result in HURTS
        elif job.state in FINAL:
            back_at = self._back.pop(job.id, 0.0)
            for line in lines:
                line.ended[job.state] += 1
                line.ending.add(now)
            if job.state is State.SUCCEEDED:
                _note_success(lines, job, (attempt and attempt.run_s) or 0.0, back_at)

    def _note_return(self, job: Job, now: float) -> None:
        self._back[job.id] = max(now, job.not_before)
        if len(self._back) > BACK_LIMIT:
            del self._back[next(iter(self._back))]

    def _of(self, queue: str, topic: str, now: float) -> tuple[Line, Line, Line]:
        lines = self._known.get((queue, topic))
        if lines is None:
            lines = self._total, _line(self._queues, queue, now), _line(self._topics, topic, now)
            if len(self._known) < LINES_LIMIT:
                self._known[queue, topic] = lines
        return lines


def _note_success(lines: Sequence[Line], job: Job, run_s: float, back_at: float) -> None:
    started_at = job.started_at or job.finished_at - run_s
    waited_s = max(started_at - max(job.created_at, job.waits_since, back_at), 0.0)
    for line in lines:
        line.waiting.add(waited_s)
        line.running.add(run_s)
        line.moments["finished"] = job.finished_wall


def _line(lines: dict[str, Line], name: str, now: float) -> Line:
    line = lines.get(name)
    if line is None:
        if len(lines) >= LINES_LIMIT:
            name = OTHERS
        line = lines.setdefault(name, Line(now))
    return line


def _lines(lines: dict[str, Line], live: dict[str, Counter[bool]], now: float) -> dict[str, Any]:
    none: Counter[bool] = Counter()
    return {
        name: lines.get(name, Line(now)).as_json(now, waits[False], waits[True])
        for name in sorted(lines.keys() | live.keys())
        for waits in [live.get(name, none)]
    }


def _iso(wall: float | None) -> str | None:
    return (
        None if not wall else datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
    )
