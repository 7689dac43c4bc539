"""What anybody in the network can say by multicast DNS: it is a hint, and does no harm."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from tests.lab.batches import Batch
from tests.lab.conftest import Figures
from tests.lab.hosts import Host, Lan, until
from tests.lab.scenes import CONSUMERS, SLACK, SOON_S, are_linked, since, takes

pytestmark = [pytest.mark.lab, pytest.mark.long]
FORGER: Final = Path(__file__).with_name("forger.py")
Forge = Callable[[str], Awaitable[None]]


class Forger:
    """Host four, where somebody means harm to one."""

    def __init__(self, lan: Lan, victim: str = "") -> None:
        self.host = lan["four"]
        self.host.folder.mkdir()
        self._victim = victim

    async def does(self, deed: str) -> None:
        """Wait until it is done."""
        words = [sys.executable, str(FORGER), deed, self.host.address, self._victim]
        self.host.spawn(words, os.environ, self.host.output)
        await until(lambda: "done" in self._told(), within_s=SOON_S, what=f"{deed} is done")

    def visitors(self) -> int:
        """Return how often somebody has come to its port."""
        return self._told().count("came")

    def _told(self) -> str:
        return self.host.output.read_text("utf-8") if self.host.output.exists() else ""


async def linked(lan: Lan, *names: str) -> list[Host]:
    hosts = [lan[name] for name in names]
    for host in hosts:
        host.run(None)
    await until(lambda: are_linked(hosts), within_s=SOON_S, what="all are linked")
    return hosts


class TestAForgedWord:
    @pytest.mark.parametrize("deed", ["goodbye", "takeover"])
    @pytest.mark.timeout(200)
    async def test_moves_nobody(self, lan: Lan, deed: str) -> None:
        """
        G29: who is linked stays so, no job is moved, and nobody goes to the forger for a minute.

        But for one, once: it has to see whether a copy of its data directory runs there.
        """
        hosts = [lan["one"], lan["two"]]
        for host in hosts:
            host.run(CONSUMERS, **takes("lab/wait", slots=2))
        await until(lambda: are_linked(hosts), within_s=SOON_S, what="all are linked")
        batch = Batch(hosts[1], lan)
        await batch.add(4, 20.0)
        await until(lambda: all(batch.hosts("began").values()), within_s=SOON_S, what="all run")
        known_since = [await since(host) for host in hosts]
        own = next(i["id"] for i in await hosts[0].topology() if i["own"])
        forger = Forger(lan, own)
        await forger.does(deed)
        await asyncio.sleep(60)
        assert await are_linked(hosts)
        assert [await since(host) for host in hosts] == known_since
        assert forger.visitors() <= 1
        await until(batch.succeeded, within_s=SOON_S, what="the jobs are done")
        assert {len(where) for where in batch.hosts("began").values()} == {1}


class TestACrowdOfPhantoms:
    async def test_costs_little_and_delays_no_newcomer(self, lan: Lan, figure: Figures) -> None:
        """G30: at most five strangers a second are dialled; 256 are kept in mind."""
        one, _ = hosts = await linked(lan, "one", "two")
        _, before_mib = one.usage()
        forger = Forger(lan)
        lan["three"].run(None)
        await until(lan["three"].is_open, within_s=SOON_S, what="three listens")
        await forger.does("phantoms")
        took_s = await until(
            lambda: are_linked([*hosts, lan["three"]]), within_s=10 * SLACK, what="three is found"
        )
        figure("a newcomer is linked, after 3 000 phantoms", took_s)
        _, after_mib = one.usage()
        assert after_mib - before_mib < 32
        before = forger.visitors()
        await asyncio.sleep(4)
        assert forger.visitors() - before <= 4 * 5 * 3 + 15  # three dial; five at once


class TestGarbage:
    async def test_is_taken_calmly(self, lan: Lan, figure: Figures) -> None:
        """G31: nothing is shown of it, hardly a line logged, and a second of CPU at most goes."""
        hosts = await linked(lan, "one", "two")
        lines = len(lan.outputs().splitlines())
        before_s, _ = hosts[0].usage()
        await Forger(lan).does("garbage")
        await asyncio.sleep(2)
        after_s, _ = hosts[0].usage()
        figure("CPU for 3 000 packets of garbage", after_s - before_s)
        assert after_s - before_s <= 1
        assert await are_linked(hosts)
        assert len(lan.outputs().splitlines()) - lines <= 20
