"""Running consumers: whatever they do, there is one outcome and no trace in the next job."""

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from offload import payload
from offload.app import MAIN, App, load_app
from offload.payload import File
from offload.work.calls import REASON_LIMIT
from offload.work.executors import Executors, News, Ran, prints_caught
from offload.work.executors.lines import LINE_LIMIT, LINES_PER_S, Lines
from offload.work.executors.pool import Pool
from offload.work.executors.warden import Groups, start_of
from offload.work.jobs import Result
from tests.work.desk import Desk, alive, begun, until

ROOT = Path(__file__).parents[2]
PROGRAM = '''
import asyncio, ctypes, logging, os, signal, subprocess, sys, threading, time
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from offload import App, Cancel, Context, File, Retry

app = App()
log = logging.getLogger("user")

def every(name):
    """Declare a consumer for a process and for a thread."""
    def declare(function):
        app.consumer(f"process/{name}", give_up_on=(KeyError,))(function)
        app.consumer(f"thread/{name}", isolate="thread", give_up_on=(KeyError,))(function)
        return function
    return declare

@dataclass
class Box:
    size: int
    path: Path

@every("box")
def box(box: Box, context: Context, files: list[File] = ()):
    texts = [file.path.read_text() for file in files]
    return [box.size + 1, str(box.path), type(box).__name__, texts, context.attempt]

class Own(Retry):
    """A class of the user's that does not know what ours needs."""
    def __init__(self, after=None):
        if after is not None:
            self.after_s = after

class Wild(Retry):
    def __init__(self):
        pass

    @property
    def after_s(self):
        raise LookupError("no time")

class Silent(Exception):
    def __str__(self):
        raise SystemExit("not a word")

class Odd(str):
    def encode(self, *_):
        raise LookupError("no bytes")

class Wordy(Exception):
    def __str__(self):
        return Odd("odd")

class Classless(Exception):
    @property
    def __class__(self):
        raise LookupError("no class")

class Placeless(Exception):
    @property
    def __traceback__(self):
        raise LookupError("no traceback")

class Causeless(Exception):
    @property
    def __cause__(self):
        raise LookupError("no cause")

@every("raise")
def raising(kind: str, text: str = "no"):
    kinds = {"retry": Retry(text, after="7s"), "cancel": Cancel(text), "key": KeyError(text),
             "own": Own(), "soon": Own("2s"), "never": Own(object()), "silent": Silent(),
             "wild": Wild(), "causeless": Causeless(text), "value": ValueError(text),
             "classless": Classless(text), "placeless": Placeless(text), "wordy": Wordy(),
             "exit": SystemExit(text), "long": ValueError("x" * 10**6)}
    raise kinds[kind]

@every("return")
def returning(kind: str, text: str = "no"):
    return {"retry": Retry(text, after="7s"), "cancel": Cancel(text), "class": Retry}[kind]

@every("chain")
def chain():
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise RuntimeError("outer") from error

@every("result")
def result(kind: str, context: Context):
    made = context.folder / "out.txt"
    made.write_text("made")
    return {"file": {"out": File(made, "named.txt")}, "missing": File("nowhere.txt"),
            "folder": File(context.folder), "device": File("/dev/null"),
            "object": object()}[kind]

@every("say")
def say(context: Context):
    context.log("first")
    for at in range(1000):
        context.progress(at, 999, "going")

@every("wait")
def wait(context: Context, seconds: float = 60.0, seen: str = ""):
    until = time.monotonic() + seconds
    context.log("waiting")
    while time.monotonic() < until and not context.stopping:
        time.sleep(0.01)
    if seen:
        Path(seen).write_text("stopping")
    return "enough"

@every("deaf")
def deaf(context: Context):
    context.log("waiting")
    time.sleep(60)

@app.consumer("process/short", timeout="0.3s")
def short(pids: str):
    helper = subprocess.Popen(["sleep", "60"])
    Path(pids).write_text(f"{os.getpid()} {helper.pid}")
    helper.wait()

@app.consumer("thread/short", isolate="thread", timeout="0.1s")
def short_thread(pids: str):
    time.sleep(1)

@app.consumer("process/hold")
def hold(pids: str):
    helper = subprocess.Popen(["sleep", "60"])
    Path(pids).write_text(f"{os.getpid()} {helper.pid}")
    helper.wait()

@app.consumer("process/gil")
def gil(pids: str):
    helper = subprocess.Popen(["sleep", "60"])
    Path(pids).write_text(f"{os.getpid()} {helper.pid}")
    (1 << 40_000_000) // 3 ** 20_000_000

@app.consumer("process/exit")
def leave(code: int):
    os._exit(code)

@app.consumer("process/signal")
def hit(number: int):
    os.kill(os.getpid(), number)
    time.sleep(60)

@app.consumer("process/print")
def printing():
    print("out")
    print("err", file=sys.stderr)
    log.info("told")
    os.system("echo from a program")
    ctypes.CDLL(None).puts(b"from C")
    print("no end", end="")

def speak():
    print("out", 1, end="")
    print("", file=sys.stdout)
    sys.stderr.writelines(["e", "rr\\n"])
    log.info("told")
    print("no end", end="")

@app.consumer("thread/print", isolate="thread")
def speaking():
    speak()

@app.consumer("loop/print")
async def saying():
    speak()

@app.consumer("loop/helpers")
async def helped():
    await asyncio.to_thread(speak)

@app.consumer("process/flood")
def flood():
    for at in range(100_000):
        print("line", at)

@app.consumer("process/pid")
def pid():
    return os.getpid()

@app.consumer("process/leave")
def leaving(what: str):
    os.chdir("/")
    if what == "process":
        subprocess.Popen(["sh", "-c", "while sleep 0.05; do echo leaked; done"])
    if what == "thread":
        leak = lambda: [print("leaked", time.sleep(0.05)) for _ in range(99)]
        threading.Thread(target=leak).start()
    return os.getpid()

@app.consumer("process/fork")
def forking(fails: bool = False, mute: bool = False):
    forked = os.fork()
    if not forked and mute:
        sys.stderr = None
    if not forked and fails:
        raise ValueError("in the fork")
    return ["parent", os.waitpid(forked, 0)[1] != 0] if forked else "fork"

@app.consumer("process/mute")
def muting(how: str):
    if how == "numbers":
        os.closerange(1, 3)
    if how == "stream":
        sys.stdout.close()
    if how == "error":
        sys.stderr.close()
    if how == "redirected":
        sys.stdout = open(os.devnull, "w")
    if how == "none":
        sys.stdout = sys.stderr = None

@app.consumer("process/haunt")
def haunting(context: Context):
    def speak():
        for _ in range(200):
            context.log("leaked")
            context.properties["leaked"] = True
            time.sleep(0.01)
    threading.Thread(target=speak, daemon=True).start()
    return os.getpid()

@app.consumer("process/where")
def where():
    return os.getcwd()

@app.consumer("process/modules")
def modules():
    return sorted(sys.modules)

@app.consumer("process/main")
def main_name():
    return [__name__, sys.modules["__main__"].__dict__.get("__file__", "")]

@app.consumer("loop/double")
async def double(x: int, context: Context):
    await asyncio.sleep(0)
    context.log("doubling")
    return 2 * x

@app.consumer("loop/wait", timeout="5s")
async def loop_wait(context: Context, polite: bool = False):
    context.log("waiting")
    while not (polite and context.stopping):
        await asyncio.sleep(0.01)
    return "enough"

@app.consumer("loop/short", timeout="0.05s")
async def loop_short():
    await asyncio.sleep(60)

@app.consumer("loop/stubborn", timeout="0.05s")
async def stubborn():
    until = time.monotonic() + 1
    while time.monotonic() < until:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            pass

AROUND = ContextVar("AROUND", default="nobody's")

@app.consumer("loop/around")
async def loop_around():
    AROUND.set("the consumer's")

@app.consumer("loop/return")
async def loop_return(kind: str, text: str = "no"):
    return returning(kind, text)

@app.consumer("loop/raise")
async def loop_raise(kind: str):
    raising(kind)

if __name__ == "__main__":
    raise SystemExit("imported as main")

def late():
    app.consumer("process/late")(pid)
'''

OWN_STREAM = """
class Own:
    def __init__(self, stream):
        self.write, self.flush = stream.write, stream.flush

sys.stdout = Own(sys.stdout)
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


async def pids_in(path: Path) -> list[int]:
    await until(lambda: path.exists() and len(path.read_text().split()) == 2)
    return [int(pid) for pid in path.read_text().split()]


BROKEN = ["classless", "placeless", "wordy"]  # what an exception ought to have
ISOLATED = pytest.mark.parametrize("where", ["process", "thread"])


@ISOLATED
class TestAConsumer:
    async def test_is_given_typed_arguments_and_files_and_returns_a_value(
        self, desk: Desk, where: str
    ) -> None:
        """C100."""
        (desk.folder / "in.txt").write_text("input")
        value = await desk.value(
            f"{where}/box",
            box={"size": 1, "path": "/a"},
            files=[File(desk.folder / "in.txt")],
        )
        assert value == [2, "/a", "Box", ["input"], 4]

    async def test_that_raises_has_failed_with_its_reason(self, desk: Desk, where: str) -> None:
        outcome = (await desk.run(f"{where}/raise", kind="value")).outcome
        assert (outcome.result, outcome.final) == (Result.FAILED, False)
        assert (outcome.reason, outcome.error_type) == ("ValueError: no", "ValueError")

    async def test_shows_only_its_own_frames(self, desk: Desk, where: str) -> None:
        text = (await desk.run(f"{where}/chain")).outcome.traceback
        files = {line.split('"')[1] for line in text.splitlines() if line.startswith("  File")}
        assert files == {str(desk.folder / "app.py")}
        assert "ZeroDivisionError" in text

    async def test_may_ask_to_be_tried_again_later(self, desk: Desk, where: str) -> None:
        """C038."""
        outcome = (await desk.run(f"{where}/raise", kind="retry", text="busy")).outcome
        assert (outcome.result, outcome.final) == (Result.FAILED, False)
        assert (outcome.reason, outcome.retry_after_s) == ("busy", 7)

    @pytest.mark.parametrize(("kind", "after_s"), [("own", None), ("soon", 2), ("never", None)])
    async def test_may_ask_for_it_in_a_class_of_its_own(
        self, desk: Desk, where: str, kind: str, after_s: float | None
    ) -> None:
        outcome = (await desk.run(f"{where}/raise", kind=kind)).outcome
        assert (outcome.result, outcome.final) == (Result.FAILED, False)
        assert (outcome.reason, outcome.retry_after_s) == ("Own", after_s)

    @pytest.mark.parametrize("kind", ["silent", "causeless", "wild", *BROKEN])
    async def test_has_failed_whatever_its_exception_does(
        self, desk: Desk, where: str, kind: str
    ) -> None:
        outcome = (await desk.run(f"{where}/raise", kind=kind)).outcome
        assert (outcome.result, outcome.final) == (Result.FAILED, False)
        assert outcome.error_type in outcome.traceback

    async def test_may_return_what_it_could_raise(self, desk: Desk, where: str) -> None:
        """A ``Retry`` or ``Cancel`` means the same both ways."""
        retry = (await desk.run(f"{where}/return", kind="retry", text="busy")).outcome
        assert (retry.result, retry.final) == (Result.FAILED, False)
        assert (retry.reason, retry.retry_after_s) == ("busy", 7)
        assert not (await desk.run(f"{where}/return", kind="class")).outcome.final
        cancel = (await desk.run(f"{where}/return", kind="cancel", text="never")).outcome
        assert (cancel.result, cancel.reason, cancel.final) == (Result.FAILED, "never", True)

    @pytest.mark.parametrize("kind", ["cancel", "key"])
    async def test_may_say_never_again(self, desk: Desk, where: str, kind: str) -> None:
        outcome = (await desk.run(f"{where}/raise", kind=kind)).outcome
        assert (outcome.result, outcome.final) == (Result.FAILED, True)

    async def test_that_calls_exit_has_failed_and_ends_nothing_else(
        self, desk: Desk, where: str
    ) -> None:
        outcome = (await desk.run(f"{where}/raise", kind="exit", text="3")).outcome
        assert (outcome.result, outcome.reason) == (Result.FAILED, "called sys.exit(3)")

    async def test_cannot_make_its_reason_endless(self, desk: Desk, where: str) -> None:
        outcome = (await desk.run(f"{where}/raise", kind="long")).outcome
        assert len(outcome.reason) < REASON_LIMIT

    async def test_that_is_given_the_wrong_arguments_is_not_tried_again(
        self, desk: Desk, where: str
    ) -> None:
        outcome = (await desk.run(f"{where}/raise", sort="x")).outcome
        assert (outcome.result, outcome.final) == (Result.FAILED, True)
        assert outcome.reason.startswith("sort: is not an argument")
        assert outcome.traceback == ""

    async def test_returns_files_by_their_place(self, desk: Desk, where: str) -> None:
        ran = await desk.run(f"{where}/result", kind="file")
        assert ran.files == (File(desk.folder / "job1/out.txt", "named.txt"),)
        assert payload.decode(ran.outcome.value, ran.files) == {"out": ran.files[0]}

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("missing", "result: the output file .*nowhere.txt does not exist"),
            ("folder", "result: the output file .* is a folder"),
            ("device", "result: the output file /dev/null is no regular file"),
            ("object", "result: an object cannot travel"),
        ],
    )
    async def test_cannot_return_what_cannot_travel(
        self, desk: Desk, where: str, kind: str, words: str
    ) -> None:
        outcome = (await desk.run(f"{where}/result", kind=kind)).outcome
        assert (outcome.result, outcome.final) == (Result.FAILED, True)
        assert re.match(words, outcome.reason)

    async def test_tells_its_progress_thinned_out_but_with_its_end(
        self, desk: Desk, where: str
    ) -> None:
        await desk.run(f"{where}/say")
        first, *progress = desk.news
        assert (first.kind, first.text) == ("log", "first")
        last = json.loads(progress[-1].text)
        assert (last["done"], last["total"], last["text"]) == (999, 999, "going")
        assert last["eta_s"] == 0
        assert len(progress) < 100

    async def test_that_heeds_a_stop_is_left_to_its_end(self, desk: Desk, where: str) -> None:
        """G19."""
        seen = desk.folder / "seen"
        task, running = desk.begin(f"{where}/wait", seen=str(seen))
        await until(lambda: "waiting" in desk.lines)
        assert desk.executors.stop(task.job_id, task.attempt)
        assert (await running).outcome.result is Result.STOPPED
        assert seen.read_text() == "stopping"

    async def test_that_does_not_heed_a_stop_is_ended(self, desk: Desk, where: str) -> None:
        """G19."""
        task, running = desk.begin(f"{where}/deaf")
        await until(lambda: "waiting" in desk.lines)
        desk.executors.stop(task.job_id, task.attempt)
        outcome = (await running).outcome
        assert (outcome.result, outcome.reason) == (Result.STOPPED, "was stopped")

    async def test_that_is_in_a_hurry_has_no_time_to_stop(
        self, desk: Desk, where: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(desk.executors, "_grace_s", 3600.0)
        task, running = desk.begin(f"{where}/deaf")
        await until(lambda: "waiting" in desk.lines)
        desk.executors.stop(task.job_id, task.attempt, hurried=True)
        assert (await asyncio.wait_for(running, 30)).outcome.result is Result.STOPPED

    async def test_is_put_back_when_the_instance_closes(self, desk: Desk, where: str) -> None:
        _, running = desk.begin(f"{where}/deaf")
        await until(lambda: "waiting" in desk.lines)
        await desk.executors.close()
        assert (await running).outcome.result is Result.UNREACHABLE
        assert (await desk.run(f"{where}/say")).outcome.result is Result.REFUSED


class TestAConsumerInAProcess:
    async def test_runs_in_a_process_that_is_used_again(self, desk: Desk) -> None:
        pids = {await desk.value("process/pid") for _ in range(5)}
        assert len(pids) == 1
        assert pids != {os.getpid()}

    async def test_runs_beside_others(self, desk: Desk) -> None:
        for _ in range(3):
            desk.begin("process/wait")
        await until(lambda: desk.lines.count("waiting") == 3)
        assert await desk.value("process/pid")

    async def test_is_found_under_another_name_than_main(self, desk: Desk) -> None:
        assert await desk.value("process/main") == [MAIN, ""]

    async def test_gets_its_payload_unread(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(payload, "decode", None)
        ran = await desk.run("process/pid")
        assert ran.outcome.result is Result.SUCCEEDED

    async def test_loads_little_of_ours(self, desk: Desk) -> None:
        loaded = await desk.value("process/modules")
        heavy = {"aiohttp", "zeroconf", "sqlite3", "cryptography", "typer", "rich", "asyncio"}
        # The program above imports asyncio itself.
        assert heavy & {name.partition(".")[0] for name in loaded} <= {"asyncio"}
        ours = {name for name in loaded if name.startswith("offload.")}
        for room in ("offload.app", "offload.work.jobs"):
            ours = {room if name.startswith(room) else name for name in ours}
        assert ours == {
            *("offload.app", "offload.codec", "offload.commands", "offload.durations"),
            *("offload.errors", "offload.faces", "offload.payload", "offload.sizes"),
            *("offload.ticks", "offload.topics"),
            *("offload.work", "offload.work.arguments", "offload.work.calls"),
            *("offload.work.child", "offload.work.fuse", "offload.work.jobs"),
            "offload.work.programs",
        }

    async def test_has_crashed_if_its_process_ends(self, desk: Desk) -> None:
        """C017."""
        outcome = (await desk.run("process/exit", code=3)).outcome
        assert outcome.result is Result.CRASHED
        assert outcome.reason == "its process ended by itself with exit code 3"

    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
    async def test_has_crashed_if_a_signal_ends_it(self, desk: Desk, number: int) -> None:
        """C017."""
        outcome = (await desk.run("process/signal", number=int(number))).outcome
        assert outcome.result is Result.CRASHED
        assert signal.Signals(number).name in outcome.reason

    async def test_does_not_harm_the_next_one_by_crashing(self, desk: Desk) -> None:
        """C017."""
        await desk.run("process/exit", code=1)
        assert await desk.value("process/pid")

    async def test_is_ended_with_its_helpers_at_its_timeout(self, desk: Desk) -> None:
        outcome = (await desk.run("process/short", pids=str(desk.folder / "pids"))).outcome
        assert outcome.result is Result.TIMED_OUT
        assert outcome.reason == "took longer than its timeout of 0.3 s"
        for pid in await pids_in(desk.folder / "pids"):
            await until(lambda pid=pid: not alive(pid), 1)

    async def test_without_a_context_is_stopped_at_once(self, desk: Desk) -> None:
        """G19."""
        task, running = desk.begin("process/hold", pids=str(desk.folder / "pids"))
        pids = await pids_in(desk.folder / "pids")
        assert desk.executors.stop(task.job_id, task.attempt)
        assert (await running).outcome.result is Result.STOPPED
        assert not desk.executors.stop(task.job_id, task.attempt)
        await until(lambda: not any(map(alive, pids)), 1)

    async def test_is_ended_when_the_instance_closes(self, desk: Desk) -> None:
        _, running = desk.begin("process/hold", pids=str(desk.folder / "pids"))
        pids = await pids_in(desk.folder / "pids")
        await desk.executors.close()
        assert (await running).outcome.result is Result.UNREACHABLE
        await until(lambda: not any(map(alive, pids)), 1)

    async def test_is_not_begun_when_the_instance_closes_first(self, desk: Desk) -> None:
        _, running = desk.begin("process/pid")
        await desk.executors.close()
        assert (await running).outcome.result is Result.UNREACHABLE

    async def test_can_be_stopped_before_its_process_is_there(self, desk: Desk) -> None:
        task, running = desk.begin("process/pid")
        await asyncio.sleep(0)
        assert desk.executors.stop(task.job_id, task.attempt)
        assert (await running).outcome.result is Result.STOPPED

    async def test_that_is_declared_too_late_is_told_so(self, desk: Desk, app: App) -> None:
        sys.modules[MAIN].late()
        outcome = (await desk.run("process/late")).outcome
        assert outcome.final
        assert "declare it at the top of the module" in outcome.reason

    async def test_whose_program_no_longer_imports_says_why(self, desk: Desk) -> None:
        (desk.folder / "app.py").write_text("1 / 0")
        outcome = (await desk.run("process/pid")).outcome
        assert (outcome.result, outcome.final) == (Result.FAILED, False)
        assert "line 1: ZeroDivisionError" in outcome.reason


class TestWhatAJobPrints:
    async def test_arrives_in_its_log(self, desk: Desk) -> None:
        await desk.run("process/print")
        assert {"out", "err", "INFO user: told", "from a program"} < set(desk.lines)
        assert "from C" in "".join(desk.lines)  # whose buffer comes when it likes
        assert "no end" in "".join(desk.lines)

    @pytest.mark.parametrize("topic", ["thread/print", "loop/print", "loop/helpers"])
    async def test_arrives_in_its_log_alone_without_a_process_too(
        self,
        desk: Desk,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
        topic: str,
    ) -> None:
        caplog.set_level(logging.INFO, "user")
        with prints_caught():
            print("the instance's own")
            await desk.run(topic)
        assert desk.lines == ["out 1", "err", "INFO user: told", "no end"]
        assert capsys.readouterr() == ("the instance's own\n", "")

    async def test_is_said_on_the_loop_even_by_a_thread(
        self, desk: Desk, caplog: pytest.LogCaptureFixture
    ) -> None:
        heard: list[int] = []
        task = desk.task("loop/helpers")
        caplog.set_level(logging.INFO, "user")
        await begun(desk.executors, task, lambda _: heard.append(threading.get_ident()))
        assert set(heard) == {threading.get_ident()}

    async def test_arrives_while_it_runs(self, desk: Desk) -> None:
        desk.begin("process/wait")
        await until(lambda: "waiting" in desk.lines)

    async def test_is_thinned_out_if_it_is_a_flood(self, desk: Desk) -> None:
        assert (await desk.run("process/flood")).outcome.result is Result.SUCCEEDED
        assert desk.lines[0] == "line 0"
        assert len(desk.lines) < 20 * LINES_PER_S
        assert "lines left out" in desk.lines[-1] or desk.lines[-1] == "line 99999"

    @pytest.mark.parametrize("what", ["process", "thread"])
    async def test_later_is_not_taken_for_the_next_jobs(self, desk: Desk, what: str) -> None:
        former = await desk.value("process/leave", what=what)
        desk.news.clear()
        await desk.run("process/wait", seconds=0.3)
        assert desk.lines == ["waiting"]
        assert await desk.value("process/pid") != former

    async def test_from_a_folder_that_it_went_to_is_not_where_the_next_one_starts(
        self, desk: Desk
    ) -> None:
        former = await desk.value("process/leave", what="nothing")
        assert await desk.value("process/where") == str(Path.cwd())
        assert await desk.value("process/pid") == former

    async def test_does_not_speak_in_the_name_of_the_next_one(self, desk: Desk) -> None:
        """Daemon threads stay; what one says, or keeps, is none of the next job's."""
        former = await desk.value("process/haunt")
        heard: list[News] = []
        await begun(desk.executors, desk.task("process/wait", seconds=0.2), heard.append)
        assert [news.text for news in heard] == ["waiting"]
        assert await desk.value("process/pid") == former

    @pytest.mark.parametrize("how", ["numbers", "stream", "error", "redirected", "none"])
    async def test_does_not_mute_the_next_one(self, desk: Desk, how: str) -> None:
        await desk.value("process/mute", how=how)
        await desk.run("process/print")
        assert {"out", "err"} < set(desk.lines)

    async def test_may_go_through_a_stream_of_the_programs_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is the program's, not a job's: it costs no process."""
        monkeypatch.setattr(sys, "stdout", sys.stdout)  # which the program replaces here, too
        (tmp_path / "app.py").write_text(PROGRAM + OWN_STREAM)
        executors = Executors(load_app(str(tmp_path / "app.py")), run_file=tmp_path / "run.json")
        await executors.open()
        desk = Desk(executors, tmp_path)
        assert len({await desk.value("process/pid") for _ in range(3)}) == 1
        await desk.run("process/print")
        assert {"out", "err"} < set(desk.lines)
        await executors.close()

    async def test_does_not_answer_once_more(self, desk: Desk) -> None:
        """Of a consumer that has forked, the process answers that was asked."""
        assert await desk.value("process/fork") == ["parent", False]
        assert await desk.value("process/fork", mute=True) == ["parent", False]
        assert await desk.value("process/fork", fails=True) == ["parent", True]
        assert "ValueError: in the fork" in desk.lines
        assert await desk.value("process/where") == str(Path.cwd())


class TestAConsumerInAThread:
    async def test_cannot_be_ended_but_is_not_waited_for(self, desk: Desk) -> None:
        outcome = (await desk.run("thread/short", pids="")).outcome
        assert outcome.result is Result.TIMED_OUT


class TestAConsumerOnTheLoop:
    async def test_returns_a_value(self, desk: Desk) -> None:
        assert await desk.value("loop/double", x=4) == 8
        assert desk.lines == ["doubling"]

    async def test_is_cancelled_at_its_timeout(self, desk: Desk) -> None:
        assert (await desk.run("loop/short")).outcome.result is Result.TIMED_OUT

    async def test_that_suppresses_cancellation_is_not_waited_for(self, desk: Desk) -> None:
        assert (await desk.run("loop/stubborn")).outcome.result is Result.TIMED_OUT

    @pytest.mark.parametrize("polite", [True, False])
    async def test_can_be_stopped(self, desk: Desk, polite: bool) -> None:
        task, running = desk.begin("loop/wait", polite=polite)
        await until(lambda: "waiting" in desk.lines)
        assert desk.executors.stop(task.job_id, task.attempt)
        assert (await running).outcome.result is Result.STOPPED

    @pytest.mark.parametrize("kind", ["exit", "own", "silent", "causeless", "wild", *BROKEN])
    async def test_cannot_end_the_daemon(self, desk: Desk, kind: str) -> None:
        assert (await desk.run("loop/raise", kind=kind)).outcome.result is Result.FAILED

    async def test_that_is_ended_before_it_begins_is_not_called(
        self, desk: Desk, caplog: pytest.LogCaptureFixture
    ) -> None:
        task, running = desk.begin("loop/wait")
        assert desk.executors.stop(task.job_id, task.attempt, at_once=True)
        assert (await running).outcome.result is Result.UNREACHABLE
        assert desk.lines == []
        assert caplog.text == ""

    async def test_leaves_nothing_of_its_own_around_what_follows(
        self, desk: Desk, app: App
    ) -> None:
        consumer = app.find("loop/around")
        assert consumer is not None
        around = consumer.function.__globals__["AROUND"]
        heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = desk.task("loop/around")
        desk.executors.begin(task, desk.news.append, lambda _: heard.set_result(around.get()))
        assert await heard == "nobody's"

    async def test_has_ended_though_what_follows_of_another_fails(
        self, desk: Desk, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails(_: Ran) -> None:
            raise RuntimeError("oops")

        desk.executors.begin(desk.task("loop/around"), desk.news.append, fails)
        assert (await desk.run("loop/around")).outcome.result is Result.SUCCEEDED
        assert "oops" in caplog.text

    async def test_may_return_a_retry(self, desk: Desk) -> None:
        outcome = (await desk.run("loop/return", kind="retry", text="busy")).outcome
        assert (outcome.result, outcome.reason, outcome.final) == (Result.FAILED, "busy", False)

    async def test_is_cancelled_when_the_instance_closes(self, desk: Desk) -> None:
        _, running = desk.begin("loop/wait")
        await until(lambda: "waiting" in desk.lines)
        await desk.executors.close()
        assert (await running).outcome.result is Result.UNREACHABLE


class TestATopicWithoutConsumer:
    async def test_is_refused(self, desk: Desk) -> None:
        outcome = (await desk.run("no/such")).outcome
        assert outcome.result is Result.REFUSED
        assert outcome.reason == "the instance has no consumer for no/such"

    async def test_is_every_topic_of_an_instance_without_app(self, tmp_path: Path) -> None:
        assert Executors(None, run_file=tmp_path / "x").consumer("a") is None


class TestThePool:
    async def test_keeps_no_more_than_it_may_after_a_busy_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("offload.work.executors.pool.LINGER_S", 0.01)
        groups = Groups(tmp_path / "run")
        pool = Pool(groups, max_idle=1)
        children = [await pool.take() for _ in range(3)]
        for child in children:
            pool.give_back(child)
        await until(lambda: sum(child.gone.done() for child in children) == 2)
        assert await pool.take() is children[-1]
        await pool.close()
        groups.close()

    async def test_hands_out_no_child_that_died_while_it_waited(self, tmp_path: Path) -> None:
        groups = Groups(tmp_path / "run")
        pool = Pool(groups, max_idle=1)
        child = await pool.take()
        pool.give_back(child)
        os.kill(child.pid, signal.SIGKILL)
        await child.gone
        assert await pool.take() is not child
        await pool.close()
        groups.close()

    async def test_says_that_no_process_can_be_started(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        outcome = (await desk.run("process/pid")).outcome
        assert outcome.result is Result.REFUSED
        assert outcome.reason.startswith("no child process can be started")

    async def test_does_not_wait_for_a_child_that_ends_at_once(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("offload.work.executors.process._PROGRAM", "1 / 0")
        outcome = (await desk.run("process/pid")).outcome
        assert outcome.result in (Result.CRASHED, Result.REFUSED)


DAEMON = """
import asyncio, sys
from pathlib import Path
from offload import payload
from offload.app import load_app
from offload.work.executors import Executors, Task

async def main(app, topic, folder):
    executors = Executors(load_app(app), run_file=folder / "children.json")
    await executors.open()
    data = payload.encode({"pids": str(folder / "pids")}).data
    executors.begin(Task("s", "job", 1, 0, topic, data, (), str(folder)), print, print)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
"""


class TestADaemonThatIsKilled:
    @pytest.mark.parametrize("topic", ["process/hold", "process/gil"])
    async def test_leaves_nothing_of_its_jobs_behind(
        self, app: App, tmp_path: Path, topic: str
    ) -> None:
        """C091."""
        command = [sys.executable, "-c", DAEMON, str(tmp_path / "app.py"), topic, str(tmp_path)]
        daemon = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
        pids = await pids_in(tmp_path / "pids")
        daemon.kill()
        killed_at = time.monotonic()
        daemon.wait()
        await until(lambda: not any(map(alive, pids)), 1 - (time.monotonic() - killed_at))


class TestTheRunFile:
    @pytest.fixture
    def helper(self) -> subprocess.Popen[bytes]:
        with subprocess.Popen(["sleep", "60"], process_group=0) as process:
            yield process
            process.kill()

    def test_names_what_the_next_daemon_ends(
        self, tmp_path: Path, helper: subprocess.Popen[bytes]
    ) -> None:
        """C091."""
        groups = Groups(tmp_path / "run")
        groups.add(helper.pid)
        groups._warden.kill()  # as a power-hungry person might
        groups._warden.wait()
        Groups(tmp_path / "run").end_former()
        assert helper.wait() == -signal.SIGKILL
        assert not (tmp_path / "run").exists()
        groups.close()

    def test_does_not_end_another_process_with_the_same_number(
        self, tmp_path: Path, helper: subprocess.Popen[bytes]
    ) -> None:
        groups = Groups(tmp_path / "run")
        groups.add(helper.pid)
        text = (tmp_path / "run").read_text()
        (tmp_path / "run").write_text(text.replace(start_of(helper.pid), "another time"))
        Groups(tmp_path / "run").end_former()
        assert helper.poll() is None
        groups.close()

    @pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"groups": [1]}'])
    def test_that_cannot_be_read_hinders_nobody(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "run").write_text(text)
        Groups(tmp_path / "run").end_former()

    def test_is_gone_after_a_clean_end(
        self, tmp_path: Path, helper: subprocess.Popen[bytes]
    ) -> None:
        groups = Groups(tmp_path / "run")
        groups.add(helper.pid)
        groups.remove(helper.pid)
        groups.close()
        assert not (tmp_path / "run").exists()
        assert helper.poll() is None


class TestTheWarden:
    def test_ends_what_it_was_not_told_to_forget(self, tmp_path: Path) -> None:
        helpers = [subprocess.Popen(["sleep", "60"], process_group=0) for _ in range(3)]
        groups = Groups(tmp_path / "run")
        for helper in helpers:
            groups.add(helper.pid)
        groups.remove(helpers[1].pid)
        groups.close()
        assert [helpers[0].wait(), helpers[2].wait()] == [-signal.SIGKILL] * 2
        assert helpers[1].poll() is None
        helpers[1].kill()
        helpers[1].wait()


class TestLines:
    @pytest.fixture
    def said(self) -> list[str]:
        return []

    def test_are_said_when_they_end(self, said: list[str]) -> None:
        lines = Lines(said.append)
        lines.feed(b"on")
        lines.feed(b"e\ntwo\nthr")
        assert said == ["one", "two"]
        lines.finish()
        assert said == ["one", "two", "thr"]

    def test_look_as_on_a_terminal(self, said: list[str]) -> None:
        Lines(said.append).feed(b"10%\r20%\rdone\r\n\xff\n")
        assert said == ["done", "\ufffd"]

    def test_that_are_too_long_come_in_pieces(self, said: list[str]) -> None:
        lines = Lines(said.append)
        lines.feed(b"x" * (2 * LINE_LIMIT + 1))
        lines.finish()
        assert [len(line) for line in said] == [LINE_LIMIT, LINE_LIMIT, 1]

    def test_that_are_left_out_are_counted(self, said: list[str]) -> None:
        lines = Lines(said.append)
        for _ in range(4):
            lines.feed(b"x\n" * LINES_PER_S)
        lines.finish()
        assert len(said) == LINES_PER_S + 1
        assert said[-1].startswith(f"… {3 * LINES_PER_S} lines left out")

    def test_that_never_end_are_counted_by_their_pieces(self, said: list[str]) -> None:
        lines = Lines(said.append)
        for _ in range(2 * LINES_PER_S):
            lines.feed(b"x" * LINE_LIMIT)
        lines.finish()
        assert len(said) < LINES_PER_S + 3
        assert said[-1].startswith(f"… {LINES_PER_S} lines left out")
