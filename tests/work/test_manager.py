"""Own jobs on one instance: taken in, run, recorded; output files all or none."""

import asyncio
import errno
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from offload import App, Cancel, File, Retry, codec
from offload.blobs import Blobs
from offload.errors import Conflict, DiskFull, InvalidTopic, PayloadError, Refused, UsageError
from offload.events import Bus
from offload.leases import origin
from offload.payload import decode, encode
from offload.testing import MovedClock
from offload.work.executors import Executors
from offload.work.jobs import (
    Delivery,
    FileEntry,
    Job,
    Options,
    Outcome,
    Result,
    RetryRule,
    Spec,
    State,
    digest,
    new_id,
    read_demands,
    stopped,
)
from offload.work.manager import Arrived, JobChanged, JobNews, JobQueued, Manager, outputs
from offload.work.manager.intake import Intake
from offload.work.manager.recording import DISK_FULL_EVERY_S
from offload.work.manager.turnstile import AT_ONCE
from offload.work.queues import QueueRule, QueueType
from offload.work.store import Step, Store

OWN = "own"
QUEUE = QueueRule("main", 2, RetryRule(retries=1, delay_s=lambda _: 5.0))


def app() -> App:
    app = App()

    @app.consumer("math/half")
    async def half(number: int) -> float:
        if number == 13:
            raise Cancel("unlucky")
        if number % 2:
            raise Retry("odd")
        return number / 2

    @app.consumer("file/two")
    async def two(text: str, source: File | None = None) -> list[File]:
        files = []
        for name in ("a.txt", "b.txt"):
            path = Path(os.environ["OUT"]) / name
            path.write_text(text if source is None else source.path.read_text())
            files.append(File(path))
        return files

    return app


class House:
    """A manager with what it stands on, and what it told."""

    def __init__(self, manager: Manager, store: Store, blobs: Blobs, clock: MovedClock) -> None:
        self.manager, self.store, self.blobs, self.clock = manager, store, blobs, clock
        self.told: list[object] = []

    async def add(self, topic: str, *, options: Options | None = None, **arguments: Any) -> Job:
        return await self.manager.add(topic, encode(arguments), options or Options())

    async def assign(self, job: Job, worker: str = OWN) -> Job:
        def rule(job: Job) -> Step[Job]:
            kept = origin.started(origin.assign(job, worker), 1.0, 1.0)
            return Step(kept, keep=kept)

        [kept] = await self.manager.change([(job.id, rule)])
        assert kept is not None
        return kept

    async def run(self, job: Job) -> Job:
        """Run one attempt here, and return the job as it is then."""
        over = asyncio.Event()
        stop = self.bus.listen(JobChanged, lambda fact: fact.was is State.ACTIVE and over.set())
        spec = await self.store.spec(job.id)
        assert spec is not None
        self.manager.start(await self.assign(job), spec)
        async with asyncio.timeout(20):
            await over.wait()
        stop()
        return await self.job(job)

    async def job(self, job: Job) -> Job:
        found = await self.store.job(job.id)
        assert found is not None
        return found


async def until_queued(house: House, job: Job) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while (await house.job(job)).state is not State.QUEUED:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(folder: Path, clock: MovedClock) -> AsyncIterator[House]:
    store, blobs, bus = Store.open(folder / "store"), Blobs(folder / "blobs"), Bus()
    executors = Executors(app(), run_file=folder / "children.json")
    manager = Manager(
        store=store,
        blobs=blobs,
        executors=executors,
        bus=bus,
        clock=clock,
        own_id=OWN,
        queue_of=lambda _: QUEUE,
        work_folder=folder / "work",
        results_folder=folder / "results",
    )
    house = House(manager, store, blobs, clock)
    house.bus = bus
    bus.listen((JobQueued, JobChanged, JobNews), house.told.append)
    yield house
    await manager.close()
    await executors.close()
    await store.close()


@pytest.fixture
async def house(
    tmp_path: Path, moved_clock: MovedClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    monkeypatch.setenv("OUT", str(tmp_path))
    async with opened(tmp_path, moved_clock) as house:
        yield house


class TestAJobThatIsAdded:
    async def test_is_in_the_store_and_told_of(self, house: House) -> None:
        job = await house.add("math/half", number=4)
        assert await house.job(job) == job
        assert house.told == [JobQueued(job)]

    async def test_keeps_its_content_as_it_was(self, house: House, tmp_path: Path) -> None:
        """C104."""
        source = tmp_path / "in.txt"
        source.write_text("as it was")
        job = await house.add("file/two", text="", source=File(source))
        source.write_text("as it is")
        await house.run(job)
        assert (tmp_path / "results" / job.id / "a.txt").read_text() == "as it was"

    async def test_under_a_known_key_is_the_same_job(self, house: House) -> None:
        """G23."""
        first = await house.add("math/half", options=Options(key="k"), number=4)
        assert (await house.add("math/half", options=Options(key="k"), number=4)).id == first.id
        with pytest.raises(Conflict, match=first.id):
            await house.add("math/half", options=Options(key="k"), number=6)
        assert house.told == [JobQueued(first)]

    async def test_follows_the_rules_as_they_are_then(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        former = await house.add("math/half", number=4)
        rule = replace(QUEUE, priority=9, type=QueueType.ORDERED)
        monkeypatch.setattr(house.manager._intake, "_queue_of", lambda _topic: rule)
        job = await house.add("math/half", number=4)
        assert (former.priority, former.lane) == (0, "")
        assert (job.priority, job.lane, job.delivery) == (9, "queue main", Delivery.EXCLUSIVE)

    async def test_demands_what_its_own_options_say(self, house: House) -> None:
        """Of options that are equal to those of the job before: ``True`` is no 1."""
        jobs = [
            await house.add("math/half", options=Options(where={"ssd": value}), number=4)
            for value in (1, True)
        ]
        wanted = [read_demands(job.demands).where["ssd"] for job in jobs]
        assert wanted == ["1", "true"]

    async def test_is_refused_whatever_the_one_before_demands(self, house: House) -> None:
        await house.add("math/half", options=Options(needs={"gpu": 1}), number=4)
        with pytest.raises(UsageError, match="True is no amount above 0"):
            await house.add("math/half", options=Options(needs={"gpu": True}), number=4)

    async def test_is_told_of_while_the_last_of_many_are_still_to_be_made(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made, many = Counter[bool](), 10 * AT_ONCE
        make = Intake.make

        async def counted(*args: Any) -> tuple[Job, Spec]:
            made[bool(house.told)] += 1
            return await make(*args)

        monkeypatch.setattr(Intake, "make", counted)
        jobs = await asyncio.gather(*(house.add("math/half", number=4) for _ in range(many)))
        assert made == {False: AT_ONCE, True: many - AT_ONCE}
        assert [job.seq for job in jobs] == sorted(job.seq for job in jobs)

    async def test_for_later_waits(self, house: House) -> None:
        job = await house.add("math/half", options=Options(run_after_s=60), number=4)
        assert job.not_before == house.clock.now() + 60

    @pytest.mark.parametrize(
        ("topic", "options", "error"),
        [
            ("no topic", Options(), InvalidTopic),
            ("a/b", Options(if_exists="ask"), UsageError),
            ("a/b", Options(delivery="often"), UsageError),
            ("a/b", Options(timeout_s=0), UsageError),
            ("a/b", Options(retries=-2), UsageError),
            ("a/b", Options(retry_delay_s=-1), UsageError),
            ("a/b", Options(run_after_s=-1), UsageError),
            ("a/b", Options(priority=2**31), UsageError),
        ],
    )
    async def test_wrongly_is_refused(
        self, house: House, topic: str, options: Options, error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            await house.add(topic, options=options)
        assert await house.store.counts() == {}

    async def test_with_a_file_that_is_none_is_refused(self, house: House, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(PayloadError, match=path.name):
                await house.add("file/two", text="", source=File(path))
        assert await house.store.counts() == {}

    async def test_with_a_large_payload_has_it_as_a_blob(self, house: House) -> None:
        job = await house.add("math/half", number=4, ballast="x" * 300_000)
        spec = await house.store.spec(job.id)
        assert spec is not None
        assert spec.payload is None
        assert house.blobs.size(spec.payload_sha256) == spec.payload_size > 300_000


class TestAnAttempt:
    async def test_that_succeeds_ends_the_job(self, house: House) -> None:
        job = await house.run(await house.add("math/half", number=4))
        outcome = await house.store.outcome(job.id)
        [attempt] = await house.store.attempts(job.id)
        assert outcome is not None
        assert (job.state, decode(outcome.value, [])) == (State.SUCCEEDED, 2.0)
        assert (attempt.number, attempt.worker, attempt.result) == (1, OWN, Result.SUCCEEDED)
        assert job.finished_wall > 0
        assert isinstance(house.told[-1], JobChanged)

    async def test_that_fails_is_tried_again_until_the_retries_are_used_up(
        self, house: House
    ) -> None:
        """C004."""
        job = await house.run(await house.add("math/half", number=3))
        assert (job.state, job.failures) == (State.QUEUED, 1)
        assert job.not_before == house.clock.now() + 5
        assert JobQueued(job) in house.told
        job = await house.run(job)
        assert (job.state, job.failures, job.reason) == (State.GIVEN_UP, 2, "odd")

    async def test_that_is_over_is_told_of_before_what_follows_in_the_same_commit(
        self, house: House
    ) -> None:
        """What no longer waits is not told of as waiting: somebody would look for it."""
        job = await house.assign(await house.add("math/half", number=3))
        house.told.clear()
        rules = [
            lambda job: Step(None, keep=job.but(state=State.QUEUED)),
            lambda job: Step(None, keep=stopped(job, 1.0, "enough")),
        ]
        await house.manager.change([(job.id, rule) for rule in rules])
        told = [(type(fact), fact.job.state) for fact in house.told]
        assert told == [
            (JobChanged, State.QUEUED),
            (JobQueued, State.QUEUED),
            (JobChanged, State.STOPPED),
        ]

    async def test_that_says_never_again_ends_in_error(self, house: House) -> None:
        job = await house.run(await house.add("math/half", number=13))
        assert (job.state, job.reason) == (State.ERROR, "unlucky")

    async def test_leaves_no_folder_behind(self, house: House, tmp_path: Path) -> None:
        """C105."""
        for number in (3, 4, 13):
            await house.run(await house.add("math/half", number=number))
        assert list((tmp_path / "work").glob("*")) == []

    async def test_that_ended_twice_counts_once(self, house: House) -> None:
        job = await house.run(await house.add("math/half", number=4))
        late = Arrived(job.id, OWN, 1, Outcome(Result.FAILED, reason="late"))
        await house.manager.record([late, late])
        assert await house.job(job) == job
        assert len(await house.store.attempts(job.id)) == 1


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestOutputFiles:
    """C100: all of them at the place that was named, or none, before the job is SUCCEEDED."""

    @pytest.mark.parametrize(
        ("if_exists", "expected"),
        [
            ("keep-both", {"a.txt": "old", "a (1).txt": "new", "b.txt": "new"}),
            ("overwrite", {"a.txt": "new", "b.txt": "new"}),
        ],
    )
    async def test_meet_others_as_was_asked(
        self, house: House, tmp_path: Path, if_exists: str, expected: dict[str, str]
    ) -> None:
        into = tmp_path / "into"
        into.mkdir()
        (into / "a.txt").write_text("old")
        options = Options(into=str(into), if_exists=if_exists)
        job = await house.run(await house.add("file/two", options=options, text="new"))
        assert {path.name: path.read_text() for path in into.iterdir()} == expected
        assert {Path(path).read_text() for path in job.outputs} == {"new"}

    async def test_that_may_not_meet_others_are_not_placed(
        self, house: House, tmp_path: Path
    ) -> None:
        into = tmp_path / "into"
        into.mkdir()
        (into / "b.txt").write_text("old")
        options = Options(into=str(into), if_exists="refuse")
        job = await house.run(await house.add("file/two", options=options, text="new"))
        assert (job.state, names(into)) == (State.ERROR, ["b.txt"])
        assert "b.txt exists" in job.reason

    async def test_of_one_name_are_both_kept(self, house: House, tmp_path: Path) -> None:
        sha256 = house.blobs.put_bytes(b"x")
        entries = [FileEntry("a.txt", sha256, 1)] * 2
        plan = outputs.stage(house.blobs, entries, tmp_path / "into", "keep-both", "tag")
        outputs.carry_out(plan)
        assert names(tmp_path / "into") == ["a (1).txt", "a.txt"]

    async def test_with_names_that_lead_elsewhere_end_the_job(
        self, house: House, tmp_path: Path
    ) -> None:
        """C103, G37: the name comes from the worker."""
        job = await house.assign(await house.add("file/two", text=""), "peer")
        sha256 = house.blobs.put_bytes(b"x")
        files = (FileEntry("../evil", sha256, 1),)
        outcome = Outcome(Result.SUCCEEDED, encode({}).data, files=files)
        await house.manager.record([Arrived(job.id, "peer", 1, outcome)])
        job = await house.job(job)
        assert (job.state, "../evil" in job.reason) == (State.ERROR, True)
        assert not list(tmp_path.rglob("*evil*"))

    async def test_go_to_a_folder_of_ones_home(
        self, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        options = Options(into="~/sites")
        job = await house.run(await house.add("file/two", options=options, text="new"))
        assert {Path(path).parent for path in job.outputs} == {tmp_path / "home" / "sites"}
        nobody = Options(into="~offload-nobody/sites")
        with pytest.raises(UsageError, match="into: ~offload-nobody/sites: "):
            await house.add("file/two", options=nobody, text="new")

    async def test_into_a_folder_that_cannot_be_are_refused_at_once(
        self, house: House, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        options = Options(into=str(tmp_path / "file" / "into"))
        with pytest.raises(UsageError, match=r"into: .* cannot be written"):
            await house.add("file/two", options=options, text="new")

    async def test_into_a_folder_that_cannot_be_any_more_end_the_job(
        self, house: House, tmp_path: Path
    ) -> None:
        options = Options(into=str(tmp_path / "file" / "into"))
        job = await house.add("file/two", options=options, text="new")
        (tmp_path / "file").write_text("")
        job = await house.run(job)
        assert job.state is State.ERROR
        assert "could not be placed" in job.reason

    async def test_that_break_off_halfway_leave_none(
        self, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outputs, "_move", failing_at(2, OSError(errno.EIO, "broken")))
        job = await house.run(await house.add("file/two", text="new"))
        assert (job.state, job.outputs) == (State.ERROR, ())
        assert names(tmp_path / "results" / job.id) == []


def failing_at(number: int, error: Exception, *, times: int = 1) -> Callable[..., str]:
    """Return ``outputs._move`` that fails at its call ``number`` and the next ``times - 1``."""
    calls = iter(range(1, 1000))
    real = outputs._move

    def move(staged: Path, target: Path, if_exists: str) -> str:
        if number <= next(calls) < number + times:
            raise error
        return real(staged, target, if_exists)

    return move


class TestAFullDisk:
    """C087: it is a state, not an end; when there is room, everything goes on by itself."""

    @pytest.mark.parametrize("at", [1, 2])
    async def test_at_placing_waits_for_room(
        self, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
    ) -> None:
        full = OSError(errno.ENOSPC, "no space left")
        monkeypatch.setattr(outputs, "_move", failing_at(at, full, times=2))
        running = asyncio.ensure_future(house.run(await house.add("file/two", text="new")))
        while not running.done():
            await asyncio.sleep(0.01)
            await house.clock.advance(1)
        job = running.result()
        assert job.state is State.SUCCEEDED
        assert names(tmp_path / "results" / job.id) == ["a.txt", "b.txt"]

    async def test_at_staging_waits_for_room(
        self, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, room = house.blobs.place, []

        def place(*args: Any, **named: Any) -> None:
            if not room:
                raise OSError(errno.ENOSPC, "no space left")
            real(*args, **named)

        monkeypatch.setattr(house.blobs, "place", place)
        job = await house.add("file/two", text="new")
        running = asyncio.ensure_future(house.run(job))
        await asyncio.wait([running], timeout=0.2)
        assert (await house.job(job)).state is State.ACTIVE
        assert names(tmp_path / "results" / job.id) == []
        room.append(True)
        while not running.done():
            await asyncio.sleep(0.01)
            await house.clock.advance(1)
        assert running.result().state is State.SUCCEEDED


class Stopped(BaseException):
    """The power is off."""


class TestACrashWhileFilesArePlaced:
    """G16: what the plan says is carried out at the next start."""

    @pytest.mark.parametrize("renamed", [0, 1, 2])
    async def test_is_made_good_at_start(
        self,
        tmp_path: Path,
        moved_clock: MovedClock,
        monkeypatch: pytest.MonkeyPatch,
        renamed: int,
    ) -> None:
        async with opened(tmp_path, moved_clock) as house:
            job = await house.assign(await house.add("file/two", text=""), "peer")
            files = tuple(
                FileEntry(name, house.blobs.put_bytes(name.encode()), 5)
                for name in ("a.txt", "b.txt")
            )
            outcome = Outcome(Result.SUCCEEDED, encode({}).data, files=files)
            with monkeypatch.context() as patch:
                patch.setattr(outputs, "_move", failing_at(renamed + 1, Stopped()))
                patch.setattr(outputs, "_sync", partial(power, renamed, outputs._sync))
                with pytest.raises(Stopped):
                    await house.manager.record([Arrived(job.id, "peer", 1, outcome)])
            assert (await house.job(job)).state is State.ACTIVE
        async with opened(tmp_path, moved_clock) as house:
            await house.manager.recover()
            job = await house.job(job)
            assert job.state is State.SUCCEEDED
            assert names(tmp_path / "results" / job.id) == ["a.txt", "b.txt"]
            assert [Path(path).name for path in job.outputs] == ["a.txt", "b.txt"]
            await house.manager.recover()
            assert await house.store.placings() == []

    @pytest.mark.parametrize("into", ["", "elsewhere"])
    async def test_leaves_nothing_of_an_attempt_that_is_not_the_last(
        self, tmp_path: Path, moved_clock: MovedClock, monkeypatch: pytest.MonkeyPatch, into: str
    ) -> None:
        """What was staged before the plan was committed is of no use to another attempt."""
        folder = str(tmp_path / into) if into else ""
        async with opened(tmp_path, moved_clock) as house:
            options = Options(into=folder)
            job = await house.add("file/two", options=options, text="")
            job = await house.assign(job, "peer")
            entry = FileEntry("a.txt", house.blobs.put_bytes(b"a"), 1)
            outcome = Outcome(Result.SUCCEEDED, encode({}).data, files=(entry,))
            with monkeypatch.context() as patch:
                patch.setattr(house.store, "change", cut_off)
                with pytest.raises(Stopped):
                    await house.manager.record([Arrived(job.id, "peer", 1, outcome)])
            place = Path(folder) if folder else tmp_path / "results" / job.id
            (place / ".offload-another-1-0.part").write_text("of somebody else")
            assert f".offload-{job.id}-1-0.part" in names(place)
        async with opened(tmp_path, moved_clock) as house:
            await house.manager.recover()
            assert names(place) == [".offload-another-1-0.part"]

    @pytest.mark.parametrize("plan", [b"\xc1", codec.pack([1]), codec.pack(["refuse", [["a"]]])])
    async def test_by_a_plan_that_cannot_be_read_is_the_end_of_that_job_alone(
        self, tmp_path: Path, moved_clock: MovedClock, monkeypatch: pytest.MonkeyPatch, plan: bytes
    ) -> None:
        """C012: the others go on, and what was staged is not left lying about."""
        async with opened(tmp_path, moved_clock) as house:
            job = await house.assign(await house.add("file/two", text=""), "peer")
            entry = FileEntry("a.txt", house.blobs.put_bytes(b"a"), 1)
            outcome = Outcome(Result.SUCCEEDED, encode({}).data, files=(entry,))
            with monkeypatch.context() as patch:
                patch.setattr(outputs.Plan, "pack", lambda _: plan)
                patch.setattr(outputs, "_move", failing_at(1, Stopped()))
                with pytest.raises(Stopped):
                    await house.manager.record([Arrived(job.id, "peer", 1, outcome)])
        async with opened(tmp_path, moved_clock) as house:
            assert len(await house.store.placings()) == 1
            await house.manager.recover()
            job = await house.job(job)
            assert job.state is State.ERROR
            assert "output files could not be placed" in job.reason
            assert names(tmp_path / "results" / job.id) == []
            assert await house.store.placings() == []

    async def test_cannot_be_stopped_any_more(self, house: House) -> None:
        job = await house.assign(await house.add("file/two", text=""), "peer")
        assert origin.stop(job._replace(placing=1), now=2.0) is None


async def cut_off(*_: Any) -> Any:
    raise Stopped


def power(renamed: int, real: Callable[[Path], None], path: Path) -> None:
    """Sync a file; but fail at the folder after both files are renamed."""
    if renamed == 2 and path.is_dir():
        raise Stopped
    real(path)


class TestAJobThatIsDropped:
    async def test_while_it_waits_is_in_the_history(self, house: House) -> None:
        """C003."""
        job = await house.add("math/half", number=4)
        assert await house.manager.control.drop(job.id)
        assert (await house.job(job)).state is State.DROPPED

    async def test_from_the_history_is_gone(self, house: House) -> None:
        job = await house.run(await house.add("math/half", number=4))
        assert await house.manager.control.drop(job.id)
        assert await house.store.job(job.id) is None

    async def test_while_it_runs_stays(self, house: House) -> None:
        job = await house.assign(await house.add("math/half", number=4))
        assert not await house.manager.control.drop(job.id)
        assert await house.job(job) == job


class TestAJobThatIsAddedAgain:
    async def test_is_a_new_one_with_the_same_content(self, house: House) -> None:
        """C042."""
        job = await house.run(await house.add("math/half", options=Options(priority=3), number=4))
        again = await house.manager.add_again(job)
        assert (again.id != job.id, again.state, again.priority) == (True, State.QUEUED, 3)
        assert (await house.run(again)).state is State.SUCCEEDED

    async def test_without_its_files_is_refused(self, house: House, tmp_path: Path) -> None:
        (tmp_path / "in.txt").write_text("x")
        source = File(tmp_path / "in.txt")
        job = await house.run(await house.add("file/two", text="", source=source))
        house.blobs.prune(set(), -1)
        with pytest.raises(Refused, match="no longer"):
            await house.manager.add_again(job)

    async def test_with_arguments_that_cannot_be_read_is_refused_and_holds_nothing(
        self, house: House
    ) -> None:
        entry = FileEntry("a.txt", house.blobs.put_bytes(b"a"), 1)
        spec = Spec("math/half", b"\xc1", digest(b"\xc1"), 1, (entry,))
        job = Job(new_id(), "math/half", "main", State.ERROR)
        job = await house.store.insert(job, spec)
        with pytest.raises(Refused, match=f"job {job.id}: its arguments cannot be read"):
            await house.manager.add_again(job)
        assert house.blobs.prune(set(), -1) == 1


async def test_a_crash_of_the_consumer_counts_apart(house: House) -> None:
    job = await house.assign(await house.add("math/half", number=4))
    crash = Arrived(job.id, OWN, 1, Outcome(Result.CRASHED, reason="signal 9"))
    await house.manager.record([crash])
    job = await house.job(job)
    assert (job.state, job.crashes, job.failures) == (State.QUEUED, 1, 0)


async def test_news_are_kept_and_told(house: House) -> None:
    job = await house.add("math/half", number=4)
    house.manager.hear(job.id, [(1.0, "log", "one"), (2.0, "log", "two")])
    assert house.told[1:] == [
        JobNews(job.id, 1.0, "log", "one"),
        JobNews(job.id, 2.0, "log", "two"),
    ]
    async with asyncio.timeout(5):
        while len(await house.store.news(job.id)) < 2:
            await asyncio.sleep(0.01)
    assert [text for *_, text in await house.store.news(job.id)] == ["one", "two"]


class TestAnOwnJobThatWaitsForAPlaceHere:
    """It was assigned, but others took the places before it."""

    @pytest.fixture
    async def waiting(self, house: House) -> Job:
        for number in range(QUEUE.max_parallel):
            house.manager.runs.enter(("store", f"other{number}"), "math/half", "peer", lambda: None)
        job = await house.add("math/half", options=Options(delivery="at-most-once"), number=4)
        await self.line_up(house, job)
        return job

    async def line_up(self, house: House, job: Job) -> None:
        spec = await house.store.spec(job.id)
        assert spec is not None
        house.manager.start(await house.assign(job), spec)

    def free_all(self, house: House) -> None:
        for number in range(QUEUE.max_parallel):
            house.manager.runs.leave(("store", f"other{number}"))

    async def test_is_queued_again_when_its_queue_is_suspended(
        self, house: House, waiting: Job
    ) -> None:
        """C018: nothing starts after it; an at-most-once job too, for it was never begun."""
        await house.manager.gates.suspend("main")
        job = await house.job(waiting)
        assert (job.state, job.started_at, job.not_before) == (State.QUEUED, 0.0, 0.0)
        assert job.reason == "its queue main is suspended"
        self.free_all(house)
        assert house.manager.runs.busy("math/half") == 0
        await house.manager.gates.resume("main")
        assert (await house.run(job)).state is State.SUCCEEDED

    async def test_is_queued_again_when_nothing_is_processed_here(
        self, house: House, waiting: Job
    ) -> None:
        """C015."""
        await house.manager.gates.set_processing(enabled=False)
        assert (await house.job(waiting)).state is State.QUEUED

    async def test_is_queued_again_at_once_if_the_queue_was_suspended_while_it_came(
        self, house: House
    ) -> None:
        job = await house.add("math/half", number=4)
        await house.manager.gates.suspend("main")
        await self.line_up(house, job)
        await until_queued(house, job)
        assert house.manager.runs.busy("math/half") == 0

    async def test_stays_in_line_when_another_queue_is_suspended(
        self, house: House, waiting: Job
    ) -> None:
        await house.manager.gates.suspend("other")
        assert (await house.job(waiting)).state is State.ACTIVE
        assert house.manager.runs.busy("math/half") == QUEUE.max_parallel + 1

    async def test_is_handed_back_at_no_cost_when_the_instance_ends(
        self, house: House, waiting: Job
    ) -> None:
        """C088: it did not run, so it did not crash."""
        await house.manager.hand_back()
        job = await house.job(waiting)
        assert (job.state, job.crashes, job.failures) == (State.QUEUED, 0, 0)

    async def test_is_queued_again_later_if_the_disk_is_full(
        self, house: House, waiting: Job, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C087: it has left the line, so that nobody else would ever run it."""

        async def no_room(*_: Any) -> Any:
            raise DiskFull

        with monkeypatch.context() as patch:
            patch.setattr(house.store, "change", no_room)
            await house.manager.gates.suspend("main")
        await house.clock.advance(DISK_FULL_EVERY_S)
        await until_queued(house, waiting)

    async def test_is_stopped_if_somebody_asked_for_that(self, house: House, waiting: Job) -> None:
        def stop(job: Job) -> Step[None]:
            return Step(None, keep=origin.stop(job, 1.0))

        await house.manager.change([(waiting.id, stop)])
        await house.manager.gates.suspend("main")
        assert (await house.job(waiting)).state is State.STOPPED
