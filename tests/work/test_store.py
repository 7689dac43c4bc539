"""What the store keeps, and how it answers (DESIGN §3 store, §5 kept on disk, §12)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from offload.clock import Mark
from offload.errors import AmbiguousId, Conflict, IllegalTransition, JobNotFound, StoreFault
from offload.work.jobs import (
    Attempt,
    Delivery,
    Event,
    FileEntry,
    Job,
    Outcome,
    Result,
    Spec,
    State,
    after,
    digest,
    new_id,
)
from offload.work.store import NewsLine, Step, Store, rows

PHOTO = FileEntry("in.jpg", "a" * 64, 5)
THUMB = FileEntry("out.jpg", "b" * 64, 3, executable=True)
ORIGIN = "s" * 32


def a_job(topic: str = "image/thumbnail", **more: object) -> Job:
    return Job(id=new_id(), topic=topic, queue="main")._replace(**more)


def a_spec(topic: str = "image/thumbnail", payload: bytes = b"\x80", **more: object) -> Spec:
    return Spec(topic, payload, digest(payload))._replace(**more)


def a_success(value: bytes = b"\x01") -> Outcome:
    return Outcome(Result.SUCCEEDED, value=value, value_blob=PHOTO, files=(THUMB,), run_s=1.5)


def meets(event: Event) -> Callable[[Job], Step[State]]:
    """Return the rule that lets a job meet ``event``, and answers with its new state."""

    def rule(job: Job) -> Step[State]:
        kept = job._replace(state=after(job.state, event))
        return Step(kept.state, kept)

    return rule


@pytest.fixture(params=["file", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Is new and empty; once in a file, once in memory."""
    store = Store.open(tmp_path) if request.param == "file" else Store.open()
    yield store
    await store.close()


class TestAJobThatIsAdded:
    async def test_comes_back_with_its_place_in_the_order(self, store: Store) -> None:
        first, second = [await store.insert(a_job(), a_spec()) for _ in range(2)]
        assert (first.seq, second.seq) == (1, 2)

    async def test_is_read_back_unchanged_in_every_field(self, store: Store) -> None:
        job = Job(
            id=new_id(),
            topic="a/b",
            queue="heavy",
            state=State.ACTIVE,
            seq=1,
            priority=-3,
            attempt=4,
            fence=3,
            worker="w" * 26,
            given=((3, "v" * 26), (4, "w" * 26)),
            stopping=True,
            placing=4,
            failures=1,
            crashes=2,
            lapses=3,
            not_before=12.5,
            delivery=Delivery.EXCLUSIVE,
            into="/tmp/é",
            if_exists="refuse",
            outputs=("/tmp/a", "/tmp/b"),
            policy="remote-first",
            key="k",
            retries=7,
            reason="wörker\x00gone",
            created_wall=1.0,
            started_wall=2.0,
            finished_wall=3.0,
            created_at=4.0,
            started_at=5.0,
            finished_at=6.0,
            properties='{"page": 3}',
            order_by="ada",
            lane="by ada",
            behind=True,
            waits_since=7.0,
            expires_at=8.0,
            deadline_at=9.0,
            run_at=10.0,
            overdue=True,
            again_of="older",
            retry_delay_s=3.5,
            demands='{"needs": {"gpu": 1.0}}',
            idempotent=True,
        )
        plain = Job(id="", topic="", queue="")
        changed = [name for name in Job._fields if getattr(job, name) != getattr(plain, name)]
        assert changed == list(Job._fields), "give the new field a value of its own"
        assert await store.insert(job, a_spec("a/b"), {}) == job
        assert await store.job(job.id) == job

    async def test_keeps_its_spec(self, store: Store) -> None:
        spec = a_spec(files=(PHOTO,), delivery=Delivery.AT_MOST_ONCE, timeout_s=2.5)
        job = await store.insert(a_job(), spec, {"size": 256, "name": "x", "ratio": 0.5})
        assert await store.spec(job.id) == spec

    async def test_may_have_its_payload_elsewhere(self, store: Store) -> None:
        spec = Spec("a", None, "c" * 64)
        job = await store.insert(a_job("a"), spec)
        assert await store.spec(job.id) == spec

    async def test_is_unknown_under_another_id(self, store: Store) -> None:
        await store.insert(a_job(), a_spec())
        other = new_id()
        assert (await store.job(other), await store.spec(other)) == (None, None)
        assert (await store.outcome(other), await store.attempts(other)) == (None, [])

    async def test_is_there_even_if_nobody_waits_for_the_answer(self, store: Store) -> None:
        job = a_job()
        adding = asyncio.create_task(store.insert(job, a_spec()))
        await asyncio.sleep(0)  # it has asked
        adding.cancel()
        await asyncio.gather(adding, return_exceptions=True)
        assert adding.cancelled()
        await store.insert(a_job(), a_spec())
        assert await store.job(job.id) is not None


class TestASubmitKey:
    """C-key, G23: the same key with the same content is the same job."""

    async def test_with_the_same_content_is_the_same_job(self, store: Store) -> None:
        jobs = [a_job(key="k") for _ in range(50)]
        kept = await asyncio.gather(*(store.insert(job, a_spec(files=(PHOTO,))) for job in jobs))
        assert {job.id for job in kept} == {jobs[0].id}
        assert await store.counts() == {State.QUEUED: 1}

    @pytest.mark.parametrize(
        "other",
        [a_spec("b"), a_spec(payload=b"\x81"), a_spec(files=(PHOTO,))],
        ids=["topic", "payload", "files"],
    )
    async def test_with_other_content_is_a_conflict(self, store: Store, other: Spec) -> None:
        first = await store.insert(a_job(key="k"), a_spec())
        with pytest.raises(Conflict) as conflict:
            await store.insert(a_job(other.topic, key="k"), other)
        assert (conflict.value.key, conflict.value.job_id) == ("k", first.id)

    async def test_that_conflicts_stops_no_other_job_of_its_group(self, store: Store) -> None:
        answers = await asyncio.gather(
            store.insert(a_job(key="k"), a_spec()),
            store.insert(a_job(key="k"), a_spec(payload=b"\x81")),
            store.insert(a_job(), a_spec()),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [Job, Conflict, Job]
        assert await store.counts() == {State.QUEUED: 2}

    async def test_still_stands_for_its_job_when_that_has_ended(self, store: Store) -> None:
        job = await store.insert(a_job(key="k"), a_spec())
        await store.change([(job.id, meets(Event.STOP))])
        assert (await store.insert(a_job(key="k"), a_spec())).id == job.id

    async def test_is_free_again_when_its_job_is_removed(self, store: Store) -> None:
        job = await store.insert(a_job(key="k"), a_spec())
        await store.remove(job.id)
        assert (await store.insert(a_job(key="k"), a_spec(payload=b"\x81"))).id != job.id


class TestAnIdThatIsAddedTwice:
    async def test_with_the_same_content_is_the_same_job(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())
        assert await store.insert(job._replace(seq=0), a_spec()) == job

    async def test_with_other_content_is_a_conflict(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())
        with pytest.raises(Conflict):
            await store.insert(job, a_spec(payload=b"\x81"))

    async def test_in_one_group_too(self, store: Store) -> None:
        job, other = a_job(), a_job()
        kept = await asyncio.gather(
            store.insert(job, a_spec()), store.insert(job, a_spec()), store.insert(other, a_spec())
        )
        assert [one.id for one in kept] == [job.id, job.id, other.id]
        assert await store.counts() == {State.QUEUED: 2}


class TestARule:
    async def test_sees_the_job_as_it_is_and_decides_what_is_kept(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())
        assert await store.change([(job.id, meets(Event.ASSIGN))]) == [State.ASSIGNED]
        assert await store.change([(job.id, meets(Event.START))]) == [State.ACTIVE]
        kept = await store.job(job.id)
        assert kept is not None
        assert kept.state is State.ACTIVE

    async def test_may_leave_all_as_it_is(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())
        assert await store.change([(job.id, lambda seen: Step(seen.seq))]) == [job.seq]
        assert await store.job(job.id) == job

    async def test_is_not_asked_about_a_job_that_is_not_there(self, store: Store) -> None:
        assert await store.change([(new_id(), meets(Event.ASSIGN))]) == [None]

    async def test_sees_what_an_earlier_rule_of_the_same_call_did(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())
        both = [(job.id, meets(Event.ASSIGN)), (job.id, meets(Event.START))]
        assert await store.change(both) == [State.ASSIGNED, State.ACTIVE]

    async def test_that_fails_undoes_the_other_rules_of_its_call(self, store: Store) -> None:
        one, two = [await store.insert(a_job(), a_spec()) for _ in range(2)]
        with pytest.raises(IllegalTransition):
            await store.change([(one.id, meets(Event.ASSIGN)), (two.id, meets(Event.START))])
        assert [await store.job(job.id) for job in (one, two)] == [one, two]

    async def test_that_fails_leaves_other_calls_of_its_group_alone(self, store: Store) -> None:
        one, two = [await store.insert(a_job(), a_spec()) for _ in range(2)]
        failed, answer = await asyncio.gather(
            store.change([(one.id, meets(Event.START))]),
            store.change([(two.id, meets(Event.ASSIGN))]),
            return_exceptions=True,
        )
        assert isinstance(failed, IllegalTransition)
        assert answer == [State.ASSIGNED]

    async def test_may_not_keep_another_job_in_place_of_its_own(self, store: Store) -> None:
        one, two = [await store.insert(a_job(), a_spec()) for _ in range(2)]
        with pytest.raises(ValueError, match="another"):
            await store.change([(one.id, lambda _: Step(None, two))])

    async def test_that_wants_text_that_is_none_fails_alone(self, store: Store) -> None:
        one, two = [await store.insert(a_job(), a_spec()) for _ in range(2)]
        failed, answer = await asyncio.gather(
            store.change([(one.id, lambda job: Step(0, job._replace(reason="\udc80")))]),
            store.change([(two.id, meets(Event.ASSIGN))]),
            return_exceptions=True,
        )
        assert isinstance(failed, Exception)
        assert answer == [State.ASSIGNED]
        assert await store.job(one.id) == one
        assert await store.counts() == {State.QUEUED: 1, State.ASSIGNED: 1}

    async def test_race_is_decided_by_the_row_as_it_is_then(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())

        def claim(seen: Job) -> Step[bool]:
            if seen.state is not State.QUEUED:
                return Step(False)
            return Step(True, seen._replace(state=State.ASSIGNED))

        won = await asyncio.gather(*(store.change([(job.id, claim)]) for _ in range(20)))
        assert won.count([True]) == 1

    async def test_thousand_in_one_call_are_one_commit(self, store: Store) -> None:
        jobs = await asyncio.gather(*(store.insert(a_job(), a_spec()) for _ in range(1_000)))
        before = store.commits
        states = await store.change([(job.id, meets(Event.ASSIGN)) for job in jobs])
        assert states == [State.ASSIGNED] * 1_000
        assert store.commits == before + 1


class TestWhatBelongsToAJob:
    async def test_outcome_attempt_and_plan_are_kept_with_the_change(self, store: Store) -> None:
        job = await store.insert(a_job(state=State.ACTIVE, attempt=2), a_spec())
        attempt = Attempt(2, "w" * 26, Result.SUCCEEDED, "", 100.0, 1.5)

        def succeed(seen: Job) -> Step[None]:
            kept = seen._replace(state=State.SUCCEEDED, placing=2)
            return Step(None, kept, attempt=attempt, outcome=a_success(), placing=b"plan")

        await store.change([(job.id, succeed)])
        kept = job._replace(state=State.SUCCEEDED, placing=2)
        assert await store.outcome(job.id) == a_success()
        assert await store.attempts(job.id) == [attempt]
        assert await store.placings() == [(kept, a_success(), b"plan")]

    async def test_the_plan_goes_when_the_files_are_in_place(self, store: Store) -> None:
        job = await store.insert(a_job(state=State.SUCCEEDED, placing=1), a_spec())
        await store.change([(job.id, lambda seen: Step(0, seen, placing=b"plan"))])
        await store.change([(job.id, lambda seen: Step(0, seen._replace(placing=0)))])
        assert await store.placings() == []

    async def test_a_second_outcome_replaces_the_first(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())
        failed = Outcome(Result.FAILED, reason="no", error_type="ValueError", traceback="tb")
        for outcome in (failed, a_success()):
            await store.change([(job.id, lambda _, told=outcome: Step(0, outcome=told))])
        assert await store.outcome(job.id) == a_success()

    async def test_attempts_come_in_the_order_in_which_they_ended(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())
        lines = [Attempt(n, "w", Result.FAILED, f"try {n}", float(n)) for n in (2, 1, 3)]
        for line in lines:
            await store.change([(job.id, lambda _, line=line: Step(0, attempt=line))])
        assert await store.attempts(job.id) == lines

    async def test_all_of_it_is_gone_when_it_is_removed(self, store: Store) -> None:
        """C003: removing a history entry deletes it for good."""
        job = await store.insert(a_job(), a_spec(), {"size": 1})
        await store.change([(job.id, lambda seen: Step(0, seen, outcome=a_success()))])
        await store.add_news(job.id, [NewsLine(1.0, "log", "hello")])
        await store.remove(job.id)
        assert await store.job(job.id) is None
        assert await store.spec(job.id) is None
        assert await store.outcome(job.id) is None
        assert await store.news(job.id) == []
        assert await store.counts() == {}
        assert await store.change([(job.id, meets(Event.ASSIGN))]) == [None]


class TestAttemptsOfManyJobs:
    async def test_are_found_at_once(self, store: Store) -> None:
        one, two = [await store.insert(a_job(), a_spec()) for _ in range(2)]
        for worker, result in (("w", Result.CRASHED), ("v", Result.REFUSED)):
            line = Attempt(1, worker, result, "", 1.0)
            await store.change([(one.id, lambda _, line=line: Step(0, attempt=line))])
        found = {one.id: [("w", Result.CRASHED), ("v", Result.REFUSED)]}
        assert await store.tried([one.id, two.id]) == found


class TestNews:
    async def test_is_numbered_from_one(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())
        await store.add_news(job.id, [NewsLine(1.0, "log", "a"), NewsLine(2.0, "progress", "{}")])
        await store.add_news(job.id, [NewsLine(3.0, "log", "c")])
        assert await store.news(job.id) == [
            (1, 1.0, "log", "a"),
            (2, 2.0, "progress", "{}"),
            (3, 3.0, "log", "c"),
        ]

    async def test_can_be_followed_from_a_line_on(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())
        await store.add_news(job.id, [NewsLine(1.0, "log", text) for text in "abc"])
        assert await store.news(job.id, after=2) == [(3, 1.0, "log", "c")]
        assert await store.news(job.id, after=3) == []

    async def test_keeps_the_last_thousand_lines_and_marks_the_cut(self, store: Store) -> None:
        job = await store.insert(a_job(), a_spec())
        for start in range(0, 2_500, 50):
            lines = [NewsLine(1.0, "log", str(n)) for n in range(start, start + 50)]
            await store.add_news(job.id, lines)
        cut, *rest = await store.news(job.id)
        assert cut == (1_500, 1.0, "cut", "… 1500 earlier lines were cut")
        assert [text for *_, text in rest] == [str(n) for n in range(1_500, 2_500)]

    async def test_keeps_of_progress_only_the_last_before_another_line(self, store: Store) -> None:
        """However often a job says how far it is, its log is not pushed out."""
        job = await store.insert(a_job(), a_spec())
        await store.add_news(job.id, [NewsLine(1.0, "log", "first")])
        for n in range(30):
            twice = [NewsLine(2.0, "progress", str(n)), NewsLine(3.0, "progress", f"{n}.5")]
            await store.add_news(job.id, twice, lambda _topic: 10)
        await store.add_news(job.id, [NewsLine(4.0, "log", "last")])
        await store.add_news(job.id, [NewsLine(5.0, "progress", "30", attempt=1, said=9)])
        assert [line[2:] for line in await store.news(job.id)] == [
            ("log", "first"),
            ("progress", "29.5"),
            ("log", "last"),
            ("progress", "30"),
        ]
        assert await store.heard([job.id]) == {job.id: (1, 9)}

    async def test_tells_as_what_of_which_attempt_it_was_said_last(self, store: Store) -> None:
        one, two, three = [await store.insert(a_job(), a_spec()) for _ in range(3)]
        for number in (7, 8):
            await store.add_news(one.id, [NewsLine(1.0, "log", "a", attempt=2, said=number)])
        await store.add_news(two.id, [NewsLine(1.0, "log", "a")])
        assert await store.heard([one.id, two.id, three.id]) == {one.id: (2, 8)}

    async def test_of_a_job_that_is_not_there_is_dropped(self, store: Store) -> None:
        await store.add_news(new_id(), [NewsLine(1.0, "log", "a")])


class TestGroupCommit:
    async def test_what_is_asked_at_the_same_time_shares_a_commit(self, store: Store) -> None:
        """DESIGN §12: collect what waits, one fsync, wake all."""
        before = store.commits
        await asyncio.gather(*(store.insert(a_job(), a_spec()) for _ in range(3_000)))
        assert 3 <= store.commits - before <= 6
        assert await store.counts() == {State.QUEUED: 3_000}

    async def test_answers_in_the_order_of_asking(self, store: Store) -> None:
        kept = await asyncio.gather(*(store.insert(a_job(), a_spec()) for _ in range(300)))
        assert [job.seq for job in kept] == list(range(1, 301))

    async def test_counts_follow_each_change(self, store: Store) -> None:
        jobs = [await store.insert(a_job(), a_spec()) for _ in range(3)]
        await store.change([(job.id, meets(Event.ASSIGN)) for job in jobs[:2]])
        await store.change([(jobs[0].id, meets(Event.SUCCEED))])
        assert await store.counts() == {
            State.QUEUED: 1,
            State.ASSIGNED: 1,
            State.SUCCEEDED: 1,
        }


class TestAClosedStore:
    async def test_has_done_all_that_was_asked(self, tmp_path: Path) -> None:
        store = Store.open(tmp_path)
        adding = [asyncio.create_task(store.insert(a_job(), a_spec())) for _ in range(100)]
        await asyncio.sleep(0)
        await store.close()
        assert len({job.seq for job in await asyncio.gather(*adding)}) == 100

    async def test_says_so_when_it_is_asked(self, tmp_path: Path) -> None:
        store = Store.open(tmp_path)
        await store.close()
        await store.close()
        with pytest.raises(StoreFault, match="closed"):
            await store.insert(a_job(), a_spec())
        with pytest.raises(StoreFault, match="closed"):
            await store.job(new_id())

    async def test_leaves_one_file_and_the_reserve(self, tmp_path: Path) -> None:
        store = Store.open(tmp_path)
        await store.insert(a_job(), a_spec())
        await store.close()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["reserve", "store.db"]

    async def test_that_is_opened_again_has_all_of_it(self, tmp_path: Path) -> None:
        store = Store.open(tmp_path)
        job = await store.insert(a_job(key="k"), a_spec())
        await store.keep_mark(Mark("boot", 1.5, 2.5))
        await store.close()
        again = Store.open(tmp_path)
        assert await again.job(job.id) == job
        assert again.store_id == store.store_id
        assert (store.boot, again.boot) == (1, 2)
        assert (store.mark, again.mark) == (None, Mark("boot", 1.5, 2.5))
        assert (await again.insert(a_job(), a_spec())).seq == job.seq + 1
        assert await again.counts() == {State.QUEUED: 2}
        await again.close()

    async def test_in_another_folder_is_another_store(self, tmp_path: Path) -> None:
        one, two = Store.open(tmp_path / "1"), Store.open(tmp_path / "2")
        assert one.store_id != two.store_id
        await one.close()
        await two.close()


class TestAnId:
    async def test_is_found_by_a_unique_start(self, store: Store) -> None:
        job = await store.insert(a_job(id="0" * 25 + "a"), a_spec())
        other = await store.insert(a_job(id="1" * 26), a_spec())
        assert await store.resolve(job.id) == job.id
        assert await store.resolve("0") == job.id
        assert await store.resolve("111") == other.id
        assert await store.resolve("0" * 25 + "A") == job.id

    async def test_that_starts_like_another_is_ambiguous(self, store: Store) -> None:
        for end in "ab":
            await store.insert(a_job(id="0" * 25 + end), a_spec())
        with pytest.raises(AmbiguousId):
            await store.resolve("000")

    @pytest.mark.parametrize("prefix", ["", "2", "0" * 27, "%", "_", "ü", "\udc80", "0'"])
    async def test_that_is_none_is_not_found(self, store: Store, prefix: str) -> None:
        await store.insert(a_job(id="0" * 26), a_spec())
        with pytest.raises(JobNotFound):
            await store.resolve(prefix)


async def test_every_column_has_the_name_of_its_field(store: Store) -> None:
    for table, names in (("jobs", rows.JOB_FIELDS), ("held", rows.HELD_FIELDS)):
        info = store._writer._connection.execute(f"PRAGMA table_info({table})").fetchall()
        assert {row[1] for row in info} == set(names)
