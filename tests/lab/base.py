"""The base load of the fault table: fifty jobs a second at five hosts, and what a kill costs it."""

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from offload.client import Client
from tests.lab.consumers import made
from tests.lab.hosts import Host, Lan
from tests.lab.load import DELIVERY, Load, Wish

PER_S: Final = 50.0
KINDS: Final = ("quick",) * 7 + ("file",) * 2 + ("alone",)
SECONDS: Final = (0.02,) * 16 + (1.0,) * 3 + (10.0,)
SIZE: Final = 2**20
LOOK_S: Final = 0.2
LATE_S: Final = 5.0  # by which a line may come later than its time
TABLES: Final[dict[str, dict[str, Any]]] = {
    "offloading": {"policy": "balanced"},
    "queues.main": {"keep": True},
}


class Base(Load):
    """
    As many jobs a second, of all hosts together, as long as it is on.

    Four fifths take 20 ms, a twentieth 10 s, the others 1 s; a fifth give back 1 MiB, a tenth are
    exclusive.
    """

    def __init__(self, hosts: Iterable[Host], folder: Path, seed: int) -> None:
        super().__init__(hosts, folder, seed, at_once=0)
        self._every_s = len(self._hosts) / PER_S
        self._open: dict[str, Wish] = {}

    async def _feed_some(self, host: Host, client: Client) -> None:
        began = time.monotonic()
        wish = self._open.get(host.name) or self._wish(host)
        self._open[host.name] = wish  # until it is promised: then the next
        await self._add(client, wish)
        del self._open[host.name]
        await asyncio.sleep(max(0.0, self._every_s - (time.monotonic() - began)))

    def _wish(self, host: Host) -> Wish:
        number = len(self.wishes)
        kind, seconds = self._chance.choice(KINDS), self._chance.choice(SECONDS)
        wish = Wish(host, f"{host.name}-{number}", kind, number, seconds)
        if kind == "file":
            wish.digest = hashlib.sha256(made(number, SIZE)).hexdigest()
        self.wishes.append(wish)
        return wish

    async def _add(self, client: Client, wish: Wish) -> None:
        options: dict[str, Any] = {"key": wish.key}
        arguments: dict[str, Any] = {"number": wish.number, "seconds": wish.seconds}
        topic = "lab/count"
        if wish.kind == "file":
            topic, arguments["size"] = "lab/make", SIZE
            options["into"] = str(self._outputs / wish.key)
        elif wish.kind in DELIVERY:
            options["delivery"] = DELIVERY[wish.kind]
        wish.id = (await client.options(**options).submit(topic, **arguments)).id


@dataclass(frozen=True, slots=True)
class Loss:
    """What a kill cost: seconds until all others knew, and until each job began elsewhere."""

    gone_s: float
    moved_s: tuple[float, ...]
    alone_s: tuple[float, ...]


class Book:
    """The ledger of a lan, read on from where it was read before: looking costs the load little."""

    def __init__(self, lan: Lan) -> None:
        self._path = lan.ledger
        self._read = 0
        self._entries: list[dict[str, Any]] = []

    def entries(self) -> list[dict[str, Any]]:
        """Return all whole lines."""
        with self._path.open("rb") as ledger:
            ledger.seek(self._read)
            whole, newline, _ = ledger.read().rpartition(b"\n")
        self._read += len(whole) + len(newline)
        self._entries += map(json.loads, whole.splitlines())
        return self._entries

    def under_way(self, host: Host) -> set[str]:
        """Return the jobs that were at ``host`` last, and have not ended there."""
        last = {entry["job"]: entry for entry in self.entries()}
        return {j for j, e in last.items() if e["host"] == host.name and e["what"] != "ended"}

    def began(self, jobs: Iterable[str], after: float) -> dict[str, float]:
        """Return when each of ``jobs`` began first since then."""
        late = takewhile(lambda e: e["at"] > after - LATE_S, reversed(self.entries()))
        times = [(e["job"], e["at"]) for e in late if e["what"] == "began" and e["job"] in jobs]
        return {job: at for job, at in times if at > after}


async def kill(lan: Lan, book: Book, base: Base, victim: Host, within_s: float) -> Loss:
    """Kill ``victim``; return when what others had given it has begun elsewhere."""
    at, told_at = time.monotonic(), time.time()
    victim.kill()
    here = book.under_way(victim)
    lost = {w.id: w for w in base.wishes if w.id in here and w.host is not victim}
    others = [host for host in lan.hosts.values() if host is not victim]
    while (gone_at := max([await _gone_at(h, victim, told_at) for h in others])) == math.inf:
        assert time.monotonic() - at < within_s, "not all know that it is gone"
        await asyncio.sleep(LOOK_S)
    while (again := book.began(lost, at)).keys() != lost.keys():
        assert time.monotonic() - at < within_s, f"did not go on: {lost.keys() - again.keys()}"
        await asyncio.sleep(LOOK_S)
    alone = {job for job, wish in lost.items() if wish.kind == "alone"}
    return Loss(
        gone_at - told_at,
        tuple(again[job] - at for job in lost if job not in alone),
        tuple(again[job] - at for job in alone),
    )


async def _gone_at(host: Host, other: Host, after: float) -> float:
    """Return when ``host`` found ``other`` gone, by the wall clock."""
    async with host.ask() as client:
        events = await client.topology_history(1000)
    times = [
        datetime.fromisoformat(event["at"]).timestamp()
        for event in events
        if (event["kind"], event["name"]) == ("gone", other.name)
    ]
    return min((at for at in times if at >= after), default=math.inf)
