"""The store, the manager and the matching, driven at random beside a simple model of them."""

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from offload.errors import Conflict, KeyTaken, Refused
from offload.payload import encode
from offload.work.jobs import (
    FINAL,
    Attempt,
    Delivery,
    Job,
    Options,
    Outcome,
    Query,
    Result,
    RetryRule,
    State,
)
from offload.work.manager import Arrived
from offload.work.queues import QueueRule, QueueType
from tests.work.model import MAX_CRASHES, Kept, Model
from tests.work.stand import OWN, Run, Stand

T = TypeVar("T")
# Where to sync costs nothing: what a power cut would take is not asked here.
MEMORY: Final = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _retry(retries: int, delay_s: float) -> RetryRule:
    return RetryRule(retries, lambda failures: delay_s * failures, MAX_CRASHES)


MAIN: Final = QueueRule("main", 2, _retry(2, 5.0))
SMALL: Final = QueueRule("small", 1, _retry(0, 1.0), priority=1)
ORDERED: Final = QueueRule("line", 1, _retry(1, 3.0), QueueType.ORDERED)
IN_TURN: Final = QueueRule("turns", 1, _retry(1, 0.0), QueueType.TOPIC_ROUND_ROBIN)
RULES: Final = {
    **{f"m/{name}": MAIN for name in "ab"},
    "s/a": SMALL,
    **{f"o/{name}": ORDERED for name in "ab"},
    **{f"t/{name}": IN_TURN for name in "abc"},
}
QUEUES: Final = ("main", "small", "line", "turns")
OUTCOMES: Final = {
    "succeeds": Outcome(Result.SUCCEEDED),
    "fails": Outcome(Result.FAILED, reason="not yet"),
    "fails and wishes for a delay": Outcome(Result.FAILED, reason="later", retry_after_s=50.0),
    "fails and wishes for none": Outcome(Result.FAILED, reason="at once", retry_after_s=0.0),
    "says never again": Outcome(Result.FAILED, reason="never", final=True),
    "crashes": Outcome(Result.CRASHED, reason="signal 9"),
    "takes too long": Outcome(Result.TIMED_OUT, reason="too long"),
}
MOVABLE: Final = ("m/a", "m/b", "s/a")
topics = st.sampled_from([*sorted(RULES), *MOVABLE])
ACTS: Final = ("stop", "remove", "retry", "requeue", "priority")
picks = st.integers(0, 2**16)
sometimes = st.integers(0, 3).map(lambda number: number == 0)


def maybe(values: st.SearchStrategy[T], otherwise: T) -> st.SearchStrategy[T]:
    return st.one_of(st.just(otherwise), st.just(otherwise), values)


ordinary = st.fixed_dictionaries(
    {
        "topic": topics,
        "priority": maybe(st.integers(-2, 2), None),
        "delivery": maybe(st.sampled_from(sorted(Delivery)), Delivery.AT_LEAST_ONCE),
        "retries": maybe(st.sampled_from([-1, 0, 1]), None),
        "retry_delay_s": maybe(st.sampled_from([0.0, 13.0]), None),
        "order_by": maybe(st.sampled_from(["x", "y"]), ""),
        "run_after_s": maybe(st.sampled_from([4.0, 30.0]), 0.0),
    }
)
of_little_time = st.sampled_from(["m/a", "m/b", "s/a", "o/a"])
limited = st.one_of(
    st.fixed_dictionaries(
        {"topic": of_little_time, "expires_in_s": st.sampled_from([6.0, 40.0])},
    ),
    st.fixed_dictionaries(
        {"topic": of_little_time, "deadline_in_s": st.sampled_from([8.0, 60.0])},
    ),
)
wishes = st.one_of(ordinary, ordinary, limited)
endings = st.tuples(picks, st.sampled_from(["succeeds", *sorted(OUTCOMES)]))


class JobsMachine(RuleBasedStateMachine):
    """
    People, consumers, time and crashes at one instance; after each act it is as the model says.

    What starts is checked as it starts: it must be the very one that the model wants next.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory(prefix="offload-machine-", dir=MEMORY)
        self.rules = dict(RULES)
        self.model = Model(self.rules)
        self.stand = Stand(Path(self.folder.name), self.rules)
        self.clock = self.stand.clock
        self.seen = 0  # of what this boot has started
        self.told: Counter[str] = Counter()  # ends by job, as published
        self.past: list[Run] = []  # attempts that are over
        self.lazy = False

    # --- acts of people --------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self._do(self.clock.advance(1.0))  # what happens at 0.0 has no time
        self._do(self.stand.open())

    @rule(wishes=st.lists(wishes, min_size=1, max_size=4))
    def add(self, wishes: list[dict[str, Any]]) -> None:
        for wish in wishes:
            self._add(**wish)

    @rule(
        topic=topics,
        key=st.sampled_from(["k", "l"]),
        if_key=st.sampled_from(["same", "existing", "replace", "refuse"]),
    )
    def add_with_key(self, topic: str, key: str, if_key: str) -> None:
        twin = self.model.with_key(key, live=if_key != "same")
        options = Options(key=key, if_key=if_key)
        adding = self.stand.manager.add(topic, encode({}), options)
        if twin is not None and if_key == "refuse":
            assert isinstance(self._fails(adding), KeyTaken)
        elif twin is not None and if_key == "same" and twin.topic != topic:
            assert isinstance(self._fails(adding), Conflict)
        elif twin is not None and if_key in ("same", "existing"):
            assert self._do(adding).id == twin.id, "the job that has the key is returned"
        else:
            job = self._do(adding)
            if twin is not None:
                self.model.stop(twin)
            self.model.add(job.id, topic, self.clock.now(), key=key)

    @rule(acts=st.lists(st.tuples(st.sampled_from(ACTS), picks), min_size=1, max_size=3))
    @precondition(lambda self: self.model.jobs)
    def do_to_jobs(self, acts: list[tuple[str, int]]) -> None:
        for act, pick in acts:
            if self.model.jobs:
                jobs = list(self.model.jobs.values())
                self._do_to(jobs[pick % len(jobs)], act, pick % 7 - 3)

    @rule(queue=st.sampled_from([*QUEUES, "all"]), is_open=st.booleans())
    def open_or_close(self, queue: str, is_open: bool) -> None:
        self._set_gate(queue, is_open=is_open)

    @rule(
        topic=st.sampled_from(MOVABLE),
        like=st.sampled_from(["", *MOVABLE]),
        places=st.integers(1, 3),
    )
    def govern(self, topic: str, like: str, places: int) -> None:
        """Another limit, or another queue for a topic."""
        new = self.rules[like] if like else replace(self.rules[topic], max_parallel=places)
        self.model.govern(topic, new)  # the rules are one dictionary with the stand's
        self._do(self.stand.govern())

    # --- acts of consumers -----------------------------------------------------------------

    @rule(lazy=st.booleans())
    def look_for_places(self, lazy: bool) -> None:
        """After every act, or only now and then."""
        self._claim()
        self.lazy = lazy

    @rule(endings=st.lists(endings, min_size=2, max_size=5))
    @precondition(lambda self: self.model.running())
    def finish(self, endings: list[tuple[int, str]]) -> None:
        for pick, how in endings:
            running = self.model.running()
            if running:
                job = running[pick % len(running)]
                obeys = job.stopping and pick % 2
                self._finish(job, Outcome(Result.STOPPED) if obeys else OUTCOMES[how])

    @rule(pick=picks, how=st.sampled_from(sorted(OUTCOMES)))
    @precondition(lambda self: self.past)
    def hear_late(self, pick: int, how: str) -> None:
        """Of an attempt that is over, once more: as it was said, or otherwise."""
        job_id, attempt = self.past[pick % len(self.past)]
        self._do(self.stand.manager.record([Arrived(job_id, OWN, attempt, OUTCOMES[how])]))

    # --- time and crashes ------------------------------------------------------------------

    @rule(
        seconds=st.sampled_from([1.0, 5.0, 20.0, 100.0, 700.0]),
        hasty=st.booleans(),
        endings=st.lists(endings, min_size=1, max_size=3),
    )
    def pass_time(self, seconds: float, hasty: bool, endings: list[tuple[int, str]]) -> None:
        if not hasty:
            self.finish(endings)
        self._do(self.clock.advance(seconds))
        if hasty:  # places are looked for before anybody looks at the time
            self._do(self.stand.claim())
            self._check_starts()
        self._do(self.stand.tick())
        self.model.tick(self.clock.now())

    @rule(killed=st.booleans(), stops=sometimes)
    @precondition(lambda self: self.model.jobs)
    def restart(self, killed: bool, stops: bool) -> None:
        for job in self.model.running() if stops else ():
            self._stop(job)
        self._do(self.stand.close() if killed else self.stand.drain())
        self.past += [(job.id, job.attempt) for job in self.model.running()]
        self._do(self.stand.open())
        self.seen = 0
        if killed:
            self.model.killed(self.clock.now())
        else:
            self.model.drained(self.clock.now())

    # --- what holds after each act ---------------------------------------------------------

    @invariant()
    def is_as_the_model_says(self) -> None:
        if not self.stand.is_open:
            return
        if not self.lazy:
            self._claim()
        found = self._do(self.stand.store.search(Query(), 10_000))
        jobs = {job.id: job for job in found if isinstance(job, Job)}
        assert jobs.keys() == self.model.jobs.keys(), "a job was lost, or came from nowhere"
        for job_id, kept in self.model.jobs.items():
            _compare(jobs[job_id], kept)
        counts = Counter(kept.state for kept in self.model.jobs.values())
        assert self._do(self.stand.store.counts()) == dict(counts)
        assert {job_id for job_id, _ in self.stand.hand.running} == {
            kept.id for kept in self.model.running()
        }

    @invariant()
    def each_end_is_told_once(self) -> None:
        for fact in self.stand.ends:
            self.told[fact.job.id] += 1
        self.stand.ends.clear()
        assert {i: self.told[i] for i in self.model.jobs} == {
            i: kept.ends for i, kept in self.model.jobs.items()
        }

    @invariant()
    def never_more_run_than_may(self) -> None:
        """Nor two of one lane; a limit that was lowered counts from the next start on."""
        lanes = Counter(job.lane for job in self.model.running() if job.lane)
        assert all(count == 1 for count in lanes.values())

    def teardown(self) -> None:
        try:
            if self.stand.is_open:
                self.check_the_end()
        finally:
            self.close()

    def check_the_end(self) -> None:
        """The history is as the model has it; and whatever still lives comes to its end."""
        self._check_history()
        self._run_dry()

    def close(self) -> None:
        """Put all away."""
        if self.stand.is_open:
            self._do(self.stand.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()

    # --- inside ----------------------------------------------------------------------------

    def _do(self, act: Coroutine[Any, Any, T]) -> T:
        async def done() -> T:
            answer = await act
            await self.stand.settle()
            return answer

        return self.loop.run_until_complete(done())

    def _fails(self, act: Coroutine[Any, Any, Any]) -> Exception | None:
        try:
            self._do(act)
        except (Conflict, KeyTaken, Refused) as error:
            return error
        return None

    def _add(self, topic: str, **wishes: Any) -> None:
        adding = self.stand.manager.add(topic, encode({}), Options(**wishes))
        job = self._do(adding)
        limits = [wishes.pop(name, None) for name in ("expires_in_s", "deadline_in_s")]
        now = self.clock.now()
        kept = self.model.add(job.id, topic, now, **wishes)
        kept.expires_at, kept.deadline_at = (now + limit if limit else 0.0 for limit in limits)
        self._check_starts()  # it may begin at once

    def _do_to(self, job: Kept, act: str, number: int) -> None:
        match act:
            case "stop":
                self._stop(job)
            case "remove":
                dropping = self.stand.manager.control.drop(job.id)
                assert self._do(dropping) is self.model.drop(job)
            case "retry":
                self._retry(job)
            case "requeue":
                self._requeue(job)
            case "priority":
                self._change_priorities(job, number)

    def _stop(self, job: Kept) -> None:
        assert self._do(self.stand.distributor.stop(job.id)) is self.model.stop(job)
        if job.stopping:
            assert (job.id, job.attempt) in self.stand.hand.asked

    def _retry(self, old: Kept) -> None:
        if old.live:
            return
        record = self._do(self.stand.store.job(old.id))
        assert record is not None
        again = self._do(self.stand.manager.add_again(record))
        assert (again.again_of, again.topic) == (old.id, old.topic)
        wishes = ("delivery", "order_by", "retries", "retry_delay_s")
        same = {name: getattr(old, name) for name in wishes}
        self.model.add(again.id, old.topic, self.clock.now(), **same).priority = old.priority

    def _requeue(self, job: Kept) -> None:
        asking = self.stand.manager.control.requeue(job.id)
        if self.model.requeue(job, self.clock.now()):
            self._do(asking)
        else:
            assert isinstance(self._fails(asking), Refused | KeyTaken)

    def _change_priorities(self, job: Kept, priority: int) -> None:
        """Of the job, and of all others of its topic that wait."""
        if job.state is not State.QUEUED:
            asking = self.stand.manager.control.set_priority(job.id, priority)
            assert isinstance(self._fails(asking), Refused)
            return
        for other in [j for j in self.model.jobs.values() if j.topic == job.topic]:
            if other.state is State.QUEUED:
                priority = -priority if other.number % 2 else priority + 1
                self._do(self.stand.manager.control.set_priority(other.id, priority))
                other.priority = priority

    def _set_gate(self, queue: str, *, is_open: bool) -> None:
        gates = self.stand.manager.gates
        if queue == "all":
            self._do(gates.set_processing(enabled=is_open))
            self.model.processing = is_open
        elif is_open:
            self._do(gates.resume(queue))
            self.model.suspended.discard(queue)
        else:
            self._do(gates.suspend(queue))
            self.model.suspended.add(queue)

    def _check_starts(self) -> None:
        now, hand = self.clock.now(), self.stand.hand
        for job_id, attempt, failures in hand.started[self.seen :]:
            assert job_id in self.model.jobs, "a job starts that should not be there"
            job = self.model.jobs[job_id]
            wanted = self.model.next(self.rules[job.topic].name, now)
            assert job is wanted, f"{job} starts, but {wanted} should"
            assert failures == job.failures, "the consumer is told the retries before"
            self.model.start(job)
            assert attempt == job.attempt
        self.seen = len(hand.started)

    def _claim(self) -> None:
        """Start what can start: it is what should, and all that should."""
        self._do(self.stand.claim())
        self._check_starts()
        now = self.clock.now()
        left = {queue: self.model.next(queue, now) for queue in QUEUES}
        assert not any(left.values()), f"places are free, but these do not start: {left}"

    def _finish(self, job: Kept, outcome: Outcome) -> None:
        run = job.id, job.attempt
        self._do(self.stand.finish(run, outcome))
        now, after = self.clock.now(), outcome.retry_after_s
        self.model.ended(job, outcome.result, now, final=outcome.final, after=after)
        self.past.append(run)

    def _check_history(self) -> None:
        for job_id, kept in self.model.jobs.items():
            attempts: list[Attempt] = self._do(self.stand.store.attempts(job_id))
            assert [line.result for line in attempts] == kept.lines, kept
            assert len({line.number for line in attempts}) == len(attempts)
        assert self._do(self.stand.store.check()) == "ok"

    def _run_dry(self) -> None:
        """Open all gates and let all succeed: whatever is left comes to its end."""
        for queue in (*QUEUES, "all"):
            self._set_gate(queue, is_open=True)
        for _ in range(len(self.model.jobs) + 1):
            self.pass_time(100.0, hasty=False, endings=[])
            self._claim()
            for job in self.model.running():
                self._finish(job, OUTCOMES["succeeds"])
        assert not any(job.live for job in self.model.jobs.values()), "some never end"
        self.is_as_the_model_says()


def _compare(job: Job, kept: Kept) -> None:
    assert job.state is kept.state, f"{job.state}, but {kept}"
    assert (job.topic, job.attempt, job.stopping) == (kept.topic, kept.attempt, kept.stopping)
    assert (job.failures, job.crashes) == (kept.failures, kept.crashes), kept
    assert job.delivery is kept.delivery
    assert bool(job.finished_wall) is (kept.state in FINAL), kept
    if kept.state is State.QUEUED:
        assert (job.not_before, job.priority) == (kept.not_before, kept.priority), kept
