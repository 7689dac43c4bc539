"""
One origin and two workers on a LAN, and what may befall them: FAULTS G10-G25, CONFORMANCE D.

The hosts are started once, and each test leaves them well. What ran is read from the ledger that
the consumers write. The unshortened form of a row is ``long``.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from offload import File
from offload.errors import DiskFull, OffloadError
from tests.lab.batches import Batch
from tests.lab.conftest import Lacks
from tests.lab.hosts import Host, Lan, until
from tests.lab.scenes import SLACK

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

CONSUMERS: Final = Path(__file__).with_name("consumers.py")
LEASE_S: Final = 3
SOON_S: Final = 60.0  # only what is broken takes longer
DISK_MIB: Final = 64
FULL: Final = "its disk is low"
TABLES: Final[dict[str, dict[str, Any]]] = {
    "node": {"drain_timeout": 0.5},
    "timing": {"heartbeat": 0.5, "lease": LEASE_S, "event_delay": 0.5},
    "queues.main": {"max_parallel": 4, "max_crashes": 3, "retry_delay": 0.2, "keep": True},
    "limits": {"disk_free": "4MiB"},
    'topics."lab/poison"': {"memory": "512MiB"},
}


def long(value: object) -> Any:
    return pytest.param(value, marks=pytest.mark.long)


@pytest.fixture(scope="module")
def lan(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    """``one`` hands out jobs, ``two`` and ``three`` run them; each has a small disk."""
    with Lan(tmp_path_factory.mktemp("lan"), ("one", "two", "three")) as lan:
        for host in lan.hosts.values():
            host.with_disk(DISK_MIB)
            host.run(None if host.name == "one" else CONSUMERS, **TABLES)
        asyncio.run(all_well(lan))
        yield lan
        outputs = lan.outputs()
        print(outputs)
    assert "Traceback" not in outputs


@pytest.fixture
async def trio(lan: Lan) -> tuple[Host, Host, Host]:
    """The three hosts, which are well and know one another."""
    await all_well(lan)
    one, two, three = lan.hosts.values()
    return one, two, three


async def all_well(lan: Lan) -> None:
    hosts = lan.hosts.values()

    async def know() -> bool:
        seen = [[i for i in await host.topology() if i["linked"] or i["own"]] for host in hosts]
        return all(len(them) == len(hosts) for them in seen)

    await until(know, within_s=SOON_S, what="all hosts know one another")


async def begun(batch: Batch) -> None:
    """Return when all jobs of a batch have begun somewhere."""
    await until(lambda: all(batch.hosts("began").values()), within_s=SOON_S, what="all run")


async def done(batch: Batch, within_s: float = SOON_S) -> None:
    await until(batch.succeeded, within_s=within_s, what="all are done")


def runs(batch: Batch) -> Counter[int]:
    """Return how many jobs began how often."""
    return Counter(len(where) for where in batch.hosts("began").values())


async def closed(host: Host) -> str:
    """Return why a host takes no jobs of others, or ""."""
    async with host.ask() as client:
        why: str = (await client.status())["closed"]
        return why


class TestAnOriginThatIsKilledAgainAndAgain:
    @pytest.mark.parametrize("times", [2, long(20)])
    async def test_loses_no_job_and_runs_none_again(
        self, lan: Lan, trio: tuple[Host, Host, Host], times: int
    ) -> None:
        """C082, G12."""
        one, chance = trio[0], random.Random(times)
        batch = Batch(one, lan)
        for _ in range(times):
            await batch.add(6, 0.8)
            await asyncio.sleep(chance.uniform(0.0, 0.8))
            one.kill()
            await asyncio.sleep(chance.uniform(0.1, 1.0))
            one.start()
            await until(one.topology, within_s=SOON_S, what="it is up again")
        await done(batch, within_s=SOON_S + times)
        again = sum(count for often, count in runs(batch).items() if often > 1)
        assert again <= 0.02 * len(batch.jobs)
        assert len(batch.brought()) == len(batch.jobs)


class TestAWorkerThatIsKilledAgainAndAgain:
    @pytest.mark.long
    async def test_is_known_to_be_gone_and_its_jobs_run_elsewhere(
        self, lan: Lan, trio: tuple[Host, Host, Host]
    ) -> None:
        """G05 in small: its load and its own bounds are in ``test_base``."""
        one, two, _ = trio
        batch = Batch(one, lan)
        for _ in range(10):
            await batch.add(4, 1.0)
            await batch.add(1, 1.0, delivery="exclusive")
            await until(lambda: batch.under_way(two), within_s=SOON_S, what="two has work")
            two.kill()
            killed = time.monotonic()
            await until(lambda: knows(one, 2), within_s=SOON_S, what="it is gone")
            gone_s = time.monotonic() - killed
            two.start()
            await all_well(lan)
            assert gone_s < SLACK
        await done(batch)
        assert len(batch.brought()) == len(batch.jobs) == 50


async def knows(host: Host, count: int) -> bool:
    return len(await host.topology()) == count


class TestAnOriginThatIsAway:
    @pytest.mark.parametrize("away_s", [0, long(60)])
    async def test_finds_what_was_done_meanwhile_even_by_one_that_was_killed_since(
        self, lan: Lan, trio: tuple[Host, Host, Host], away_s: float
    ) -> None:
        """C083, G13: outcomes and files outlive their worker, and nothing runs a second time."""
        one, two, _ = trio
        batch = Batch(one, lan)
        await batch.add(6, 1.0)
        await begun(batch)
        one.kill()
        await until(lambda: all(batch.hosts("ended").values()), within_s=SOON_S, what="all ended")
        await until(lambda: holds_outcomes(two), within_s=SOON_S, what="two has written it down")
        two.kill()
        two.start()
        await asyncio.sleep(away_s)
        one.start()
        await done(batch)
        assert (runs(batch), len(batch.brought())) == ({1: 6}, 6)


async def holds_outcomes(host: Host) -> bool:
    async with host.ask() as client:
        status = await client.status()
    return bool(status["outbox"]["jobs"]) and not status["held"]


class TestAnOutcomeThatCannotGoHome:
    async def test_is_told_when_it_can(self, lan: Lan, trio: tuple[Host, Host, Host]) -> None:
        """G11: the origin hears nothing while the work is done."""
        one, two, three = trio
        batch = Batch(one, lan)
        await batch.add(4, 1.0)
        await begun(batch)
        one.shun(two, three)
        await until(lambda: all(batch.hosts("ended").values()), within_s=SOON_S, what="all ended")
        assert not await batch.succeeded()
        one.hear_all()
        await done(batch)
        assert (runs(batch), len(batch.brought())) == ({1: 4}, 4)


class TestALanThatIsSplit:
    @pytest.mark.parametrize("split_s", [0.0, long(60.0), long(120.0)])
    async def test_goes_on_in_both_parts_and_has_one_outcome_of_each_job(
        self, lan: Lan, trio: tuple[Host, Host, Host], split_s: float
    ) -> None:
        """C085, G09, G10: what was at the far side runs again on the near one."""
        one, two, three = trio
        batch = Batch(one, lan)
        await batch.add(6, 3.0)
        await begun(batch)
        three.shun(one, two)
        there = set(batch.under_way(three))
        assert there
        await asyncio.sleep(split_s)
        await done(batch)
        before = await batch.fates(), batch.brought()
        three.hear_all()
        await all_well(lan)
        await until(lambda: nothing_to_tell(three), within_s=SOON_S, what="late news were heard")
        assert (await batch.fates(), batch.brought()) == before
        assert {batch.brought()[job][0] for job in there} == {"two"}


async def nothing_to_tell(host: Host) -> bool:
    async with host.ask() as client:
        status = await client.status()
    return not status["outbox"]["jobs"] and not status["held"]


class TestAWorkerWhoseDiskIsFull:
    async def test_loses_its_jobs_to_others_and_takes_none_until_there_is_room(
        self, lan: Lan, trio: tuple[Host, Host, Host]
    ) -> None:
        """C087, G17."""
        one, two, _ = trio
        batch = Batch(one, lan)
        await batch.add(6, 1.0)
        await begun(batch)
        there = set(batch.under_way(two))
        two.fill_disk()
        await until(lambda: all(batch.hosts("ended").values()), within_s=SOON_S, what="all ended")
        await done(batch)
        assert {batch.brought()[job][0] for job in there} == {"three"}
        assert FULL in await closed(two)
        two.make_room()
        await until(lambda: is_open(two), within_s=SOON_S, what="two takes jobs again")


async def is_open(host: Host) -> bool:
    return not await closed(host)


class TestAnOriginWhoseDiskIsFull:
    async def test_refuses_new_jobs_and_is_told_the_outcomes_when_there_is_room(
        self, lan: Lan, trio: tuple[Host, Host, Host]
    ) -> None:
        """C087, G18: one clear error, nothing half stored, and what was promised goes on."""
        one = trio[0]
        data = lan.folder / "data.bin"
        data.write_bytes(random.Random(1).randbytes(300_000))
        batch = Batch(one, lan)
        await batch.add(6, 1.0)
        await begun(batch)
        async with one.ask() as client:
            before = await client.count()
            one.fill_disk()
            with pytest.raises(DiskFull):
                await client.submit("lab/turn", data=File(data))
            assert await client.count() == before
            ended = lambda: all(batch.hosts("ended").values())  # noqa: E731
            await until(ended, within_s=SOON_S, what="all ended")
            one.make_room()
            await done(batch)
            job = await client.options(into=str(lan.folder / "late")).submit(
                "lab/turn", data=File(data)
            )
            assert (await job.wait())["state"] == "succeeded"
        assert (runs(batch), len(batch.brought())) == ({1: 6}, 6)


class TestAJobThatIsStopped:
    @pytest.mark.parametrize("count", [12, long(300)])
    async def test_leaves_no_outcome_and_no_process_whenever_that_is(
        self, lan: Lan, trio: tuple[Host, Host, Host], count: int
    ) -> None:
        """G19: in line, while it runs, while its outcome comes home."""
        one, chance = trio[0], random.Random(count)
        async with one.ask() as client:
            at_once = asyncio.Semaphore(12)

            async def fate(number: int) -> tuple[str, bool, str]:
                async with at_once:
                    seconds = chance.choice([0.05, 0.3, 30.0])
                    job = await client.submit("lab/count", number=number, seconds=seconds)
                    await asyncio.sleep(chance.uniform(0.0, 0.6))
                    stopped = await job.stop()
                    return job.id, stopped, (await job.wait())["state"]

            fates = await asyncio.gather(*map(fate, range(count)))
        assert {state for _, stopped, state in fates if stopped} == {"stopped"}
        assert {state for _, stopped, state in fates if not stopped} <= {"succeeded"}
        lines = len(lan.entries())
        await asyncio.sleep(0.5)  # a process that is left would say so within that
        assert len(lan.entries()) == lines


class TestAJobThatKillsItsProcess:
    async def test_is_given_up_and_harms_no_other(
        self, lan: Lan, trio: tuple[Host, Host, Host]
    ) -> None:
        """G21: by exit, by a signal, by the memory that it takes."""
        one = trio[0]
        batch = Batch(one, lan)
        async with one.ask() as client:
            ways = ("exit", "segfault", "memory")
            patient = client.options(retries=1)  # its memory used up is a failure, no crash
            jobs = [await patient.submit("lab/poison", how=how) for how in ways]
            await batch.add(6, 0.5)
            ends = [await job.wait() for job in jobs]
        assert {end["state"] for end in ends} == {"given_up"}
        assert [(end["crashes"], end["failures"]) for end in ends] == [(3, 0), (3, 0), (0, 2)]
        await done(batch)
        assert runs(batch) == {1: 6}


class TestAConsumerThatLetsNothingElseRun:
    @pytest.mark.parametrize("seconds", [LEASE_S + 2, long(30)])
    async def test_loses_no_lease(
        self, lan: Lan, trio: tuple[Host, Host, Host], seconds: int
    ) -> None:
        """G22: it holds the interpreter of its own process, not ours."""
        one = trio[0]
        async with one.ask() as client:
            jobs = [await client.submit("lab/hog", seconds=seconds) for _ in range(2)]
            ends = [await job.wait() for job in jobs]
        assert [(end["state"], end["attempt"]) for end in ends] == [("succeeded", 1)] * 2


class TestWallClocksThatAreWrong:
    @pytest.mark.parametrize("offset", ["+30d", long("-1h"), long("-5m"), long("+5m")])
    async def test_and_that_are_set_back_meanwhile_change_nothing(
        self, lan: Lan, trio: tuple[Host, Host, Host], faketime: str, offset: str
    ) -> None:
        """G25: nothing expires, no lease is lost, nothing runs early."""
        one, two, _ = trio
        said = lan.folder / "clock"
        said.write_text(offset, "ascii")
        two.leave()
        two.start(
            LD_PRELOAD=faketime,
            FAKETIME_TIMESTAMP_FILE=str(said),
            FAKETIME_NO_CACHE="1",
            DONT_FAKE_MONOTONIC="1",
        )
        await all_well(lan)
        try:
            batch = Batch(one, lan)
            await batch.add(6, 2.0, expires_in="1h", deadline_in="2h")
            await begun(batch)
            assert batch.under_way(two)
            said.write_text("-600s", "ascii")
            await done(batch)
            assert runs(batch) == {1: 6}
        finally:
            two.leave()
            two.start()


@pytest.fixture(scope="session")
def faketime(lacks: Lacks) -> str:
    """The library that lies about the time."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        lacks("wrong clocks need libfaketime (Debian: libfaketime)")
    return str(found[0])


class TestARollingRestart:
    @pytest.mark.parametrize("rounds", [1, long(5)])
    async def test_under_load_costs_no_job_anything(
        self, lan: Lan, trio: tuple[Host, Host, Host], rounds: int
    ) -> None:
        """C088, G04: what runs is handed back, and neither a retry nor a crash is counted."""
        batch, over = Batch(trio[0], lan), asyncio.Event()

        async def add() -> None:
            while not over.is_set():
                with suppress(OffloadError):  # the origin is being started again
                    await batch.add(4, 0.5)
                await asyncio.sleep(0.4)

        adding = asyncio.create_task(add())
        for host in (host for _ in range(rounds) for host in (*trio[1:], trio[0])):
            await asyncio.to_thread(host.leave)
            host.start()
            await all_well(lan)
        over.set()
        await adding
        await done(batch)
        told = await batch.info()
        assert {(job["failures"], job["crashes"]) for job in told} == {(0, 0)}
        assert len(batch.brought()) == len(batch.jobs)
