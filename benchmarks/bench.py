"""
What offload costs, durable: one instance with a coroutine consumer ("local"), then an origin
(this process) and a worker (``offload run``) on loopback.

Each figure stands beside that of a peer measured in the same run (``peer.py``), and as a ratio to
it: absolute figures tell of the machine, ratios of us. Local jobs are submitted by many callers,
each its next one when the last is on disk, and counted by the instance when their success is on
disk. There are more places than callers, so that hardly any waits for one. Their peer is a loop
that commits a row when a job is added, begun and done.
"""

import argparse
import asyncio
import json
import os
import platform
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import noop
from peer import Rows, insert_loop, local_loop, one_at_a_time, upload
from rich.console import Console
from rich.table import Table

from offload import Config, File, Node
from offload.cli.serving import spare_the_collector

HERE = Path(__file__).resolve().parent
PAYLOAD = bytes(1024)
CALLERS = 256  # who submit local jobs at the same time
PLACES = 4 * CALLERS  # for local jobs
LOOK_EVERY_S = 0.002
START_LIMIT_S = 30.0
WORKER_CONFIG = """\
[node]
name = "bench-worker"
data_dir = "{data_dir}"
group_dir = "{group_dir}"
insecure = {insecure}
realm = "{realm}"
[queues.bench]
topics = ["bench/*"]
max_parallel = {parallel}
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line: what was measured, ours and the peer's; ``better`` says which way is good."""

    name: str
    ours: float
    peers: float
    unit: str
    better: str
    peer: str

    @property
    def ratio(self) -> float:
        """Return ours as a multiple of the peer's."""
        return self.ours / self.peers


def figures_of_jobs(
    ours_s: list[float], child_s: list[float], peers_s: list[float]
) -> Iterator[Figure]:
    """Return p50 and p99 of jobs one at a time."""
    bare = "request, 3 commits"
    for name, mine in (("no-op", ours_s), ("no-op in a child", child_s)):
        for percent in (50, 99):
            yield Figure(
                f"{name}, alone, p{percent}",
                1000 * _percentile(mine, percent),
                1000 * _percentile(peers_s, percent),
                "ms",
                "lower",
                bare,
            )


async def one_by_one(node: Node, topic: str, count: int) -> list[float]:
    """Return the seconds of each of ``count`` jobs, one after the other."""
    spent = []
    for _ in range(count):
        began = time.perf_counter()
        await node.offload(topic, data=PAYLOAD)
        spent.append(time.perf_counter() - began)
    return spent


async def all_at_once(node: Node, count: int) -> float:
    """Return the jobs per second of ``count`` jobs, from the first submit to the last value."""
    began = time.perf_counter()
    jobs = await asyncio.gather(*(node.submit("bench/noop", data=PAYLOAD) for _ in range(count)))
    values = await asyncio.gather(*(job.result() for job in jobs))
    spent_s = time.perf_counter() - began
    assert values == [len(PAYLOAD)] * count
    return count / spent_s


async def all_here(node: Node, count: int) -> float:
    """Return the jobs per second of ``count`` jobs that run here, until all ends are recorded."""
    turns, others = iter(range(count)), await _succeeded(node)
    began = time.perf_counter()
    await asyncio.gather(*(_submit(node, turns) for _ in range(CALLERS)))
    await _recorded(node, others + count)
    return count / (time.perf_counter() - began)


async def _submit(node: Node, turns: Iterator[int]) -> None:
    for _ in turns:
        await node.submit("bench/noop", data=PAYLOAD)


async def _succeeded(node: Node) -> int:
    finished: int = (await node.statistics())["total"]["finished"]
    return finished


async def _recorded(node: Node, count: int) -> None:
    """Return when so many have succeeded."""
    while True:
        if await _succeeded(node) >= count:
            return
        await asyncio.sleep(LOOK_EVERY_S)


async def one_file(node: Node, path: Path) -> float:
    """Return the seconds of a job with a file: stored, carried, verified, opened, answered."""
    began = time.perf_counter()
    size = await node.offload("bench/file", content=File(path))
    assert size == path.stat().st_size
    return time.perf_counter() - began


async def local(args: argparse.Namespace, folder: Path, realm: str) -> Figure:
    """Measure one instance by itself."""
    rows = Rows(folder / "local.db")
    config = Config.make(
        node={
            "name": "bench-local",
            "data_dir": str(folder / "local"),
            "group_dir": str(folder / "local-group"),
            "realm": realm,
        },
        queues={"bench": {"topics": ["bench/*"], "max_parallel": PLACES}},
    )
    async with Node.from_config(config, noop.app) as node:
        spare_the_collector()  # as ``offload run`` does
        await all_here(node, 20)  # it is warm
        rate = await all_here(node, args.local)
    bare = local_loop(rows, PAYLOAD, args.local)
    rows.close()
    name = f"{args.local} local no-ops of 1 KiB"
    return Figure(name, rate, bare, "jobs/s", "higher", "bare loop, 3 commits")


async def measure(args: argparse.Namespace, folder: Path) -> list[Figure]:
    """Measure everything in ``folder``."""
    realm = f"bench-{secrets.token_hex(6)}"
    found = [await local(args, folder, f"{realm}-local")]
    with _peer(folder) as url, _worker(folder, realm, args):
        rows = Rows(folder / "own.db")
        config = Config.make(
            node={
                "name": "bench-origin",
                "data_dir": str(folder / "origin"),
                "group_dir": str(folder / "group"),
                "insecure": args.insecure,
                "realm": realm,
            },
            capabilities={"deny": ["**"]},
        )
        async with Node.from_config(config, noop.app) as node:
            await _met(node)
            await one_by_one(node, "bench/noop", 20)  # both are warm, and so is a child process
            await one_by_one(node, "bench/child", 5)
            found += figures_of_jobs(
                await one_by_one(node, "bench/noop", args.single),
                await one_by_one(node, "bench/child", args.single),
                await one_at_a_time(url, rows, PAYLOAD, args.single),
            )
            rate = await all_at_once(node, args.jobs)
            bare = insert_loop(rows, PAYLOAD, args.jobs)
            name = f"{args.jobs} no-ops of 1 KiB"
            found.append(Figure(name, rate, bare, "jobs/s", "higher", "bare inserts"))
            for megabytes in args.files:
                found.append(await _file_figure(node, url, folder, megabytes))
        rows.close()
    return found


async def _file_figure(node: Node, url: str, folder: Path, mebibytes: int) -> Figure:
    path = folder / f"{mebibytes}.bin"
    block = os.urandom(1024 * 1024)
    with path.open("wb") as file:
        for number in range(mebibytes):
            file.write(number.to_bytes(8, "big") + block[8:])
    try:
        ours_s = await one_file(node, path)
        peers_s = await upload(url, path)
    finally:
        path.unlink()
    return Figure(
        f"file of {mebibytes} MiB",
        mebibytes / ours_s,
        mebibytes / peers_s,
        "MiB/s",
        "higher",
        "bare upload",
    )


async def _met(node: Node) -> None:
    for _ in range(int(START_LIMIT_S * 20)):
        if any("bench/noop" in i["topics"] for i in node.topology_json()["instances"]):
            return
        await asyncio.sleep(0.05)
    raise SystemExit(f"the worker was not found within {START_LIMIT_S:.0f} s")


@contextmanager
def _worker(folder: Path, realm: str, args: argparse.Namespace) -> Iterator[None]:
    home = folder / "worker"
    home.mkdir()
    config = home / "offload.toml"
    config.write_text(
        WORKER_CONFIG.format(
            data_dir=home / "data",
            group_dir=folder / "group",
            insecure=str(args.insecure).lower(),
            realm=realm,
            parallel=args.parallel,
        ),
        "utf-8",
    )
    words = ["-m", "offload", "run", str(HERE / "noop.py"), "--config", str(config)]
    with (folder / "worker.txt").open("wb") as output:
        process = subprocess.Popen([sys.executable, *words], stdout=output, stderr=output)
    with _ended(process):
        yield


@contextmanager
def _peer(folder: Path) -> Iterator[str]:
    words = [sys.executable, str(HERE / "peer.py"), str(folder)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    with _ended(process):
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def report(found: list[Figure], path: Path, console: Console) -> None:
    """Print the table and write the JSON."""
    table = Table(box=None, pad_edge=False)
    for title in ("", "offload", "peer", "ratio", "peer is"):
        table.add_column(title, justify="left" if title in ("", "peer is") else "right")
    for f in found:
        ours, peers = (f"{value:.4g} {f.unit}" for value in (f.ours, f.peers))
        table.add_row(f.name, ours, peers, f"{f.ratio:.2f}", f.peer)
    console.print(table)
    machine = {"python": platform.python_version(), "cores": os.cpu_count()}
    rows = [{**asdict(f), "ratio": round(f.ratio, 4)} for f in found]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "figures": rows}, indent=2) + "\n", "utf-8")
    console.print(f"written to {path}")


def main() -> None:
    """Measure and report; the defaults are the figures that the project states."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000, help="jobs at once")
    parser.add_argument("--local", type=int, default=20000, help="jobs of one instance by itself")
    parser.add_argument("--single", type=int, default=300, help="jobs one at a time")
    parser.add_argument("--files", type=int, nargs="*", default=[64, 1024], help="sizes in MiB")
    parser.add_argument(
        "--parallel", type=int, default=64, help="jobs that run at once at the worker"
    )
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--insecure", action="store_true", help="plain links, to compare")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: temporary")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="offload-bench-", dir=args.folder) as folder:
        found = asyncio.run(measure(args, Path(folder)))
    report(found, args.json, Console())


if __name__ == "__main__":
    main()
