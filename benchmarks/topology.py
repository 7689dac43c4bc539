"""
How soon five hosts know of one another, of a crash, of silence, of a goodbye; what idling costs.

The hosts are network namespaces on one bridge (so: Linux, as root), each runs ``offload run``. The
times are those of their own histories, so asking delays nobody. Beside each figure stands the one
that the project states for a quiet machine.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tests.lab.hosts import Host, Lan, obstacle, until
from tests.lab.scenes import are_linked

NAMES = ("one", "two", "three", "four", "five")
PATIENCE_S = 60.0
# pydantic, aiohttp and rich load their parts when they are used: here are those that any use needs
IMPORTS = (
    "aiohttp.web, zeroconf.asyncio, msgpack, tenacity, pydantic.main, croniter, psutil,"
    " cryptography.x509, spake2, platformdirs, prometheus_client, typer, rich.console"
)
MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: the middle of what was measured, the worst, and what is stated for both."""

    name: str
    middle: float
    worst: float
    unit: str
    stated: str


def figure(name: str, measured: Sequence[float], unit: str, stated: str) -> Figure:
    """Return the middle and the worst."""
    return Figure(name, statistics.median(measured), max(measured), unit, stated)


async def found_at(host: Host, kind: str, others: Sequence[str], after: float) -> float | None:
    """Return when ``host`` had found this of all ``others`` since then; None: not yet."""
    async with host.ask() as client:
        events = await client.topology_history(1000)
    first: dict[str, float] = {}
    for event in events:
        at = datetime.fromisoformat(event["at"]).timestamp()
        if event["kind"] == kind and event["name"] in others and at >= after:
            first[event["name"]] = min(at, first.get(event["name"], at))
    return max(first.values()) if first.keys() == set(others) else None


async def since(
    began: float, hosts: Sequence[Host], kind: str, others: Callable[[Host], list[str]]
) -> float:
    """Return how long after ``began`` all ``hosts`` had found this of these others."""
    last = began
    for host in hosts:
        deadline = time.time() + PATIENCE_S
        while True:
            at = await found_at(host, kind, others(host), began)
            if at is not None:
                break
            if time.time() > deadline:
                raise SystemExit(f"{host.name} has not found {kind} in {PATIENCE_S:g} s")
            await asyncio.sleep(0.1)
        last = max(last, at)
    return last - began


async def opened(hosts: Sequence[Host]) -> float:
    """Wait until all listen; return when the last one did."""
    await until(lambda: all(h.is_open() for h in hosts), within_s=PATIENCE_S, what="all listen")
    return time.time()


def beside(hosts: Sequence[Host]) -> Callable[[Host], list[str]]:
    """Return who is to be found by each of ``hosts``: the others."""
    return lambda host: [other.name for other in hosts if other is not host]


async def together(folder: Path) -> tuple[float, float]:
    """Return how long a mesh takes, from the start and from when all listen."""
    with Lan(folder, NAMES) as lan:
        hosts = list(lan.hosts.values())
        began = time.time()
        for host in hosts:
            host.run(None)
        listening = await opened(hosts)
        mesh_s = await since(began, hosts, "linked", beside(hosts))
        return mesh_s, max(0.0, mesh_s - (listening - began))


async def changes(folder: Path, rounds: int) -> list[Figure]:
    """Measure what happens to one of five: it comes late, crashes, falls silent, leaves."""
    late: list[float] = []
    crash: list[float] = []
    silent: list[float] = []
    leave: list[float] = []
    with Lan(folder, NAMES) as lan:
        hosts = list(lan.hosts.values())
        *others, five = hosts

        def it(_host: Host) -> list[str]:
            return [five.name]

        for host in others:
            host.run(None)
        await until(lambda: are_linked(others), within_s=PATIENCE_S, what="four are linked")
        started = time.time()
        five.run(None)
        for number in range(rounds):
            listening = await opened([five])
            linked_s = await since(started, others, "linked", it)
            late.append(max(0.0, started + linked_s - listening))
            await until(lambda: are_linked(hosts), within_s=PATIENCE_S, what="all are linked")
            await asyncio.sleep(2)
            if number % 2:
                began = time.time()
                assert five.process is not None
                five.process.send_signal(signal.SIGTERM)
                leave.append(await since(began, others, "gone", it))
                five.process.wait()
            else:
                began = time.time()
                five.freeze()
                silent.append(await since(began, others, "silent", it))
                five.thaw()
                await until(lambda: are_linked(hosts), within_s=PATIENCE_S, what="it is back")
                await asyncio.sleep(2)
                began = time.time()
                five.kill()
                crash.append(await since(began, others, "gone", it))
            started = time.time()
            five.start()
        await until(lambda: are_linked(hosts), within_s=PATIENCE_S, what="all are linked")
    return [
        figure("one more is linked with all, after its port is open", late, "s", "0.5 at most"),
        figure("kill -9 is known to all", crash, "s", "0.3, 1 at most"),
        figure("SIGSTOP is shown by all", silent, "s", "6 at most"),
        figure("a clean end is known to all", leave, "s", "0.2 at most"),
    ]


async def idling(folder: Path, for_s: float, *, secure: bool) -> list[Figure]:
    """Measure what it costs to do nothing among six; ``secure``: of a group, as is usual."""
    with Lan(folder, (*NAMES, "six")) as lan:
        hosts = list(lan.hosts.values())
        for host in hosts:
            host.run(None, insecure=not secure)
        await until(lambda: are_linked(hosts), within_s=PATIENCE_S, what="all are linked")
        await asyncio.sleep(5)
        before = [(host.usage()[0], _traffic(host)) for host in hosts]
        began = time.monotonic()
        await asyncio.sleep(for_s)
        spent_s = time.monotonic() - began
        after = [(host.usage()[0], _traffic(host)) for host in hosts]
        pairs = list(zip(before, after, strict=True))
        cpu = [100 * (b[0] - a[0]) / spent_s for a, b in pairs]
        traffic = [(b[1] - a[1]) / spent_s / 1000 for a, b in pairs]
        memory = [host.usage()[1] - _bare_mib() for host in hosts]
    how = "TLS" if secure else "plain"
    return [
        figure(f"CPU of one idle among six, {how}", cpu, "% of a core", "1 at most"),
        figure(f"traffic of the same, both ways, {how}", traffic, "kB/s", "2 at most"),
        figure(f"memory beyond that of the bare imports, {how}", memory, "MiB", "25 at most"),
    ]


def _traffic(host: Host) -> int:
    """Return the bytes that have gone in and out of a host."""
    assert host.process is not None
    lines = Path(f"/proc/{host.process.pid}/net/dev").read_text("ascii").splitlines()
    fields = next(line.partition(":")[2].split() for line in lines if "eth0:" in line)
    return int(fields[0]) + int(fields[8])


def _bare_mib() -> float:
    """Return the memory of a Python that has only imported what we need."""
    code = f"import {IMPORTS}, os; print(open(f'/proc/{{os.getpid()}}/statm').read().split()[1])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(told.stdout) * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE


async def measure(args: argparse.Namespace, folder: Path) -> list[Figure]:
    """Take all figures."""
    meshes = [await together(_new(folder, f"mesh{n}")) for n in range(args.rounds)]
    return [
        figure("five started together are a mesh", [m[0] for m in meshes], "s", "-"),
        figure("the same, after all ports are open", [m[1] for m in meshes], "s", "1.3, 2 at most"),
        *await changes(_new(folder, "changes"), 2 * args.rounds),
        *await idling(_new(folder, "idle"), args.idle, secure=False),
        *await idling(_new(folder, "secure"), args.idle, secure=True),
    ]


def _new(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def report(found: list[Figure], path: Path, console: Console) -> None:
    """Print the table and write the JSON."""
    table = Table(box=None, pad_edge=False)
    for title in ("", "middle", "worst", "unit", "stated"):
        table.add_column(title, justify="right" if title in ("middle", "worst") else "left")
    for f in found:
        table.add_row(f.name, f"{f.middle:.3g}", f"{f.worst:.3g}", f.unit, f.stated)
    console.print(table)
    load = psutil.getloadavg()[2]
    console.print(f"{os.cpu_count()} cores, which were busy with {load:.1f} before")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(f) for f in found], indent=2) + "\n", "utf-8")
    console.print(f"written to {path}")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds of idling")
    parser.add_argument("--json", type=Path, default=Path("build/topology.json"))
    args = parser.parse_args()
    reason = obstacle()
    if reason:
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory(prefix="offload-bench-") as folder:
        found = asyncio.run(measure(args, Path(folder)))
    report(found, args.json, Console())


if __name__ == "__main__":
    main()
