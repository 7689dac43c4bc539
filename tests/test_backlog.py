"""A backlog of 100 000 jobs lies in the store, not in memory."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from offload.work.jobs import Job, Spec, digest, new_id
from offload.work.store import Store

JOBS = 100_000
MEBIBYTE = 2**20
PAYLOAD = b"\x81\xa4data\xc4\x64" + bytes(100)
APP = """
from offload import App

app = App()


@app.consumer("a")
async def a(data: bytes) -> int:
    return len(data)
"""


async def fill(folder: Path, topic: str, jobs: int) -> None:
    """Leave a store with so many jobs that wait, in a queue that is suspended."""
    store = Store.open(folder / "store")
    await store.keep_note("suspended:main", "yes")
    spec = Spec(topic, PAYLOAD, digest(PAYLOAD), len(PAYLOAD))
    for _ in range(0, jobs, 1_000):
        many = (Job(new_id(), topic, "main") for _ in range(1_000))
        await asyncio.gather(*(store.insert(job, spec, {}) for job in many))
    await store.close()


@contextmanager
def instance(folder: Path) -> Iterator[psutil.Process]:
    program = folder.parent / "app.py"
    program.write_text(APP)
    words = [sys.executable, "-m", "offload", "run", str(program), "--data-dir", str(folder)]
    alone = {"OFFLOAD_NODE__REALM": f"backlog-{os.getpid()}", "OFFLOAD_NODE__PORT": "0"}
    with subprocess.Popen(words, env=os.environ | alone, stderr=subprocess.DEVNULL) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)


def at_rest(process: psutil.Process, folder: Path) -> int:
    """Return the bytes that the instance takes once it is open and takes no more."""
    end = time.monotonic() + 60
    sizes = [0]
    while not (folder / "run.json").exists() or len(set(sizes[-20:])) > 1 or len(sizes) < 20:
        assert time.monotonic() < end, f"it does not come to rest: {sizes[-20:]}"
        time.sleep(0.25)
        sizes.append(process.memory_info().rss)
    return sizes[-1]


@pytest.mark.long
@pytest.mark.parametrize("topic", ["a", "nobody/has/it"])
def test_an_idle_instance_with_a_backlog_takes_20_mib_more_at_most(
    tmp_path: Path, topic: str
) -> None:
    """C020+: in a suspended queue, or with no consumer."""
    sizes = []
    for name, jobs in (("empty", 0), ("full", JOBS)):
        folder = tmp_path / name
        asyncio.run(fill(folder, topic, jobs))
        with instance(folder) as process:
            sizes.append(at_rest(process, folder) / MEBIBYTE)
    print([f"{size:.1f} MiB" for size in sizes])
    assert sizes[1] <= sizes[0] + 20
