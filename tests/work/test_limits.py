"""What a process may not go beyond: its memory, and the lease of exclusive work."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from offload.app import MAIN, App, load_app
from offload.errors import ConfigError, ConsumerError
from offload.ticks import ticks_s
from offload.work.executors import Command, Executors, TopicRule
from offload.work.jobs import Result
from tests.work.desk import Desk, alive, until

PROGRAM = """
import os, signal, subprocess, sys, time
from pathlib import Path
from offload import App, Context

app = App()

@app.consumer("memory/own", memory="200MiB")
def own(mib: int):
    block = bytearray(mib * 2**20)
    time.sleep(1 if mib > 100 else 0)
    return os.getpid()

@app.consumer("memory/helper", memory="150MB")
def helper():
    program = "import time; x = bytearray(90 * 2**20); time.sleep(60)"  # it takes both of them
    helpers = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    helpers[0].wait()

@app.consumer("memory/free")
def free(mib: int):
    global kept
    kept = bytearray(mib * 2**20)
    return os.getpid()

@app.consumer("lease/asked", isolate="thread")
def asked():
    return "nobody could have ended it"

@app.consumer("lease/beat")
def beat(path: str, seconds: float = 60.0):
    began = time.monotonic()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while time.monotonic() < began + seconds:
        os.write(file, b"%f\\n" % time.monotonic())
        time.sleep(0.001)
    return os.getpid()

@app.consumer("lease/gil")
def gil(path: str):
    Path(path).write_text("0")
    (1 << 60_000_000) // 3 ** 30_000_000

@app.consumer("lease/meddle")
def meddle(how: str):
    if how == "handle":
        signal.signal(signal.SIGALRM, lambda *_: None)
    if how == "block":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    if how == "take":
        signal.setitimer(signal.ITIMER_REAL, 0)
    return os.getpid()
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, MAIN, raising=False)
    (tmp_path / "app.py").write_text(PROGRAM)
    return load_app(str(tmp_path / "app.py"))


@pytest.fixture
async def desk(app: App, tmp_path: Path) -> AsyncIterator[Desk]:
    executors = Executors(app, run_file=tmp_path / "children.json", grace_s=0.3)
    await executors.open()
    yield Desk(executors, tmp_path)
    await executors.close()


class TestAMemoryCap:
    async def test_lets_a_job_below_it_be(self, desk: Desk) -> None:
        assert await desk.value("memory/own", mib=20)

    async def test_ends_the_attempt_and_not_the_instance(self, desk: Desk) -> None:
        outcome = (await desk.run("memory/own", mib=400)).outcome
        assert (outcome.result, outcome.final) == (Result.FAILED, False)
        assert "of memory; its cap is 200 MiB" in outcome.reason
        assert await desk.value("memory/own", mib=1)

    async def test_counts_what_its_helpers_use(self, desk: Desk) -> None:
        outcome = (await desk.run("memory/helper")).outcome
        assert outcome.result is Result.FAILED
        assert "its cap is 143.1 MiB" in outcome.reason

    async def test_is_not_charged_with_what_former_jobs_have_left(self, desk: Desk) -> None:
        former = await desk.value("memory/free", mib=300)
        assert await desk.value("memory/own", mib=1) != former

    async def test_of_the_configuration_wins(self, app: App, tmp_path: Path) -> None:
        rules = {"memory/*": TopicRule(memory_bytes=100 * 2**20)}
        executors = Executors(app, run_file=tmp_path / "children.json", rules=rules)
        outcome = (await Desk(executors, tmp_path).run("memory/free", mib=300)).outcome
        assert "its cap is 100 MiB" in outcome.reason
        await executors.close()

    def test_is_for_processes(self, tmp_path: Path) -> None:
        app = App()
        with pytest.raises(ConsumerError, match="only a process can be held to it"):
            app.consumer("a", isolate="thread", memory="1GiB")(gil_free)
        app.consumer("a/b", isolate="thread")(gil_free)
        with pytest.raises(ConfigError, match="cannot be capped"):
            Executors(app, run_file=tmp_path / "x", rules={"a/*": TopicRule(memory_bytes=1)})

    @pytest.mark.parametrize("memory", ["much", 0, "-1", True, "1XB"])
    def test_must_be_a_size(self, memory: object) -> None:
        with pytest.raises(ConsumerError, match="is no size; write 500MB, 2GiB or bytes"):
            App().consumer("a", memory=memory)(gil_free)


def gil_free() -> None: ...


class TestALease:
    async def test_ends_the_process_when_it_is_over(self, desk: Desk) -> None:
        path = desk.folder / "beats"
        over_s = ticks_s() + 1
        ran = await desk.begin("lease/beat", {"lease_until_s": over_s}, path=str(path))[1]
        assert (ran.outcome.result, ran.outcome.reason) == (
            Result.UNREACHABLE,
            "its lease was over",
        )
        assert 0 <= ticks_s() - over_s < 0.5

    async def test_that_is_renewed_lets_it_go_on(self, desk: Desk) -> None:
        path = desk.folder / "beats"
        task, running = desk.begin(
            "lease/beat", {"lease_until_s": ticks_s() + 1.5}, path=str(path), seconds=2.5
        )
        while not running.done():
            desk.executors.renew(task.job_id, task.attempt, ticks_s() + 1.5)
            await asyncio.sleep(0.1)
        assert (await running).outcome.result is Result.SUCCEEDED
        assert not desk.executors.renew(task.job_id, task.attempt, ticks_s() + 9)

    async def test_leaves_nothing_armed_for_the_next_job(self, desk: Desk) -> None:
        path = desk.folder / "beats"
        former = await desk.begin(
            "lease/beat", {"lease_until_s": ticks_s() + 4}, path=str(path), seconds=0
        )[1]
        assert former.outcome.result is Result.SUCCEEDED
        ran = await desk.run("lease/beat", path=str(path), seconds=4.2)
        assert ran.outcome.value == former.outcome.value

    async def test_ends_a_call_that_holds_the_gil(self, desk: Desk) -> None:
        """It was renewed, and its process could not learn of it: that is the consumer's doing."""
        path = desk.folder / "begun"
        task, running = desk.begin("lease/gil", {"lease_until_s": ticks_s() + 1}, path=str(path))
        while not running.done():
            desk.executors.renew(task.job_id, task.attempt, ticks_s() + 2)
            await asyncio.sleep(0.1)
        outcome = (await running).outcome
        assert outcome.result is Result.CRASHED
        assert "holds the GIL" in outcome.reason

    @pytest.mark.parametrize("attempt", range(3))
    async def test_leaves_no_effect_of_a_process_that_was_frozen_and_is_woken(
        self, desk: Desk, attempt: int
    ) -> None:
        """C081."""
        path = desk.folder / "beats"
        await desk.value("lease/beat", path=os.devnull, seconds=0)  # its start is not the lease's
        over_s = ticks_s() + 2
        _, running = desk.begin("lease/beat", {"lease_until_s": over_s}, path=str(path))
        await until(lambda: path.exists() and path.stat().st_size)
        (pid,) = [child.pid for child in desk.executors._pool._all]
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(over_s + 0.2 - ticks_s())
        woken_at = time.monotonic()
        os.kill(pid, signal.SIGCONT)
        assert (await running).outcome.result is Result.UNREACHABLE
        assert not [beat for beat in path.read_text().split() if float(beat) >= woken_at]

    async def test_that_is_over_before_it_begins_runs_nothing(self, desk: Desk) -> None:
        path = desk.folder / "beats"
        ran = await desk.begin("lease/beat", {"lease_until_s": ticks_s() - 1}, path=str(path))[1]
        assert ran.outcome.result is Result.UNREACHABLE
        assert not path.exists()

    @pytest.mark.parametrize("how", ["handle", "block", "take"])
    async def test_that_a_job_has_meddled_with_costs_its_process(
        self, desk: Desk, how: str
    ) -> None:
        ran = await desk.begin("lease/meddle", {"lease_until_s": ticks_s() + 9}, how=how)[1]
        assert ran.outcome.result is Result.SUCCEEDED
        again = await desk.run("lease/meddle", how="nothing")
        assert again.outcome.value != ran.outcome.value

    async def test_is_not_needed_by_others(self, desk: Desk) -> None:
        former = await desk.value("lease/meddle", how="take")
        assert await desk.value("lease/meddle", how="take") == former

    async def test_ends_the_program_of_a_command_with_its_keeper(self, tmp_path: Path) -> None:
        rules = {"lease/program": TopicRule(command=Command(("sh", "-c", "echo $$; sleep 60")))}
        executors = Executors(None, run_file=tmp_path / "children.json", rules=rules)
        desk = Desk(executors, tmp_path)
        ran = await desk.begin("lease/program", {"lease_until_s": ticks_s() + 3})[1]
        assert ran.outcome.result is Result.UNREACHABLE
        await until(lambda: not alive(int(desk.lines[0])), 1)
        await executors.close()


async def test_what_nobody_can_end_is_not_begun_under_a_lease(desk: Desk) -> None:
    """The rules may have changed since the job was taken."""
    _, running = desk.begin("lease/asked", {"lease_until_s": ticks_s() + 9})
    outcome = (await running).outcome
    assert (outcome.result, "needs a process" in outcome.reason) == (Result.REFUSED, True)
