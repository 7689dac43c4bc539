"""Users of many hosts: they add jobs of all kinds, stop some, and keep what they were told."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from offload import File
from offload.client import Client
from offload.errors import OffloadError
from tests.lab.hosts import Host

KINDS: Final = ("quick", "quick", "quick", "slow", "file", "file", "flaky", "alone", "once")
DELIVERY: Final = {"alone": "exclusive", "once": "at-most-once"}
SECONDS: Final = (0.1, 0.5, 1.5, 4.0)
SIZES: Final = (0, 1_000, 60_000, 300_000)
STOPPED: Final = 0.05  # of the jobs, somebody stops so many
AGAIN_S: Final = 0.1
SHOWN: Final = 4
LIVE: Final = ("queued", "assigned", "active")


@dataclass(slots=True)
class Wish:
    """
    A job that somebody asked ``host`` for.

    Attributes:
        key: Its own, so that it can be asked for again.
        kind: One of ``KINDS``.
        seconds: That it takes.
        digest: Of the output file.
        id: Of the job, once ``add`` has returned: from then on it is promised.
        stopping: Somebody has asked to stop it.
        stopped: That was confirmed.
    """

    host: Host
    key: str
    kind: str
    number: int
    seconds: float = 0.02
    digest: str = ""
    id: str = ""
    stopping: bool = False
    stopped: bool = False


class Load:
    """All that is asked of ``hosts``, each of which is kept at ``at_once`` jobs under way."""

    def __init__(self, hosts: Iterable[Host], folder: Path, seed: int, *, at_once: int) -> None:
        self.wishes: list[Wish] = []
        self._hosts = tuple(hosts)
        self._inputs, self._outputs = folder / "in", folder / "out"
        self._inputs.mkdir()
        self._at_once = at_once
        self._chance = random.Random(seed)
        self._over = False
        self._stopping: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def on(self) -> AsyncIterator[None]:
        """Keep the hosts busy meanwhile; at the end, ask once more for what was not promised."""
        async with asyncio.TaskGroup() as group:
            for host in self._hosts:
                group.create_task(self._feed(host))
            try:
                yield
            finally:
                self._over = True

    async def insist(self) -> None:
        """Ask for all that was asked for and not promised; the hosts are well again."""
        await asyncio.wait([*self._stopping, asyncio.ensure_future(asyncio.sleep(0))])
        for wish in self.wishes:
            if not wish.id:
                async with wish.host.ask() as client:
                    await self._add(client, wish)

    async def settled(self) -> bool:
        """Say whether no host has anything left to do or to tell."""
        return not await self.remaining()

    async def remaining(self) -> int:
        """Return how much all hosts have left to do or to tell."""
        count = 0
        for host in self._hosts:
            async with host.ask() as client:
                status = await client.status()
            count += sum(status["jobs"][state] for state in LIVE)
            count += status["outbox"]["jobs"] + status["held"]
        return count

    async def left(self) -> str:
        """Return what is not at its end, host by host, and of some of it why."""
        told = []
        for host in self._hosts:
            async with host.ask() as client:
                status = await client.status()
                told.append(f"{host.name}: {status['jobs']}, {status['outbox']}, {status['held']}")
                for job in await client.jobs(states="live", limit=SHOWN):
                    told += [f"    {job}", f"        {await client.explain(job['id'])}"]
        return "\n".join(told)

    def results(self, wish: Wish) -> list[Path]:
        """Return the output files of a job."""
        folder = self._outputs / wish.key
        return sorted(folder.iterdir()) if folder.exists() else []

    # --- inside -----------------------------------------------------------------------------

    async def _feed(self, host: Host) -> None:
        while not self._over:
            try:
                async with host.ask() as client:
                    while not self._over:
                        await self._feed_some(host, client)
            except OffloadError:  # it is down, or has no room: it is asked again
                await asyncio.sleep(AGAIN_S)

    async def _feed_some(self, host: Host, client: Client) -> None:
        open_ = [wish for wish in self.wishes if wish.host is host and not wish.id]
        for wish in open_[:2]:
            await self._add(client, wish)
        if await client.count(states=LIVE) >= self._at_once:
            await asyncio.sleep(AGAIN_S)
        for _ in range(4):
            await self._add(client, self._wish(host))

    def _wish(self, host: Host) -> Wish:
        number = len(self.wishes)
        wish = Wish(host, f"{host.name}-{number}", self._chance.choice(KINDS), number)
        if wish.kind in ("slow", "alone", "once"):
            wish.seconds = self._chance.choice(SECONDS)
        if wish.kind == "file":
            data = self._chance.randbytes(self._chance.choice(SIZES))
            (self._inputs / f"{wish.key}.bin").write_bytes(data)
            wish.digest = hashlib.sha256(data[::-1]).hexdigest()
        self.wishes.append(wish)
        return wish

    async def _add(self, client: Client, wish: Wish) -> None:
        options: dict[str, Any] = {"key": wish.key}
        if wish.kind in DELIVERY:
            options["delivery"] = DELIVERY[wish.kind]
        if wish.kind == "file":
            source = self._inputs / f"{wish.key}.bin"
            into = str(self._outputs / wish.key)
            job = await client.options(into=into, **options).submit("lab/turn", data=File(source))
            source.unlink()
        elif wish.kind == "flaky":
            job = await client.options(**options).submit("lab/flaky", number=wish.number)
        else:
            arguments = {"number": wish.number, "seconds": wish.seconds}
            job = await client.options(**options).submit("lab/count", **arguments)
        wish.id = job.id
        if self._chance.random() < STOPPED:
            self._stop_soon(wish)

    def _stop_soon(self, wish: Wish) -> None:
        stopping = asyncio.create_task(self._stop(wish, self._chance.uniform(0.0, 2.0)))
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)

    async def _stop(self, wish: Wish, after_s: float) -> None:
        await asyncio.sleep(after_s)
        wish.stopping = True
        try:
            async with wish.host.ask() as client:
                wish.stopped = await client.stop(wish.id)
        except OffloadError:
            return  # nothing was promised
