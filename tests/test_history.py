"""How long jobs that have ended are kept."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from offload import App
from offload.config import Config
from offload.errors import ConfigError
from offload.history import SPARED_S, History, Retention
from offload.testing import Lan, MovedClock
from offload.work.jobs import FINAL, Job, Spec, State, digest, new_id
from offload.work.store import Store

SPEC = Spec("a", b"\x80", digest(b"\x80"))
HOUR_S = 3600.0
app = App()


@app.consumer("kept/well")
@app.consumer("well")
async def well() -> str:
    return "well"


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store.open()
    yield store
    await store.close()


class Archive:
    """A store and its history; ``old`` adds a job that ended so many hours ago."""

    def __init__(self, store: Store, clock: MovedClock, retention: Retention) -> None:
        self.store, self.clock = store, clock
        keeps = "kept".__eq__
        self.history = History(store, clock, store.forget, lambda: retention, keeps)

    async def old(self, hours: float, state: State = State.ERROR, topic: str = "a") -> Job:
        at = self.clock.now() - hours * HOUR_S
        job = Job(new_id(), topic, "main", state)._replace(finished_at=at)
        return await self.store.insert(job, SPEC)

    async def left(self) -> set[str]:
        return {job.id for job in await self.store.find(limit=10_000)}


def archive(store: Store, clock: MovedClock, **rules: object) -> Archive:
    return Archive(store, clock, replace(Retention(), **rules))


class TestHistory:
    """C041: pruned by age (default 48 h) and by count; SUCCEEDED stays where the queue keeps it."""

    @pytest.mark.parametrize("state", sorted(FINAL - {State.SUCCEEDED}))
    async def test_is_kept_for_48_hours(
        self, store: Store, moved_clock: MovedClock, state: State
    ) -> None:
        rooms = archive(store, moved_clock)
        await rooms.old(48.1, state)
        kept = await rooms.old(47.9, state)
        assert await rooms.history.tidy() == 1
        assert await rooms.left() == {kept.id}

    async def test_of_what_succeeded_goes_after_a_day_unless_the_queue_keeps_it(
        self, store: Store, moved_clock: MovedClock
    ) -> None:
        rooms = archive(store, moved_clock)
        for hours in (24.1, 48.1):
            await rooms.old(hours, State.SUCCEEDED)
        await rooms.old(48.1, State.SUCCEEDED, "kept")
        kept = [
            await rooms.old(23.9, State.SUCCEEDED),
            await rooms.old(47.9, State.SUCCEEDED, "kept"),
        ]
        assert await rooms.history.tidy() == 3
        assert await rooms.left() == {job.id for job in kept}

    async def test_may_be_kept_longer_for_a_state(
        self, store: Store, moved_clock: MovedClock
    ) -> None:
        rooms = archive(store, moved_clock, by_state={State.ERROR: float("inf")})
        kept = await rooms.old(9_999)
        await rooms.old(9_999, State.STOPPED)
        await rooms.history.tidy()
        assert await rooms.left() == {kept.id}

    async def test_beyond_a_number_loses_the_oldest_whatever_their_state(
        self, store: Store, moved_clock: MovedClock
    ) -> None:
        rooms = archive(store, moved_clock, count=2)
        states = [State.ERROR, State.STOPPED, State.SUCCEEDED, State.ERROR]
        jobs = [await rooms.old(4 - n, state) for n, state in enumerate(states)]
        assert await rooms.history.tidy() == 2
        assert await rooms.left() == {job.id for job in jobs[2:]}

    async def test_never_goes_by_number_right_after_the_end(
        self, store: Store, moved_clock: MovedClock
    ) -> None:
        """A result that somebody waits for does not vanish before it is fetched."""
        rooms = archive(store, moved_clock, count=0)
        kept = await rooms.old((SPARED_S - 1) / HOUR_S, State.SUCCEEDED)
        await rooms.old((SPARED_S + 1) / HOUR_S, State.SUCCEEDED)
        assert await rooms.history.tidy() == 1
        assert await rooms.left() == {kept.id}

    async def test_leaves_what_has_not_ended_however_old_it_is(
        self, store: Store, moved_clock: MovedClock
    ) -> None:
        rooms = archive(store, moved_clock, count=0)
        live = [await rooms.old(9_999, state) for state in sorted(set(State) - FINAL)]
        assert await rooms.history.tidy() == 0
        assert await rooms.left() == {job.id for job in live}

    async def test_goes_page_by_page(self, store: Store, moved_clock: MovedClock) -> None:
        rooms = archive(store, moved_clock, count=100)
        for _ in range(700):
            await rooms.old(1.0)
            await rooms.old(50.0)
        assert await rooms.history.tidy() == 1_300
        assert len(await rooms.left()) == 100


class TestANode:
    async def test_tidies_its_history_by_its_configuration(self, lan: Lan) -> None:
        """C041: through the whole instance."""
        node = await lan.node(
            app,
            queues={"kept": {"topics": ["kept/*"], "keep": True}},
            history={"days": 1, "succeeded": "1h"},
        )
        jobs = [await node.submit(topic) for topic in ("well", "kept/well")]
        for job in jobs:
            assert await lan.until(job.result()) == "well"
        await lan.clock.advance(600)
        assert len(await node.jobs(states="history")) == 2
        await lan.clock.advance(HOUR_S)
        assert [entry["id"] for entry in await node.jobs(states="history")] == [jobs[1].id]


class TestTheConfiguration:
    def test_says_days_number_and_states(self, tmp_path: Path) -> None:
        path = tmp_path / "offload.toml"
        path.write_text("[history]\ndays = 0.5\ncount = 10\n[history.states]\nerror = 30\n")
        history = Config.load(path).history
        assert (history.days, history.count, history.states) == (0.5, 10, {"error": 30.0})
        assert history.succeeded_s == 86_400.0

    @pytest.mark.parametrize(
        ("table", "key"),
        [
            ({"days": -1}, "history.days"),
            ({"count": -1}, "history.count"),
            ({"succeeded": "1s"}, "history.succeeded"),
            ({"states": {"queued": 1}}, "history.states.queued"),
            ({"hour": 1}, "history.hour"),
        ],
    )
    def test_is_checked(self, table: dict[str, object], key: str) -> None:
        with pytest.raises(ConfigError) as error:
            Config.make(history=table)
        assert error.value.key == key
