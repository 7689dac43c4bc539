"""
How work spreads over several instances, and what the loss of one of them costs.

An origin (this process) and workers (``offload run``) on loopback, under the policy ``balanced``.
Each figure stands beside the bound that the project sets itself, on a machine that does nothing
else; the workers only wait, so that the processors are left to us.

Short jobs on a small machine measure its processors, not how jobs are placed: so beside how long a
batch took stands what was left of the processors, and how much longer it took than jobs as long as
these really were must take; and the batch of 20 ms is repeated with jobs that are long enough.
``tests/test_spread.py`` holds the placing to the same bound without a machine.
"""

import argparse
import asyncio
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pause
import psutil
from rich.console import Console
from rich.table import Table

from offload import Config, Node
from offload.cli.serving import spare_the_collector

HERE = Path(__file__).resolve().parent
START_LIMIT_S = 60.0
TOLD_S = 2.0  # by then workers have told how long they take
PAUSE_S = 0.02
ALL_S = 30.0  # for so long jobs run that are all to be under way at the same time
CONFIG = """\
[node]
name = "{name}"
data_dir = "{folder}/{name}"
group_dir = "{folder}/group"
realm = "{realm}"
[queues.main]
max_parallel = {slots}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what was measured, the bound that it should keep, and what was in the way."""

    name: str
    value: float
    bound: float
    unit: str
    note: str = ""


class Processors:
    """What becomes of the machine's processors from now on."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self._processes = processes
        self._began = time.monotonic()
        self._was = self._ours_s(), *self._all_s()

    def told(self, jobs: int) -> str:
        """Return what each job has cost, and the shares of the processors since the beginning."""
        ours, (busy, total) = self._ours_s() - self._was[0], self._all_s()
        busy, total = busy - self._was[1], total - self._was[2]
        others = max(0.0, busy - ours) / total
        each_ms = 1000 * ours / jobs
        return f"{each_ms:.1f} ms of CPU a job, {ours / total:.0%} of all; others {others:.0%}"

    def _ours_s(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._processes)

    def _all_s(self) -> tuple[float, float]:
        times = psutil.cpu_times()
        return sum(times) - times.idle - getattr(times, "iowait", 0.0), sum(times)


class Workers:
    """Instances that run ``pause/for``, and an origin that does not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._realm = f"bench-{secrets.token_hex(6)}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @asynccontextmanager
    async def under(
        self, paces: list[float], slots: int, usual_s: float = PAUSE_S
    ) -> AsyncIterator[Node]:
        """
        Start a worker for each pace, with so many places; yield the origin that sees them.

        They have learnt that a job takes ``usual_s``.
        """
        own = {"name": "origin", "data_dir": str(self._folder / "origin")}
        own |= {"group_dir": str(self._folder / "group"), "realm": self._realm}
        config = Config.make(
            node=own,
            capabilities={"deny": ["**"]},
            offloading={"policy": "balanced"},
            queues={"main": {"keep": True}},
        )
        async with Node.from_config(config, pause.app) as node:
            try:
                for number, pace in enumerate(paces):
                    self._start(f"w{number}", pace, slots)
                await _met(node, len(paces))
                await asyncio.gather(*(_ended(node, usual_s) for _ in range(20 * len(paces))))
                spare_the_collector()  # as ``offload run`` does
                await asyncio.sleep(TOLD_S)
                yield node
            finally:
                for process in self._processes.values():
                    process.kill()
                    process.wait()

    def processors(self) -> Processors:
        """Begin to watch what we take of the processors."""
        ids = [os.getpid(), *(process.pid for process in self._processes.values())]
        return Processors([psutil.Process(pid) for pid in ids])

    def kill(self, name: str) -> float:
        """End a worker as a crash does; return when that was."""
        self._processes[name].kill()
        self._processes[name].wait()
        return time.monotonic()

    def _start(self, name: str, pace: float, slots: int) -> None:
        path = self._folder / f"{name}.toml"
        told = CONFIG.format(name=name, folder=self._folder, realm=self._realm, slots=slots)
        path.write_text(told, "utf-8")
        words = ["-m", "offload", "run", str(HERE / "pause.py"), "--config", str(path)]
        environment = os.environ | {"PAUSE_NAME": name, "PAUSE_PACE": str(pace)}
        with (self._folder / f"{name}.txt").open("wb") as output:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *words], stdout=output, stderr=output, env=environment
            )


async def even(folder: Path, jobs: int) -> Line:
    """Four equal workers: how far the one that does most or least is from a quarter."""
    async with Workers(folder).under([1.0] * 4, slots=2) as node:
        values = await asyncio.gather(*(_ended(node, PAUSE_S) for _ in range(jobs)))
    done = Counter(name for name, *_ in values)
    off = max(abs(done[f"w{n}"] - jobs / 4) for n in range(4)) / (jobs / 4)
    return Line(f"{jobs} jobs over 4 equal workers: furthest from a quarter", 100 * off, 10, "%")


async def uneven(folder: Path, jobs: int, pause_s: float) -> Line:
    """One of four is twice as fast: how much longer it takes than with a perfect plan."""
    slots, workers = 2, Workers(folder)
    async with workers.under([1.0, 1.0, 1.0, 2.0], slots, pause_s) as node:
        processors, began = workers.processors(), time.monotonic()
        values = await asyncio.gather(*(_ended(node, pause_s) for _ in range(jobs)))
        took_s = time.monotonic() - began
        note = processors.told(jobs)
    first_s, could_s = min(at for _, at, _ in values) - began, _perfect_s(values, slots)
    note += f"; the first began after {first_s:.2f} s"
    note += f"; {took_s / could_s - 1:.1%} longer than the ideal for what the jobs really took"
    ideal_s = jobs * pause_s / (5 * slots)
    lasting = f"{jobs} jobs of {1000 * pause_s:.0f} ms"
    name = f"{lasting}, one of 4 workers twice as fast: longer than the ideal"
    return Line(name, 100 * (took_s / ideal_s - 1), 15, "%", note)


async def killed(folder: Path) -> Line:
    """A worker is killed: until its job runs at another."""
    workers = Workers(folder)
    async with workers.under([1.0, 1.0], slots=1, usual_s=0.1) as node:
        job = await node.submit("pause/for", seconds=1.0)
        await asyncio.sleep(0.5)
        there = (await job.info())["worker_name"]
        killed_at = workers.kill(there)
        name, began, _ = await job.result()
    assert name != there
    return Line("kill -9 of a worker until its job runs elsewhere", began - killed_at, 1.5, "s")


async def crowd(folder: Path, jobs: int, slots: int, seconds: float) -> list[Line]:
    """One of five workers is killed under many jobs: until all that it had run elsewhere."""
    workers = Workers(folder)
    async with workers.under([1.0] * 5, slots, usual_s=0.5) as node:
        added = await asyncio.gather(
            *(node.submit("pause/for", seconds=seconds) for _ in range(jobs))
        )
        under_way = min(jobs, 5 * slots)
        await _placed(node, under_way)
        dead = next(i["id"] for i in node.topology_json()["instances"] if i["name"] == "w0")
        killed_at = workers.kill("w0")
        moved: list[float] = []
        doubled = 0
        for job in added:
            name, began, _ = await job.result()
            lines: list[dict[str, Any]] = (await job.info())["attempts"]
            doubled += sum(line["result"] == "succeeded" for line in lines) != 1
            if any(line["worker"] == dead and line["result"] != "succeeded" for line in lines):
                moved.append(began - killed_at)
            assert name != "w0" or began < killed_at
    if not moved:
        raise SystemExit("no job was at the worker that was killed; take more of them")
    what = f"1 of 5 workers killed, {jobs} jobs, {under_way} under way: its {len(moved)} run"
    return [
        Line(f"{what} elsewhere", max(moved), 2, "s"),
        Line("jobs of these with two outcomes", float(doubled), 0, ""),
    ]


async def _ended(node: Node, seconds: float) -> Any:
    return await node.offload("pause/for", seconds=seconds)


def _perfect_s(values: list[Any], slots: int) -> float:
    """
    Return how long it takes, with no place ever empty, if jobs last as long as they really did.

    A consumer that sleeps on an event loop sleeps too long: its clock wakes it by the millisecond.
    """
    lasted: defaultdict[str, list[float]] = defaultdict(list)
    for name, began, ended in values:
        lasted[name].append(ended - began)
    return len(values) / sum(slots / statistics.fmean(each) for each in lasted.values())


async def _placed(node: Node, count: int) -> None:
    """Return when so many jobs are under way, and a moment has passed in which they begin."""
    until, under_way = time.monotonic() + START_LIMIT_S, 0
    while under_way < 0.95 * count:
        if time.monotonic() > until:
            raise SystemExit(f"only {under_way} jobs were under way at a time")
        await asyncio.sleep(0.2)
        jobs = (await node.status())["jobs"]
        under_way = jobs["assigned"] + jobs["active"]
    await asyncio.sleep(0.5)


async def _met(node: Node, count: int) -> None:
    until = time.monotonic() + START_LIMIT_S
    while sum("pause/for" in i["topics"] for i in node.topology_json()["instances"]) < count:
        if time.monotonic() > until:
            raise SystemExit(f"the workers were not found within {START_LIMIT_S:.0f} s")
        await asyncio.sleep(0.05)


async def measure(args: argparse.Namespace, folder: Path) -> list[Line]:
    """Measure everything, each in a folder of its own."""
    places = [folder / name for name in ("killed", "even", "uneven", "longer", "crowd", "all")]
    for place in places:
        place.mkdir()
    return [
        await killed(places[0]),
        await even(places[1], args.jobs),
        await uneven(places[2], args.jobs, PAUSE_S),
        await uneven(places[3], args.jobs // 4, 10 * PAUSE_S),
        *await crowd(places[4], args.queued, slots=50, seconds=0.5),
        *await crowd(places[5], args.queued, slots=-(-args.queued // 4), seconds=ALL_S),
    ]


def main() -> None:
    """Measure and report; the defaults are the figures that the project states."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_000, help="jobs of 20 ms")
    parser.add_argument("--queued", type=int, default=10_000, help="jobs that wait, 2000 or more")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="offload-bench-") as folder:
        found = asyncio.run(measure(args, Path(folder)))
    table = Table(box=None, pad_edge=False)
    for title in ("", "offload", "at most", "  "):
        table.add_column(title, justify="right" if title.strip() else "left")
    for line in found:
        table.add_row(
            line.name, f"{line.value:.3g} {line.unit}", f"{line.bound:g} {line.unit}", line.note
        )
    Console().print(table)


if __name__ == "__main__":
    main()
