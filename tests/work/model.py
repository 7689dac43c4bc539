"""
What should become of jobs on one instance, said as simply as it can be.

It knows nothing of how the program does it: a list of jobs in the order of their adding, and what
each act of a person, a consumer or time does to it.
"""

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from offload.work.jobs import Delivery, Result, State
from offload.work.queues import QueueRule, QueueType

AGEING_S = 600.0
MAX_CRASHES = 2
LIVE = (State.QUEUED, State.ACTIVE)
ENDED_BADLY = (State.GIVEN_UP, State.ERROR, State.STOPPED, State.EXPIRED, State.DROPPED)


@dataclass(eq=False)
class Kept:
    """A job as the model has it."""

    id: str
    number: int
    topic: str
    priority: int = 0
    delivery: Delivery = Delivery.AT_LEAST_ONCE
    retries: int | None = None
    retry_delay_s: float | None = None
    key: str = ""
    order_by: str = ""
    lane: str = ""
    state: State = State.QUEUED
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    waits_since: float = 0.0
    not_before: float = 0.0
    expires_at: float = 0.0
    deadline_at: float = 0.0
    ran: bool = False
    stopping: bool = False
    overdue: bool = False
    place: str = ""  # the queue in whose place it runs
    lines: list[Result] = field(default_factory=list)
    ends: int = 0

    @property
    def live(self) -> bool:
        return self.state in LIVE

    @property
    def line(self) -> tuple[float, int]:
        """Its turn among those that wait."""
        return self.waits_since - AGEING_S * self.priority, self.number

    def over(self, now: float) -> bool:
        """Whether its time is over."""
        unstarted = self.state is State.QUEUED and not self.ran and 0 < self.expires_at <= now
        return unstarted or 0 < self.deadline_at <= now


class Model:
    """The jobs, and what is shut."""

    def __init__(self, rules: MutableMapping[str, QueueRule]) -> None:
        self.rules = rules
        self.jobs: dict[str, Kept] = {}
        self.fronts: dict[str, Kept] = {}  # lane -> who is first in it
        self.suspended: set[str] = set()
        self.processing = True
        self.last_topic: dict[str, str] = {}
        self._number = 0

    # --- asked -----------------------------------------------------------------------------

    def running(self) -> list[Kept]:
        return [job for job in self.jobs.values() if job.state is State.ACTIVE]

    def taken(self, queue: str) -> int:
        """How many places of ``queue`` are taken, also by what has moved to it, or away."""
        return sum(queue in (job.place, self.rules[job.topic].name) for job in self.running())

    def next(self, queue: str, now: float) -> Kept | None:
        """Who of ``queue`` must be the next to start; None: nobody can."""
        rule = next((r for r in self.rules.values() if r.name == queue), None)
        if rule is None or not self.processing or queue in self.suspended:
            return None
        if self.taken(queue) >= rule.max_parallel:
            return None
        ready = [
            job
            for job in self.jobs.values()
            if self.rules[job.topic].name == queue
            and job.state is State.QUEUED
            and job.not_before <= now
            and not job.over(now)
            and (not job.lane or self.fronts[job.lane] is job)
        ]
        if ready and rule.type is QueueType.TOPIC_ROUND_ROBIN:
            last = self.last_topic.get(queue, "")
            topic = min({job.topic for job in ready}, key=lambda t: (t <= last, t))
            ready = [job for job in ready if job.topic == topic]
        return min(ready, key=lambda job: job.line, default=None)

    def with_key(self, key: str, *, live: bool) -> Kept | None:
        found = [job for job in self.jobs.values() if job.key == key]
        if live:
            found = [job for job in found if job.live and not job.stopping]
        return max(found, key=lambda job: job.number, default=None)

    # --- done by people --------------------------------------------------------------------

    def add(self, job_id: str, topic: str, now: float, **more: Any) -> Kept:
        self._number += 1
        after_s, priority = more.pop("run_after_s", 0.0), more.pop("priority", None)
        job = Kept(job_id, self._number, topic, waits_since=now + after_s, **more)
        if after_s:
            job.not_before = now + after_s
        rule = self.rules[topic]
        job.priority = rule.priority if priority is None else priority
        job.lane = rule.lane(job.order_by)
        if job.lane and job.delivery is Delivery.AT_LEAST_ONCE:
            job.delivery = Delivery.EXCLUSIVE
        self.jobs[job_id] = job
        if job.lane:
            self.fronts.setdefault(job.lane, job)
        return job

    def stop(self, job: Kept) -> bool:
        if not job.live:
            return False
        if job.state is State.QUEUED:
            self._end(job, State.STOPPED)
        else:
            job.stopping = True
        return True

    def drop(self, job: Kept) -> bool:
        if job.state is State.ACTIVE:
            return False
        if job.live:
            self._end(job, State.DROPPED)
        else:
            del self.jobs[job.id]
        return True

    def clear(self, queue: str) -> int:
        waiting = [job for job in self.of(queue) if job.state is State.QUEUED]
        for job in waiting:
            self._end(job, State.DROPPED)
        return len(waiting)

    def of(self, queue: str) -> list[Kept]:
        return [job for job in self.jobs.values() if self.rules[job.topic].name == queue]

    def requeue(self, job: Kept, now: float) -> bool:
        twin = self.with_key(job.key, live=True) if job.key else None
        if twin is not None and twin is not job:
            return False
        if job.state is State.QUEUED:
            if job.not_before <= now:
                return False
            job.not_before = 0.0
            return True
        once = job.delivery is Delivery.AT_MOST_ONCE and job.attempt
        if job.state not in ENDED_BADLY or once:
            return False
        job.state, job.waits_since, job.not_before = State.QUEUED, now, 0.0
        job.failures = job.crashes = 0
        job.expires_at = job.deadline_at = 0.0
        job.ran = job.overdue = False
        if job.lane:
            self.fronts.setdefault(job.lane, job)
        return True

    def govern(self, topic: str, rule: QueueRule) -> None:
        """Put ``topic`` under another rule; the order of its lanes is found anew."""
        moved = self.rules[topic].name != rule.name
        for other in [t for t, r in self.rules.items() if r.name == rule.name]:
            self.rules[other] = rule
        self.rules[topic] = rule
        if not moved:
            return
        for lane in {job.lane for job in self.jobs.values() if job.topic == topic and job.live}:
            inside = [job for job in self.jobs.values() if job.lane == lane and job.live]
            if lane and inside:
                self.fronts[lane] = min(inside, key=_settled)

    # --- done by consumers and time --------------------------------------------------------

    def start(self, job: Kept) -> None:
        rule = self.rules[job.topic]
        job.state, job.place, job.ran = State.ACTIVE, rule.name, True
        job.attempt += 1
        job.not_before = 0.0
        self.last_topic[rule.name] = job.topic

    def ended(
        self, job: Kept, result: Result, now: float, *, final: bool = False, after: float | None
    ) -> None:
        """What an attempt comes to; ``after`` is the consumer's own wish for a delay."""
        job.lines.append(result)
        rule = self.rules[job.topic].retry
        if job.stopping:
            self._end(job, State.STOPPED)
        elif result is Result.SUCCEEDED:
            self._end(job, State.SUCCEEDED)
        elif result is Result.FAILED and final:
            self._end(job, State.ERROR)
        elif result is Result.REFUSED:
            self._again(job, now, rule.delay_s(1))
        elif job.delivery is Delivery.AT_MOST_ONCE:
            self._end(job, State.GIVEN_UP)
        elif result is Result.CRASHED:
            job.crashes += 1
            if job.crashes >= MAX_CRASHES:
                self._end(job, State.GIVEN_UP)
            else:
                self._again(job, now, rule.delay_s(job.crashes))
        else:
            job.failures += 1
            retries = rule.retries if job.retries is None else job.retries
            if 0 <= retries < job.failures:
                self._end(job, State.GIVEN_UP)
            else:
                after = job.retry_delay_s if after is None else after
                self._again(job, now, rule.delay_s(job.failures) if after is None else after)

    def tick(self, now: float) -> None:
        """Time has passed."""
        for job in self.jobs.values():
            if job.live and not job.stopping and job.over(now):
                job.overdue = True
                if job.state is State.QUEUED:
                    self._end(job, State.STOPPED)
                else:
                    job.stopping = True

    def killed(self, now: float) -> None:
        """The instance was killed, and has started again."""
        for job in self.running():
            if job.delivery is Delivery.AT_MOST_ONCE and not job.stopping:
                job.lines.append(Result.CRASHED)
                self._end(job, State.LOST)
            else:
                self.ended(job, Result.CRASHED, now, after=None)
        self.last_topic.clear()

    def drained(self, now: float) -> None:
        """The instance has handed back what ran, and has started again."""
        for job in self.running():
            once = job.delivery is Delivery.AT_MOST_ONCE
            self.ended(job, Result.CRASHED if once else Result.REFUSED, now, after=None)
        self.last_topic.clear()

    # --- parts -----------------------------------------------------------------------------

    def _again(self, job: Kept, now: float, delay_s: float) -> None:
        job.state, job.place = State.QUEUED, ""
        job.not_before = now + delay_s if delay_s > 0 else 0.0

    def _end(self, job: Kept, state: State) -> None:
        if state is State.STOPPED and job.overdue:
            state = State.EXPIRED
        job.state, job.place, job.stopping = state, "", False
        job.ends += 1
        if job.lane and self.fronts.get(job.lane) is job:
            del self.fronts[job.lane]
            following = min(self._in_lane(job.lane), key=lambda j: j.number, default=None)
            if following is not None:
                self.fronts[job.lane] = following

    def _in_lane(self, lane: str) -> Iterable[Kept]:
        return (job for job in self.jobs.values() if job.lane == lane and job.live)


def _settled(job: Kept) -> tuple[bool, bool, int]:
    """Who is first when a lane is found anew: who runs, who has run, who was added first."""
    return job.state is State.QUEUED, job.attempt == 0, job.number
