"""Consumers on whole nodes: what they say, keep, answer and break reaches who added the job."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from offload import Job, JobFailed, Node, Retry
from offload.app import MAIN, App, Context, load_app
from offload.errors import ConfigError
from offload.payload import File
from offload.testing import Lan
from offload.ticks import ticks_s

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from offload import App, Cancel, Context, File, Retry

app = App()

@app.consumer("say/all")
def say(ctx: Context):
    ctx.log("hello")
    ctx.progress(1, 2, "half")
    ctx.partial({"page": 1, "raw": b"x"})
    ctx.properties["page"] = 1
    out = ctx.output("extra.txt")
    out.path.write_text("extra")
    return "done"

@app.consumer("keep/count")
def count(ctx: Context, how: str):
    runs = ctx.properties["runs"] = ctx.properties.get("runs", 0) + 1
    if runs < 3:
        if how == "crash":
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        raise Retry("again")
    return [runs, ctx.retry_count]

@app.consumer("keep/wait")
def wait(ctx: Context, marks: str):
    runs = ctx.properties["runs"] = ctx.properties.get("runs", 0) + 1
    Path(marks, f"run{runs}").touch()
    while runs == 1 and not ctx.stopping:
        time.sleep(0.01)
    return runs

@app.consumer("poison")
def poison(marks: str):
    Path(marks, str(time.time_ns())).touch()
    os._exit(3)

@app.consumer("slow", timeout="1s")
def slow(marks: str):
    Path(marks, str(time.time_ns())).touch()
    time.sleep(60)

@app.consumer("deaf")
def deaf(ctx: Context, marks: str):
    Path(marks, str(os.getpid())).touch()
    while True:
        time.sleep(0.01)

@app.consumer("log")
def log(lines: int):
    for line in range(lines):
        print("line", line)
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, MAIN, raising=False)
    (tmp_path / "app.py").write_text(PROGRAM)
    return load_app(str(tmp_path / "app.py"))


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@pytest.fixture
async def lan(tmp_path: Path) -> AsyncIterator[Lan]:
    async with Lan(tmp_path / "lan") as lan:
        yield lan


LONG_S = 100_000.0  # of the LAN's clock, which runs while child processes take their time
QUICK = {"main": {"retries": 2, "retry_delay": "2s"}}


async def collected(job: Job) -> list[dict[str, Any]]:
    return [event async for event in job.events()]


@pytest.mark.parametrize("away", [False, True])
class TestWhatAConsumerSays:
    async def test_reaches_who_follows_the_job(self, lan: Lan, app: App, away: bool) -> None:
        ada = await lan.node(None if away else app)
        if away:
            await lan.node(app)
        job = await ada.submit("say/all")
        events = await lan.until(collected(job), LONG_S)
        told = {event["kind"]: event for event in events}
        assert told["log"]["text"] == "hello"
        assert (told["progress"]["done"], told["progress"]["total"]) == (1, 2)
        assert told["partial"]["value"] == {"page": 1, "raw": b"x"}
        assert told["properties"]["properties"] == {"page": 1}
        info = await job.info()
        assert info["properties"] == {"page": 1}
        assert [Path(path).read_text() for path in info["outputs"]] == ["extra"]
        assert await job.result() == "done"
        texts = {line["kind"]: line["text"] for line in await ada.logs(job.id)}
        assert texts["partial"] == '{"page": 1, "raw": "<1 bytes>"}'

    @pytest.mark.parametrize("how", ["retry", "crash"])
    async def test_and_keeps_is_there_at_the_next_attempt(
        self, lan: Lan, app: App, away: bool, how: str
    ) -> None:
        ada = await lan.node(None if away else app, queues=QUICK)
        if away:
            await lan.node(app)
        job = await ada.submit("keep/count", how=how)
        assert await lan.until(job.result(), LONG_S) == [3, 0 if how == "crash" else 2]


async def test_what_is_kept_moves_with_the_job_to_another_instance(
    lan: Lan, app: App, marks: Path
) -> None:
    ada = await lan.node()
    bob = await lan.node(app)
    job = await ada.submit("keep/wait", marks=str(marks))
    await lan.until(there(marks / "run1"), LONG_S)
    await lan.until(kept(job, {"runs": 1}), LONG_S)
    await lan.node(app)
    await lan.crash(bob)
    assert await lan.until(job.result(), LONG_S) == 2


async def test_what_is_kept_survives_a_cut_until_the_outcome_is_home(lan: Lan, app: App) -> None:
    """News may be lost; the outcome is not."""
    ada = await lan.node(queues=QUICK)
    await lan.node(app)
    lan.lose(1.0, "news")
    job = await ada.submit("keep/count", how="retry")
    assert await lan.until(job.result(), LONG_S) == [3, 2]


async def there(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.01)


async def kept(job: Job, properties: dict[str, Any]) -> None:
    while (await job.info())["properties"] != properties:
        await asyncio.sleep(0.01)


class TestAnAsyncAnswer:
    async def test_keeps_its_place_until_it_is_given(self, lan: Lan) -> None:
        """C016."""
        app, begun = App(), []

        @app.consumer("a/b")
        async def later(ctx: Context) -> Any:
            begun.append(ctx)
            return ctx.later()

        ada = await lan.node(app, queues={"one": {"topics": ["a/*"], "max_parallel": 1}})
        jobs = [await ada.submit("a/b") for _ in range(2)]
        await lan.clock.advance(30)
        assert len(begun) == 1
        begun[0].finish("first")
        assert await lan.until(jobs[0].result()) == "first"
        await lan.settle()
        assert len(begun) == 2
        begun[1].finish("second")
        assert await lan.until(jobs[1].result()) == "second"

    async def test_of_a_consumer_that_was_removed_goes_the_retry_path(self, lan: Lan) -> None:
        """C039, C005: no deadlock; it runs once there is a consumer again."""
        app, begun = App(), []

        @app.consumer("a/b")
        async def later(ctx: Context) -> Any:
            begun.append(ctx)
            return ctx.later()

        ada = await lan.node(app, queues=QUICK)
        jobs = [await ada.submit("a/b") for _ in range(3)]
        await lan.settle()
        assert len(begun) == 3
        app.remove(later)
        await lan.clock.advance(10)
        states = [(await job.info())["state"] for job in jobs]
        assert states == ["queued"] * 3
        assert (await jobs[0].info())["failures"] == 1

        @app.consumer("a/b")
        async def now() -> str:
            return "now"

        for job in jobs:
            assert await lan.until(job.result(), within_s=1) == "now"


class TestAPoisonJob:
    @pytest.mark.parametrize("away", [False, True])
    async def test_is_given_up_after_so_many_crashes(
        self, lan: Lan, app: App, marks: Path, away: bool
    ) -> None:
        """C017."""
        queues = {"main": {"retries": -1, "max_crashes": 3, "retry_delay": "1s"}}
        ada = await lan.node(None if away else app, queues=queues)
        if away:
            await lan.node(app)
        job = await ada.submit("poison", marks=str(marks))
        info = await lan.until(job.wait(), LONG_S)
        assert (info["state"], info["crashes"], info["failures"]) == ("given_up", 3, 0)
        assert "exit code 3" in info["reason"]
        assert len(list(marks.iterdir())) == 3


class TestATimeout:
    async def test_ends_the_attempt_frees_its_place_and_is_retried(
        self, lan: Lan, app: App, marks: Path
    ) -> None:
        """C021."""
        queues = {"main": {"retries": 1, "retry_delay": "1s", "max_parallel": 1}}
        ada = await lan.node(app, queues=queues)
        job = await ada.submit("slow", marks=str(marks))
        info = await lan.until(job.wait(), LONG_S)
        assert info["state"] == "given_up"
        assert [a["result"] for a in info["attempts"]] == ["timed_out"] * 2
        assert len(list(marks.iterdir())) == 2
        assert await lan.until(ada.offload("log", lines=1), LONG_S) is None


class TestAStop:
    @pytest.mark.parametrize("away", [False, True])
    async def test_reaches_the_instance_where_the_job_runs_and_kills_what_ignores_it(
        self, lan: Lan, app: App, marks: Path, away: bool
    ) -> None:
        """C019."""
        ada = await lan.node(None if away else app)
        worker = await lan.node(app) if away else ada
        worker._house.executors._grace_s = 0.3
        job = await ada.submit("deaf", marks=str(marks))
        while not list(marks.iterdir()):
            await lan.clock.advance(0.1)
            await asyncio.sleep(0.01)
        assert await job.stop()
        assert (await lan.until(job.wait(), LONG_S))["state"] == "stopped"
        pid = int(next(marks.iterdir()).name)
        deadline = time.monotonic() + 5
        while Path(f"/proc/{pid}/stat").exists():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


class TestTheRetryDelay:
    @pytest.mark.parametrize(("own", "waited_s"), [(None, 5), ("9s", 9)])
    async def test_is_the_consumers_own_over_the_queues(
        self, lan: Lan, own: str | None, waited_s: float
    ) -> None:
        """C038."""
        app, runs = App(), []

        @app.consumer("a/b")
        async def again() -> str:
            runs.append(lan.clock.now())
            if len(runs) == 1:
                raise Retry("busy", after=own)
            return "done"

        ada = await lan.node(app, queues={"main": {"retry_delay": "5s"}})
        await lan.until(ada.offload("a/b"))
        assert waited_s <= runs[1] - runs[0] <= waited_s + 1

    async def test_survives_a_restart_and_blocks_nobody(self, lan: Lan) -> None:
        """C038."""
        app, runs = App(), []

        @app.consumer("a/b")
        async def again(number: int) -> int:
            runs.append((number, lan.clock.now()))
            if number == 1 and len(runs) == 1:
                raise Retry("busy", after="20s")
            return number

        ada = await lan.node(app, queues={"main": {"max_parallel": 1}})
        job = await ada.submit("a/b", number=1)
        await lan.clock.advance(1)
        assert await lan.until(ada.offload("a/b", number=2), within_s=2) == 2
        await lan.clock.advance(5)
        ada = await lan.restart(ada)
        again_job = await ada.job(job.id)
        assert await lan.until(again_job.result()) == 1
        assert 20 <= runs[-1][1] - runs[0][1] <= 22


class TestTheLog:
    @pytest.mark.parametrize(("limit", "left"), [(10, 10), (0, 0), (30, 20)])
    async def test_keeps_the_last_lines_and_marks_the_cut(
        self, lan: Lan, app: App, limit: int, left: int
    ) -> None:
        """C037."""
        ada = await lan.node(app, topics={"log": {"log_lines": limit}})
        job = await ada.submit("log", lines=20)
        await lan.until(job.result(), LONG_S)
        lines = await ada.logs(job.id)
        said = [line["text"] for line in lines if line["kind"] == "log"]
        assert said == [f"line {number}" for number in range(20 - left, 20)]
        assert any(line["kind"] == "cut" for line in lines) == (0 < left < 20)


COMMANDS = {
    "text/upper": {
        "command": ["sh", "-c", 'tr a-z A-Z <"$1" >"$2"', "sh", "{input}", "{output.up}"],
        "give_up_exit_codes": [3],
        "timeout": "20s",
    },
    "text/exit": {"command": ["sh", "-c", "exit $OFFLOAD_ARG_CODE"], "give_up_exit_codes": [3]},
}


class TestACommandTopic:
    @pytest.fixture
    async def ada(self, lan: Lan) -> Node:
        await lan.node(topics=COMMANDS)
        return await lan.node(queues=QUICK)

    async def test_is_announced_and_takes_files_there_and_back(
        self, lan: Lan, ada: Node, tmp_path: Path
    ) -> None:
        (tmp_path / "in.txt").write_text("abc")
        made = await lan.until(ada.offload("text/upper", File(tmp_path / "in.txt")), LONG_S)
        assert (made.path.name, made.path.read_text()) == ("in.up", "ABC")

    async def test_ends_the_job_by_its_exit_code(self, lan: Lan, ada: Node) -> None:
        assert await lan.until(ada.offload("text/exit", code=0), LONG_S) == {"exit_code": 0}
        with pytest.raises(JobFailed, match="exit code 3"):
            await lan.until(ada.offload("text/exit", code=3), LONG_S)
        job = await ada.submit("text/exit", code=75)
        info = await lan.until(job.wait(), LONG_S)
        assert (info["state"], info["failures"]) == ("given_up", 3)


class TestTheRulesOfATopic:
    async def test_hold_for_consumers_of_the_program(self, lan: Lan, app: App) -> None:
        topics = {"log": {"isolate": "thread"}, "keep/*": {"memory": "1GiB"}}
        ada = await lan.node(app, topics=topics)
        assert ada._house.executors.consumer("log").isolate == "thread"
        assert ada._house.executors.consumer("keep/count").memory_bytes == 2**30

    async def test_that_cannot_hold_are_refused_at_the_start(self, lan: Lan) -> None:
        app = App()

        @app.consumer("a/b")
        async def waiting() -> None: ...

        with pytest.raises(ConfigError, match="is async and runs on the event loop"):
            await lan.node(app, topics={"a/b": {"isolate": "process"}})


class TestExclusiveWork:
    async def test_is_ended_by_its_own_process_when_its_lease_is_over(
        self, lan: Lan, app: App, marks: Path
    ) -> None:
        """C081, DESIGN §5: the LAN's clock stands still, so that no daemon could have done it."""
        timing = {"heartbeat": "0.3s", "lease": "1s"}
        ada = await lan.node(timing=timing)
        await lan.node(app, timing=timing)
        exclusive = ada.options(delivery="exclusive")
        job = await exclusive.submit("keep/wait", marks=str(marks))
        deadline = time.monotonic() + 10
        while not (attempts := (await job.info())["attempts"]):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert [(a["result"], a["reason"]) for a in attempts] == [
            ("unreachable", "its lease was over")
        ]
        assert await lan.until(job.result(), LONG_S) == 2

    async def test_goes_on_while_its_lease_is_renewed(
        self, lan: Lan, app: App, marks: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ada, bob = await lan.node(), await lan.node(app)
        job = await ada.options(delivery="exclusive").submit("keep/wait", marks=str(marks))
        await lan.until(there(marks / "run1"), LONG_S)
        renewed = []
        monkeypatch.setattr(bob._house.executors, "renew", lambda *told: renewed.append(told))
        began = lan.clock.now()
        await lan.clock.advance(20)
        assert len(renewed) >= 4
        assert {told[:2] for told in renewed} == {(job.id, 1)}
        lasts_s = renewed[-1][2] - ticks_s()
        assert 10 < lasts_s <= 15
        assert lan.clock.now() - began == pytest.approx(20)
        await job.stop()
        await lan.until(job.wait(), LONG_S)
