"""Schedules of one instance: what they make, how they last, what of them was missed."""

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from offload import File, Node, codec
from offload.calendar import Times
from offload.config import Config
from offload.errors import (
    ConfigError,
    DiskFull,
    InvalidTopic,
    PayloadError,
    Refused,
    ScheduleNotFound,
    UsageError,
)
from offload.testing import Lan
from offload.work.jobs import Job, Options


async def node_with(lan: Lan, count: Any, **config: Any) -> Node:
    return await lan.node(count.app, name="ada", **config)


def wall(lan: Lan) -> datetime:
    return datetime.fromtimestamp(lan.clock.wall(), UTC)


@pytest.fixture
async def ada(lan: Lan, count: Any) -> Node:
    """Stands at 22:13:20 on a Tuesday, and runs what it makes."""
    return await node_with(lan, count)


class TestASchedule:
    async def test_makes_a_job_each_time(self, lan: Lan, ada: Node, count: Any) -> None:
        await ada.schedule("count/it", cron="*/5 * * * *", word="tick")
        await lan.clock.advance(99)  # 22:14:59
        assert count.ran == []
        await lan.clock.advance(1)
        assert count.ran == ["tick"]
        await lan.clock.advance(600)
        assert count.ran == ["tick"] * 3

    async def test_is_told_with_its_next_five_firings(self, ada: Node) -> None:
        made = await ada.schedule("count/it", weekly=(3, "19:12"), zone="Europe/Berlin")
        assert await ada.schedules() == [made]
        assert await ada.schedule_info(made["id"][:5]) == made
        assert made["next"] == [
            f"2023-{day}T19:12:00+01:00" for day in ("11-15", "11-22", "11-29", "12-06", "12-13")
        ]
        assert (made["when"], made["zone"]) == ("weekly wed 19:12", "Europe/Berlin")
        assert (made["state"], made["scope"], made["misfire"]) == ("active", "instance", "once")
        assert (made["last"], made["fires"], made["fires_name"]) == (None, ada.id, "ada")

    async def test_goes_by_what_is_said_in_three_ways_and_once_each(self, ada: Node) -> None:
        """C009."""
        ids = [
            (await ada.schedule("count/it", **when))["id"]
            for when in (
                {"hourly": 5},
                {"daily": "10:05"},
                {"weekly": "wed 19:12"},
                {"weekly": (3, "19:12")},
            )
        ]
        assert ids[2] == ids[3]
        left = []
        for schedule_id in ids[:3]:
            left.append(len(await ada.schedules()))
            await ada.remove_schedule(schedule_id)
        assert (left, await ada.schedules()) == ([3, 2, 1], [])

    async def test_of_one_moment_fires_and_is_gone(self, lan: Lan, ada: Node, count: Any) -> None:
        """C010."""
        await ada.schedule("count/it", at=wall(lan) + timedelta(seconds=3))
        await lan.clock.advance(2.9)
        assert (count.ran, len(await ada.schedules())) == ([], 1)
        await lan.clock.advance(0.2)
        assert (count.ran, await ada.schedules()) == ([""], [])
        await lan.clock.advance(60)
        assert count.ran == [""]

    async def test_passes_options_and_arguments_on(self, lan: Lan, ada: Node) -> None:
        options = ada.options(priority=7, retries=2)
        await options.schedule("nobody/takes", "first", hourly=14, b=2, a=1)
        await lan.clock.advance(60)
        [job] = await ada.jobs()
        assert (job["priority"], job["topic"], job["state"]) == (7, "nobody/takes", "queued")

    async def test_reads_a_file_at_each_firing(
        self, lan: Lan, ada: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "list.txt"
        path.write_text("one")
        await ada.schedule("nobody/takes", File(path), every="10s")
        await lan.clock.advance(10)
        path.unlink()
        await lan.clock.advance(10)
        assert len(await ada.jobs()) == 1
        [schedule] = await ada.schedules()
        assert "list.txt: cannot be read" in schedule["trouble"]
        path.write_text("two")
        await lan.clock.advance(10)
        assert (len(await ada.jobs()), (await ada.schedules())[0]["trouble"]) == (2, "")


async def test_a_list_of_them_holds_up_nothing_else(
    ada: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next firings of thousands of cron expressions take seconds."""
    await ada.schedule("count/it", cron="0 8 * * mon-fri")
    asked_in: list[int] = []

    def upcoming(_times: Times, _moment: float, _limit: int) -> list[float]:
        asked_in.append(threading.get_ident())
        return []

    monkeypatch.setattr(Times, "upcoming", upcoming)
    assert len(await ada.schedules()) == 1
    [thread] = asked_in
    assert thread != threading.get_ident()


class TestTheSameScheduleAgain:
    """C043."""

    async def test_is_one(self, ada: Node) -> None:
        one = await ada.schedule("count/it", daily="10:05", a=1, b=[2])
        again = await ada.schedule("count/it", b=[2], a=1, daily="10:05:00")
        assert again["id"] == one["id"]
        assert len(await ada.schedules()) == 1

    @pytest.mark.parametrize(
        "other",
        [
            {"daily": "10:06", "a": 1},
            {"daily": "10:05", "a": 2},
            {"daily": "10:05"},
            {"daily": "10:05", "a": 1, "zone": "Asia/Tokyo"},
            {"daily": "10:05", "a": 1, "scope": "topology"},
        ],
        ids=str,
    )
    async def test_with_a_difference_is_another(self, ada: Node, other: dict[str, Any]) -> None:
        await ada.schedule("count/it", daily="10:05", a=1)
        await ada.schedule("count/it", **other)
        assert len(await ada.schedules()) == 2

    async def test_with_another_policy_has_that_one_from_now_on(self, ada: Node) -> None:
        one = await ada.schedule("count/it", daily="10:05")
        await ada.suspend_schedule(one["id"])
        two = await ada.schedule("count/it", daily="10:05", misfire="all")
        assert (two["id"], two["misfire"], two["state"]) == (one["id"], "all", "suspended")

    async def test_neither_waits_longer_nor_fires_twice(
        self, lan: Lan, ada: Node, count: Any
    ) -> None:
        for _ in range(10):
            await ada.schedule("count/it", every="10s")
            await lan.clock.advance(6)
        assert len(count.ran) == 6


class TestWhatCannotBeScheduled:
    @pytest.mark.parametrize(
        ("when", "reason"),
        [
            ({}, "exactly one of"),
            ({"daily": "10:05", "hourly": 5}, "exactly one of"),
            ({"cron": "61 * * * *"}, "^cron: '61"),
            ({"daily": "10:05", "zone": "Mars"}, "no time zone"),
            ({"daily": "10:05", "misfire": "maybe"}, "^misfire: must be one of skip, once, all"),
            ({"daily": "10:05", "scope": "all"}, "^scope: must be one of"),
            ({"daily": "10:05", "word": "x" * 70_000}, "limited to 65536 bytes"),
            ({"daily": "10:05", "scope": "topology", "f": File("x")}, "^files: is not for"),
        ],
        ids=str,
    )
    async def test_is_refused_with_the_reason(
        self, ada: Node, when: dict[str, Any], reason: str
    ) -> None:
        with pytest.raises(UsageError, match=reason):
            await ada.schedule("count/it", **when)
        assert await ada.schedules() == []

    async def test_is_refused_as_a_job_would_be(self, ada: Node) -> None:
        with pytest.raises(InvalidTopic):
            await ada.schedule("count//it", daily="10:05")
        with pytest.raises(PayloadError, match=r"payload\.word"):
            await ada.schedule("count/it", daily="10:05", word=object())
        for options in ({"policy": "best"}, {"delivery": "twice"}, {"expires_in": 0}):
            with pytest.raises(UsageError, match=next(iter(options))):
                await ada.options(**options).schedule("count/it", daily="10:05")

    @pytest.mark.parametrize(
        "wish", [{"key": "k"}, {"run_after": 5}, {"run_at": 2e9}, {"if_full": "wait"}], ids=str
    )
    async def test_is_a_wish_that_is_of_one_job(self, ada: Node, wish: dict[str, Any]) -> None:
        """It is refused, not forgotten."""
        with pytest.raises(UsageError, match=f"^{next(iter(wish))}: is not for a schedule"):
            await ada.options(**wish).schedule("count/it", daily="10:05")

    async def test_keeps_each_other_wish(self, lan: Lan, ada: Node) -> None:
        """All that was said for its jobs is so of each of them, over a restart too."""
        ada = await lan.restart(ada)
        options = ada.options(order_by="k", expires_in="1h", deadline_in="2h")
        await options.schedule("nobody/takes", every="1m")
        ada = await lan.restart(ada)
        await lan.clock.advance(60)
        [found] = await ada.jobs()
        job = await ada._house.store.job(found["id"])
        assert job is not None
        assert job.order_by == "k"
        assert (job.expires_at - job.created_at, job.deadline_at - job.created_at) == (3600, 7200)

    async def test_is_what_has_passed(self, ada: Node) -> None:
        with pytest.raises(Refused, match="has passed already"):
            await ada.schedule("count/it", at="2020-01-01")

    async def test_is_not_found_by_a_wrong_id(self, ada: Node) -> None:
        await ada.schedule("count/it", daily="10:05")
        for prefix in ("", "zzzzzz"):
            with pytest.raises(ScheduleNotFound):
                await ada.remove_schedule(prefix)
        for hour in range(40):
            await ada.schedule("count/it", hourly=hour)
        letters = [made["id"][0] for made in await ada.schedules()]
        with pytest.raises(UsageError, match="more than one schedule"):
            await ada.schedule_info(max(letters, key=letters.count))


class TestASuspendedSchedule:
    async def test_fires_no_more_until_it_is_resumed(self, lan: Lan, ada: Node, count: Any) -> None:
        made = await ada.schedule("count/it", every="10s")
        assert (await ada.suspend_schedule(made["id"]))["state"] == "suspended"
        assert (await ada.schedules())[0]["next"] == []
        await lan.clock.advance(100)
        assert count.ran == []
        assert len((await ada.resume_schedule(made["id"]))["next"]) == 5
        await lan.clock.advance(5)
        assert count.ran == [], "what came while it was suspended was not missed"
        await lan.clock.advance(5)
        assert count.ran == [""]

    async def test_stays_so_over_a_restart(self, lan: Lan, ada: Node, count: Any) -> None:
        made = await ada.schedule("count/it", every="10s")
        await ada.suspend_schedule(made["id"])
        ada = await lan.restart(ada)
        await lan.clock.advance(30)
        assert (count.ran, (await ada.schedules())[0]["state"]) == ([], "suspended")


class TestOverARestart:
    async def test_it_goes_on(self, lan: Lan, ada: Node, count: Any) -> None:
        made = await ada.schedule("count/it", daily="22:14", word="nightly")
        before = await ada.schedules()
        ada = await lan.restart(ada)
        assert await ada.schedules() == before == [made]
        await lan.clock.advance(60)
        assert count.ran == ["nightly"]
        await lan.restart(ada)
        await lan.clock.advance(60)
        assert count.ran == ["nightly"]

    async def test_one_that_was_removed_does_not_come_back(self, lan: Lan, ada: Node) -> None:
        made = await ada.schedule("count/it", daily="10:05")
        await ada.remove_schedule(made["id"])
        assert await (await lan.restart(ada)).schedules() == []

    @pytest.mark.parametrize(("misfire", "made_up"), [("skip", 0), ("once", 1), ("all", 6)])
    async def test_what_was_missed_follows_the_policy(
        self, lan: Lan, ada: Node, count: Any, misfire: str, made_up: int
    ) -> None:
        """C043."""
        await ada.schedule("count/it", every="1m", misfire=misfire)
        await lan.crash(ada)
        await lan.clock.advance(6 * 60 - 10)  # 22:19:10: six were due
        await lan.restart(ada)
        await lan.clock.advance(1)
        assert len(count.ran) == made_up
        await lan.clock.advance(60)
        assert len(count.ran) == made_up + 1

    async def test_a_single_moment_that_was_missed_is_made_up_for(
        self, lan: Lan, ada: Node, count: Any
    ) -> None:
        await ada.schedule("count/it", at=wall(lan) + timedelta(seconds=30))
        await lan.crash(ada)
        await lan.clock.advance(3600)
        ada = await lan.restart(ada)
        await lan.clock.advance(1)
        assert (count.ran, await ada.schedules()) == ([""], [])

    async def test_a_crash_between_job_and_note_doubles_nothing(
        self, lan: Lan, ada: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await ada.schedule("nobody/takes", every="10s")

        async def nothing(*_args: Any, **_named: Any) -> None:
            await lan.clock.sleep(1e6)

        monkeypatch.setattr(ada._house.store, "mark_schedule", nothing)
        await lan.clock.advance(10)
        assert len(await ada.jobs()) == 1
        ada = await lan.restart(ada)
        await lan.clock.advance(5)
        assert len(await ada.jobs()) == 1
        await lan.clock.advance(5)
        assert len(await ada.jobs()) == 2

    async def test_of_a_version_that_wrote_its_times_otherwise_goes_when_it_is_removed(
        self, lan: Lan, ada: Node
    ) -> None:
        """Its times make its id: it moves to that under which it is known from now on."""
        made = await ada.schedule("count/it", cron="0 7 * * mon")
        [row] = await ada._house.store.schedules()
        times = codec.unpack(row.record) | {"value": "0 7 * * mon-1"}
        await ada._house.store.put_schedule(
            replace(row, id="former", record=codec.pack(times), fired=lan.clock.wall())
        )
        await ada._house.store.remove_schedule(row.id)
        ada = await lan.restart(ada)
        [known] = await ada.schedules()
        assert (known["id"], known["last"]) == (made["id"], wall(lan).isoformat("T", "seconds"))
        await ada.remove_schedule(made["id"])
        assert await ada._house.store.schedules() == []

    @pytest.mark.parametrize(
        "damage", [{"record": b"\x81\xa1x\x01"}, {"owed": 1e300}, {"fired": math.inf}], ids=str
    )
    async def test_a_row_that_cannot_be_read_stays_and_stops_no_other(
        self,
        lan: Lan,
        ada: Node,
        count: Any,
        caplog: pytest.LogCaptureFixture,
        damage: dict[str, Any],
    ) -> None:
        """C012."""
        bad = await ada.schedule("count/it", every="10s", word="bad")
        await ada.schedule("count/it", every="10s", word="good")
        [row] = [kept for kept in await ada._house.store.schedules() if kept.id == bad["id"]]
        await ada._house.store.put_schedule(replace(row, **damage))
        ada = await lan.restart(ada)
        await lan.clock.advance(10)
        assert count.ran == ["good"]
        assert "cannot be read" in caplog.text
        assert bad["id"] in [kept.id for kept in await ada._house.store.schedules()]

    async def test_a_row_that_cannot_be_read_is_shown_and_can_be_removed(
        self, lan: Lan, ada: Node
    ) -> None:
        """C012."""
        bad = await ada.schedule("count/it", every="10s", word="bad")
        good = await ada.schedule("nobody/takes", hourly=14)
        ada = await self._written_by_another_version(lan, ada, bad["id"])
        fine, broken = await ada.schedules()
        assert fine["id"] == good["id"]
        assert (broken["id"], broken["state"], broken["next"]) == (bad["id"], "unreadable", [])
        assert (broken["topic"], broken["trouble"]) == (
            "count/it",
            "cannot be read: schedule: 'fortnightly' is not a valid Kind",
        )
        assert await ada.schedule_info(bad["id"][:8]) == broken
        for act in (ada.suspend_schedule, ada.resume_schedule):
            with pytest.raises(Refused, match="it can only be removed"):
                await act(bad["id"])
        await ada.remove_schedule(bad["id"][:8])
        with pytest.raises(ScheduleNotFound):
            await ada.schedule_info(bad["id"])
        ada = await lan.restart(ada)
        assert [schedule["id"] for schedule in await ada.schedules()] == [good["id"]]

    async def test_a_row_that_cannot_be_read_gives_way_to_the_same_schedule(
        self, lan: Lan, ada: Node
    ) -> None:
        """C043."""
        made = await ada.schedule("count/it", every="10s")
        ada = await self._written_by_another_version(lan, ada, made["id"])
        assert (await ada.schedule("count/it", every="10s"))["state"] == "active"
        assert [schedule["state"] for schedule in await ada.schedules()] == ["active"]

    async def _written_by_another_version(self, lan: Lan, ada: Node, schedule_id: str) -> Node:
        store = ada._house.store
        [row] = [kept for kept in await store.schedules() if kept.id == schedule_id]
        other = codec.pack(codec.unpack(row.record) | {"kind": "fortnightly"})
        await store.put_schedule(replace(row, record=other))
        return await lan.restart(ada)


class TestTheWallClock:
    @pytest.fixture
    def jump(self, lan: Lan, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
        """Move the wall clock alone."""
        ahead_s = 0.0
        steady = lan.clock.wall

        def by(seconds: float) -> None:
            nonlocal ahead_s
            ahead_s += seconds

        monkeypatch.setattr(lan.clock, "wall", lambda: steady() + ahead_s)
        return by

    async def test_that_jumps_ahead_misses_what_lay_between(
        self, lan: Lan, ada: Node, count: Any, jump: Callable[[float], None]
    ) -> None:
        await ada.schedule("count/it", hourly=0, word="once")
        await ada.schedule("count/it", hourly=0, word="skip", misfire="skip")
        jump(5.2 * 3600)
        await lan.clock.advance(6)
        assert count.ran == ["once"]

    async def test_that_is_set_back_fires_nothing_twice(
        self, lan: Lan, ada: Node, count: Any, jump: Callable[[float], None]
    ) -> None:
        await ada.schedule("count/it", every="1m")
        await lan.clock.advance(300)
        assert len(count.ran) == 5
        jump(-300)
        await lan.clock.advance(300)
        assert len(count.ran) == 5
        await lan.clock.advance(60)
        assert len(count.ran) == 6

    async def test_that_was_far_ahead_and_is_put_right_stops_nothing(
        self, lan: Lan, ada: Node, count: Any, jump: Callable[[float], None]
    ) -> None:
        jump(365 * 86_400)
        await ada.schedule("count/it", every="1m")
        await lan.clock.advance(60)
        assert len(count.ran) == 1
        jump(-365 * 86_400)
        await lan.clock.advance(120)
        assert len(count.ran) == 3

    async def test_that_is_put_right_while_the_disk_is_full_ends_no_instance(
        self,
        lan: Lan,
        ada: Node,
        count: Any,
        jump: Callable[[float], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """C087."""
        jump(365 * 86_400)
        await ada.schedule("count/it", every="1m")

        async def refuse(_kept: object) -> None:
            raise DiskFull

        with monkeypatch.context() as full:
            full.setattr(ada._house.store, "put_schedule", refuse)
            jump(-365 * 86_400)
            await lan.clock.advance(10)
        await lan.clock.advance(60)
        assert len(count.ran) == 1

    async def test_forgets_what_was_removed_from_the_topology_a_month_ago(
        self, lan: Lan, ada: Node, jump: Callable[[float], None]
    ) -> None:
        """Also while the instance runs: else there were too many some day."""
        made = await ada.schedule("count/it", every="1m", scope="topology")
        await ada.remove_schedule(made["id"])
        for days, kept in ((29, 1), (2, 0)):
            jump(days * 86_400)
            await lan.clock.advance(10)
            assert len(await ada._house.store.schedules()) == kept

    async def test_and_sleep_are_judged_when_the_machine_wakes(
        self, lan: Lan, ada: Node, count: Any
    ) -> None:
        await ada.schedule("count/it", every="10m", word="once")
        await ada.schedule("count/it", every="10m", word="all", misfire="all")
        lan.clock._now += 3600.0  # nobody woke in between
        await lan.clock.advance(1)
        assert sorted(count.ran) == ["all"] * 6 + ["once"]


class TestADiskThatIsFull:
    async def test_puts_the_firing_off(
        self, lan: Lan, ada: Node, count: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """C087."""
        await ada.schedule("count/it", every="60s", word="late")
        with monkeypatch.context() as full:

            async def refuse(_topic: str, _encoded: object, _options: Options) -> Job:
                raise Refused("there is no room")

            full.setattr(ada._house.scheduler, "_add_job", refuse)
            await lan.clock.advance(65)
            assert "no room" in (await ada.schedules())[0]["trouble"]
        await lan.clock.advance(10)
        assert count.ran == ["late"]


def tables(node: Node, *schedules: dict[str, Any]) -> Config:
    """Return the node's configuration with these schedules."""
    plain = node.config.model_dump(by_alias=True, exclude_unset=True)
    return Config.make(**{**plain, "schedules": schedules})


class TestAConfiguredSchedule:
    TABLE: ClassVar = {"topic": "count/it", "every": "10s", "arguments": {"word": "table"}}

    async def test_fires(self, lan: Lan, count: Any) -> None:
        ada = await node_with(lan, count, schedules=[self.TABLE])
        assert [s["declared"] for s in await ada.schedules()] == [True]
        await lan.clock.advance(20)
        assert count.ran == ["table"] * 2

    async def test_declared_twice_is_one(self, lan: Lan, count: Any) -> None:
        ada = await node_with(lan, count, schedules=[self.TABLE, self.TABLE])
        await ada.schedule("count/it", every=10, word="table")
        assert len(await ada.schedules()) == 1

    async def test_cannot_be_removed_but_suspended(self, lan: Lan, count: Any) -> None:
        ada = await node_with(lan, count, schedules=[self.TABLE])
        [made] = await ada.schedules()
        with pytest.raises(Refused, match="stands in the configuration"):
            await ada.remove_schedule(made["id"])
        await ada.suspend_schedule(made["id"])
        ada = await lan.restart(ada)
        await lan.clock.advance(20)
        assert count.ran == []

    async def test_goes_when_it_stands_there_no_more(self, lan: Lan, count: Any) -> None:
        ada = await node_with(lan, count, schedules=[self.TABLE])
        await ada.schedule("count/it", hourly=5)
        ada._rules.follow(ada.config.model_copy(update={"schedules": ()}))
        ada = await lan.restart(ada)
        assert [s["when"] for s in await ada.schedules()] == ["hourly :05"]

    async def test_comes_and_goes_without_a_restart(self, lan: Lan, count: Any) -> None:
        """A suspended one that stays is still suspended."""
        kept = self.TABLE | {"arguments": {"word": "kept"}}
        ada = await node_with(lan, count, schedules=[self.TABLE, kept])
        [suspended] = [s for s in await ada.schedules() if s["arguments"] == {"word": "kept"}]
        await ada.suspend_schedule(suspended["id"])
        new = self.TABLE | {"arguments": {"word": "new"}}
        assert (await ada.reload(tables(ada, kept, new)))["applied"] == ["schedules"]
        await lan.clock.advance(20)
        assert count.ran == ["new"] * 2
        assert (await ada.schedule_info(suspended["id"]))["state"] == "suspended"
        assert (await ada.reload(tables(ada, kept)))["applied"] == ["schedules"]
        await lan.clock.advance(20)
        assert (count.ran, len(await ada.schedules())) == (["new"] * 2, 1)

    async def test_that_cannot_be_changes_nothing(self, lan: Lan, count: Any) -> None:
        ada = await node_with(lan, count, schedules=[self.TABLE])
        wrong = self.TABLE | {"arguments": {"word": "x" * 70_000}}
        with pytest.raises(ConfigError, match=r"schedules\.0: "):
            await ada.reload(tables(ada, wrong))
        assert [s["arguments"] for s in await ada.schedules()] == [{"word": "table"}]

    async def test_of_a_moment_fires_once_over_restarts(self, lan: Lan, count: Any) -> None:
        table = {"topic": "count/it", "at": wall(lan) + timedelta(seconds=5)}
        ada = await node_with(lan, count, schedules=[table])
        await lan.clock.advance(6)
        ada = await lan.restart(ada)
        await lan.clock.advance(6)
        assert (count.ran, await ada.schedules()) == ([""], [])

    @pytest.mark.parametrize(
        ("change", "key"),
        [
            ({"arguments": {"word": "x" * 70_000}}, r"schedules\.1: .* limited"),
            ({"scope": "topology", "into": "/tmp"}, r"schedules\.1: into"),
        ],
        ids=["large", "into"],
    )
    async def test_that_cannot_be_is_named(
        self, lan: Lan, count: Any, change: dict[str, Any], key: str
    ) -> None:
        with pytest.raises(ConfigError, match=key):
            await node_with(lan, count, schedules=[self.TABLE, self.TABLE | change])
