"""
What a large file costs: an origin and a worker, two processes of ``offload run`` on loopback over a
plain link, asked by this one.

Rate: of the whole job (stored, carried, verified, laid ready, answered), beside a bare streamed
upload with SHA-256 and fsync of the same file in the same run; in turns, each with another file,
and the best of each counts, so that a machine that is busy with other things is so for both.
Memory: the peak of each of the two processes during all of them, above what it had when idle.

A virtual machine may take seconds to find a gigabyte of memory that it has not used for a while.
We fill three with a file, the peer one: so as much as a turn needs is used once before it.
"""

import argparse
import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import HERE, Figure, _ended, _peer, report
from peer import upload
from rich.console import Console

from offload import Client, File, connect
from offload.errors import NotRunning

START_LIMIT_S = 30.0
MIB = 1024 * 1024
IN_MEMORY = 5  # times the file: the blobs of both, the job's copy, the peer's, and some more
CONFIG = """\
[node]
name = "{name}"
data_dir = "data"
group_dir = "../group"
insecure = true
listen = ["127.0.0.1"]
port = 0
realm = "{realm}"
[discovery]
interfaces = ["127.0.0.1"]
"""


@contextmanager
def _instance(folder: Path, name: str, realm: str, *app: str) -> Iterator[int]:
    """Run an instance; yield its process id."""
    home = folder / name
    home.mkdir()
    (home / "offload.toml").write_text(CONFIG.format(name=name, realm=realm), "utf-8")
    words = [sys.executable, "-m", "offload", "run", *app]
    with (home / "output.txt").open("wb") as output:
        process = subprocess.Popen(words, cwd=home, stdout=output, stderr=output)
    with _ended(process):
        yield process.pid


def _peak_mib(pid: int) -> float:
    """Return the most memory that a process had since ``_forget_peak``."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("this system does not tell the peak of a process's memory")


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")


async def _opened(folder: Path) -> Client:
    """Return a client of the origin as soon as it knows who takes files."""
    give_up_at = time.monotonic() + START_LIMIT_S
    while time.monotonic() < give_up_at:
        client = connect(folder / "origin" / "data")
        try:
            await client.__aenter__()
            view = await client.topology()
        except NotRunning:
            await asyncio.sleep(0.1)
            continue
        if any("bench/file" in str(instance["topics"]) for instance in view["instances"]):
            return client
        await client.close()
        await asyncio.sleep(0.1)
    raise SystemExit(f"origin and worker have not met within {START_LIMIT_S:.0f} s")


def _write(path: Path, mebibytes: int) -> None:
    """Make a file that was never seen, and have it on the disk: that is no part of the measure."""
    block = secrets.token_bytes(MIB)
    with path.open("wb") as file:
        for number in range(mebibytes):
            file.write(number.to_bytes(8, "big") + block[8:])
        file.flush()
        os.fsync(file.fileno())


def _use_memory(mebibytes: int) -> None:
    """Have so much memory found, and free again; not more than half of what is free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    len(b"\x01" * min(mebibytes * MIB, free // 2))


async def measure(folder: Path, mebibytes: int, turns: int) -> list[Figure]:
    """Measure; the peer of memory is what each process may take more than when idle."""
    path, small = folder / "large.bin", folder / "small.bin"
    small.write_bytes(bytes(1000))
    ours_s, peers_s = [], []
    realm = f"bench-{secrets.token_hex(6)}"
    with ExitStack() as running:
        url = running.enter_context(_peer(folder))
        origin = running.enter_context(_instance(folder, "origin", realm))
        app = str(HERE / "noop.py")
        worker = running.enter_context(_instance(folder, "worker", realm, app))
        client = await _opened(folder)
        try:
            for _ in range(3):  # both are warm
                await client.offload("bench/file", content=File(small))
            pids = {"origin": origin, "worker": worker}
            for pid in pids.values():
                _forget_peak(pid)
            idle = {name: _peak_mib(pid) for name, pid in pids.items()}
            for _ in range(turns):
                _write(path, mebibytes)
                _use_memory(IN_MEMORY * mebibytes)
                began = time.perf_counter()
                size = await client.offload("bench/file", content=File(path))
                ours_s.append(time.perf_counter() - began)
                assert size == mebibytes * MIB
                peers_s.append(await upload(url, path))
            more = {name: _peak_mib(pid) - idle[name] for name, pid in pids.items()}
        finally:
            await client.close()
    rate = Figure(
        f"file of {mebibytes} MiB",
        mebibytes / min(ours_s),
        mebibytes / min(peers_s),
        "MiB/s",
        "higher",
        "bare upload",
    )
    memory = [
        Figure(f"memory of the {name}, above idle", mib, 64.0, "MiB", "lower", "the limit")
        for name, mib in more.items()
    ]
    return [rate, *memory]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1024, help="of the file, in MiB")
    parser.add_argument("--turns", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--json", type=Path, default=Path("build/files.json"))
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: temporary")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="offload-bench-", dir=args.folder) as folder:
        found = asyncio.run(measure(Path(folder), args.size, args.turns))
    report(found, args.json, Console())


if __name__ == "__main__":
    main()
