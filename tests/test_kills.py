"""
An instance that is killed at random moments under load, again and again.

Nothing that `add` returned is lost, and nothing stands twice in the history. What the consumers
did is read from a ledger of their own, which they write beside and apart from our store.
"""

import asyncio
import contextlib
import json
import os
import random
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from offload.client import Client, connect
from offload.errors import NotRunning, Refused

APP = """
import asyncio, json, os, time
from offload import App, Context, Retry

app = App()

def say(what, number, ctx):
    line = json.dumps([what, number, ctx.job_id, ctx.attempt]).encode() + b"\\n"
    ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(ledger, line)
    os.close(ledger)

@app.consumer("load/loop", isolate="coroutine")
async def in_the_loop(number: int, ctx: Context) -> int:
    say("began", number, ctx)
    await asyncio.sleep(number % 7 / 200)
    say("ended", number, ctx)
    return number

@app.consumer("load/child")
def in_a_child(number: int, ctx: Context) -> int:
    say("began", number, ctx)
    time.sleep(number % 5 / 100)
    say("ended", number, ctx)
    return number

@app.consumer("load/flaky", isolate="coroutine")
async def at_the_second_try(number: int, ctx: Context) -> int:
    say("began", number, ctx)
    if ctx.retry_count == 0:
        raise Retry("not yet")
    say("ended", number, ctx)
    return number

@app.consumer("load/once", isolate="coroutine")
async def at_most_once(number: int, ctx: Context) -> int:
    say("began", number, ctx)
    await asyncio.sleep(number % 3 / 100)
    say("ended", number, ctx)
    return number
"""
CONFIG = """
[node]
realm = "{realm}"
listen = "127.0.0.1"
port = 0
data_dir = "data"

[discovery]
mdns = false

[queues.main]
max_parallel = 6
retry_delay = "0.05s"
max_crashes = 1000
keep = true

[topics."load/once"]
delivery = "at-most-once"
"""
TOPICS = ("load/loop", "load/loop", "load/child", "load/flaky", "load/once")
LIMIT_S = 60.0
PAGE = 500


class Stage:
    """The instance, killed and started again, and who adds jobs to it meanwhile."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.chance = random.Random(seed)
        self.returned: dict[int, str] = {}  # number -> id, of what ``add`` has returned
        self.asked: dict[int, str] = {}  # number -> topic, of all that was ever asked for
        self.kills: Counter[str] = Counter()
        self._up_s = 1.0  # what it took to come up
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "app.py").write_text(APP)
        (folder / "offload.toml").write_text(CONFIG.format(realm=f"test-{secrets.token_hex(6)}"))

    def start(self) -> None:
        known = {n: v for n, v in os.environ.items() if not n.startswith("OFFLOAD_")}
        with (self.folder / "output.txt").open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "offload", "run", "app.py"],
                cwd=self.folder,
                env={**known, "PYTHONPATH": str(Path(__file__).parents[1])},
                stdout=output,
                stderr=output,
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Wait until the instance is up, and talk to it."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            client = connect(self.folder / "data")
            try:
                await client.__aenter__()
                break
            except (NotRunning, Refused):
                assert self._process is not None
                assert self._process.poll() is None, self.output()
                assert time.monotonic() < deadline, "it does not come up"
                await asyncio.sleep(0.02)
        try:
            yield client
        finally:
            await client.close()

    async def one_life(self) -> None:
        """Start it and kill it: while it comes up, or at some job under load."""
        began = time.monotonic()
        self.start()
        if self.asked and self.chance.random() < 0.2:
            self.kills["while it comes up"] += 1
            await asyncio.sleep(self.chance.uniform(0.3, 1.2) * self._up_s)
            self.kill()
            return
        self.kills["under load"] += 1
        enough = len(self.returned) + self.chance.randint(1, 60)
        async with self.client() as client:
            self._up_s = time.monotonic() - began
            adders = [asyncio.create_task(self._add_all(client)) for _ in range(4)]
            while len(self.returned) < enough:
                assert not any(adder.done() for adder in adders), self.output()
                await asyncio.sleep(0)
            await asyncio.sleep(self.chance.uniform(0.0, 0.05))
            self.kill()
            await asyncio.gather(*adders)

    async def last_life(self) -> list[dict[str, Any]]:
        """Start it once more, ask again for what was not returned, and wait for all to end."""
        self.start()
        async with self.client() as client:
            for number in [n for n in self.asked if n not in self.returned]:
                await self._add(client, number)
            least, deadline = len(self.asked) + 1, 0.0
            while live := await client.count(states=["queued", "assigned", "active"]):
                if live < least:  # two hundred lives leave thousands of jobs behind
                    least, deadline = live, time.monotonic() + LIMIT_S
                assert time.monotonic() < deadline, f"{live} jobs do not end: {self.output()}"
                await asyncio.sleep(0.05)
            found = await self._history(client)
            return [await client.describe(job["id"]) for job in found]

    def ledger(self) -> list[tuple[str, int, str, int]]:
        text = (self.folder / "ledger").read_text("ascii")
        return [tuple(json.loads(line)) for line in text.splitlines()]

    def output(self) -> str:
        return (self.folder / "output.txt").read_text("utf-8", "replace")[-2_000:]

    async def _add_all(self, client: Client) -> None:
        """Add jobs until it is killed; for what it has not answered, the next life is asked."""
        with contextlib.suppress(NotRunning, Refused):
            for number in [n for n in self.asked if n not in self.returned][:2]:
                await self._add(client, number)
            while True:
                number = len(self.asked)
                self.asked[number] = self.chance.choice(TOPICS)
                await self._add(client, number)

    async def _add(self, client: Client, number: int) -> None:
        adding = client.options(key=f"job-{number}").submit(self.asked[number], number=number)
        job = await adding
        assert self.returned.setdefault(number, job.id) == job.id

    async def _history(self, client: Client) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while page := await client.jobs(limit=PAGE, before_seq=found[-1]["seq"] if found else None):
            found += page
        return found


def check(stage: Stage, jobs: list[dict[str, Any]]) -> Counter[str]:
    """Hold what the instance says against what ``add`` returned and what the consumers did."""
    by_id = {job["id"]: job for job in jobs}
    assert len(by_id) == len(jobs), "a job stands twice in the history"
    assert by_id.keys() == set(stage.returned.values()), "lost, or never asked for"
    assert len(set(stage.returned.values())) == len(stage.asked), "one job for each key"
    began: dict[str, Counter[int]] = {job_id: Counter() for job_id in by_id}
    ended: dict[str, Counter[int]] = {job_id: Counter() for job_id in by_id}
    for what, number, job_id, attempt in stage.ledger():
        assert stage.returned[number] == job_id
        (began if what == "began" else ended)[job_id][attempt] += 1
    for number, job_id in stage.returned.items():
        check_one(number, by_id[job_id], began[job_id], ended[job_id])
    return Counter(f"{job['topic']}: {job['state']}" for job in jobs)


def check_one(number: int, job: dict[str, Any], began: Counter[int], ended: Counter[int]) -> None:
    """One end, by one applied outcome; each attempt begun once, and written down once."""
    lines = {line["number"]: line["result"] for line in job["attempts"]}
    assert len(lines) == len(job["attempts"]), "an attempt is written down twice"
    assert sorted(lines) == list(range(1, max(lines) + 1)), "an attempt is not written down"
    assert set(began.values()) <= {1}, "an attempt began twice"
    assert set(began) <= set(lines)
    if job["state"] == "lost":
        assert job["topic"] == "load/once"
        assert list(lines.values()) == ["crashed"]
        return
    assert (job["state"], job["value"]) == ("succeeded", number)
    assert Counter(lines.values())["succeeded"] == 1, "one outcome is applied"
    assert lines[max(lines)] == "succeeded", "and it is the end"
    assert ended[max(lines)] == 1, "the consumer did what was applied"
    if job["topic"] == "load/once":
        assert sum(began.values()) == 1, "started twice"
    if job["topic"] == "load/flaky":
        assert Counter(lines.values())["failed"] == 1, "a retry is counted once"


async def kill_again_and_again(folder: Path, seed: int, times: int) -> None:
    stage = Stage(folder, seed)
    try:
        for _ in range(times):
            await stage.one_life()
        jobs = await stage.last_life()
    finally:
        stage.kill()
    ends = check(stage, jobs)
    again = sum(len(job["attempts"]) > 1 for job in jobs)
    print(f"seed {seed}: {dict(stage.kills)}; {len(jobs)} jobs, {again} more than once: {ends}")


@pytest.mark.timeout(300)
async def test_an_instance_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """C090: five kills; two hundred under ``long``."""
    await kill_again_and_again(tmp_path, seed=3, times=5)


@pytest.mark.long
@pytest.mark.timeout(3_600)
async def test_an_instance_that_is_killed_two_hundred_times(tmp_path: Path) -> None:
    """C090: the same, two hundred times, from another seed each day."""
    await kill_again_and_again(tmp_path, seed=int(time.time() // 86_400), times=200)
