"""Rows of the fault table under its base load, with its own bounds, and all that it asks after."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lab.audit import audit, look_at_disks
from tests.lab.base import TABLES, Base, Book, kill
from tests.lab.conftest import Figures
from tests.lab.hosts import Lan, until
from tests.lab.scenes import CONSUMERS, SOON_S, are_linked

pytestmark = [pytest.mark.lab, pytest.mark.long]
NAMES: Final = ("one", "two", "three", "four", "five")
KILLS: Final = 10
GONE_S: Final = 1.0
MOVED_S: Final = 1.5
ALONE_MOVED_S: Final = 22.0  # a lease, and what the origin waits beyond it
PAUSE_S: Final = 4.0  # until it has its share of the load again
SETTLED_S: Final = 60.0
MOST_MIB: Final = 150
JOBS: Final = 2_000


@pytest.fixture
def five(machine: None, tmp_path: Path) -> Iterator[Lan]:
    """Five hosts on one switch; nothing runs on them yet."""
    with Lan(tmp_path, NAMES) as lan:
        yield lan


async def grown(base: Base, jobs: int) -> None:
    await until(lambda: len(base.wishes) >= jobs, within_s=120, what="so many were asked for")


class TestAWorkerThatIsKilledUnderLoad:
    @pytest.mark.timeout(1_200)
    async def test_is_gone_within_a_second_and_its_jobs_run_elsewhere(
        self, five: Lan, figure: Figures
    ) -> None:
        """G05: ten times, one host after the other; nothing is lost, nothing is doubled."""
        hosts = list(five.hosts.values())
        for host in hosts:
            host.run(CONSUMERS, **TABLES)
        await until(lambda: are_linked(hosts), within_s=SOON_S, what="all are linked")
        base, book, losses = Base(hosts, five.folder, seed=5), Book(five), []
        async with base.on():
            for number in range(KILLS):
                await grown(base, JOBS // KILLS * (number + 1))
                victim = hosts[number % len(hosts)]
                losses.append(await kill(five, book, base, victim, within_s=2 * ALONE_MOVED_S))
                victim.start()
                await until(lambda: are_linked(hosts), within_s=SOON_S, what="it is back")
                await asyncio.sleep(PAUSE_S)
            await grown(base, JOBS)
        await base.insist()
        await until(base.settled, within_s=SETTLED_S, what="all is at its end")
        gone_s = max(loss.gone_s for loss in losses)
        moved_s = sorted(s for loss in losses for s in loss.moved_s)
        alone_s = sorted(s for loss in losses for s in loss.alone_s)  # there may be none
        figure("a host killed under load is gone for all, at the most", gone_s)
        figure(f"{len(moved_s)} jobs of it have begun elsewhere, at the most", max(moved_s))
        figure(f"{len(alone_s)} exclusive jobs of it have, at the most", max(alone_s, default=0.0))
        most_mib = max(host.usage()[1] for host in hosts)
        found = await audit(five, base)
        for host in hosts:
            host.leave()
        look_at_disks(found, hosts)
        print(losses, most_mib, found)
        assert found.passed
        assert found.states == {"succeeded": len(base.wishes)}
        assert most_mib <= MOST_MIB
        assert (gone_s <= GONE_S, moved_s[-1] <= MOVED_S) == (True, True)
        assert [s for s in alone_s if s > ALONE_MOVED_S] == []
