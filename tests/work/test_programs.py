"""Commands: programs that run a topic without any Python of the user's."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from offload.app import App
from offload.errors import ConfigError
from offload.payload import File
from offload.work.executors import Command, Executors, TopicRule
from offload.work.jobs import Result
from tests.work.desk import Desk, alive, until

COMMANDS = {
    "copy": ("sh", "-c", 'cat "$1" "$1" > "$2"', "sh", "{input}", "{output.twice}"),
    "two": ("sh", "-c", 'echo a > "$1"; echo b > "$2"', "sh", "{output.a}", "{output.b}"),
    "named": ("cat", "{input.first}", "{input.second}"),
    "stdin": ("cat",),
    "unread": ("true",),
    "nothing": ("sh", "-c", "true", "{output}"),
    "environment": ("sh", "-c", "env | grep -e ^OFFLOAD_ -e ^TMPDIR; pwd"),
    "exit": ("sh", "-c", 'exit "$OFFLOAD_ARG_CODE"'),
    "signal": ("sh", "-c", "kill -s SEGV $$"),
    "literal": ("echo", "$HOME; `id`", "*"),
    "loud": ("sh", "-c", "echo out; echo err >&2"),
    "long": ("sh", "-c", "sleep 60 & echo $$ $!; wait"),
    "polite": ("sh", "-c", "trap 'echo asked; exit 3' TERM; echo ready; sleep 60 & wait"),
    "deaf": ("sh", "-c", "trap '' TERM; echo $$; sleep 60; sleep 60"),
    "leaving": ("sh", "-c", "sleep 60 & echo $!"),
    "father": ("sh", "-c", "sleep 60 & echo $!; sleep 60"),
    "absent": ("offload-no-such-program",),
}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    rules = {
        f"run/{name}": TopicRule(
            command=Command(arguments, (3, 4)), timeout_s=1 if name == "long" else None
        )
        for name, arguments in COMMANDS.items()
    }
    executors = Executors(None, run_file=tmp_path / "children.json", rules=rules, grace_s=0.5)
    await executors.open()
    yield Desk(executors, tmp_path)
    await executors.close()


class TestACommand:
    async def test_turns_an_input_file_into_an_output_file(self, desk: Desk) -> None:
        (desk.folder / "in.txt").write_text("x")
        made = await desk.value("run/copy", file=File(desk.folder / "in.txt"))
        assert (made.name, made.path.read_text()) == ("in.twice", "xx")

    async def test_returns_several_outputs_as_a_list(self, desk: Desk) -> None:
        made = await desk.value("run/two")
        assert [(f.name, f.path.read_text()) for f in made] == [
            ("output.a", "a\n"),
            ("output.b", "b\n"),
        ]

    async def test_without_output_returns_its_exit_code(self, desk: Desk) -> None:
        assert await desk.value("run/unread") == {"exit_code": 0}

    async def test_takes_inputs_by_the_names_of_arguments(self, desk: Desk) -> None:
        for name in ("b", "a"):
            (desk.folder / name).write_text(name)
        await desk.run("run/named", second=File(desk.folder / "b"), first=File(desk.folder / "a"))
        assert desk.lines == ["ab"]

    async def test_reads_its_arguments_as_json(self, desk: Desk) -> None:
        when = datetime(2026, 1, 2, tzinfo=UTC)
        await desk.run("run/stdin", size=3, when=when, raw=b"\0", deep={"a": [None, "ä"]})
        assert json.loads(desk.lines[0]) == {
            "size": 3,
            "when": "2026-01-02T00:00:00+00:00",
            "raw": "AA==",
            "deep": {"a": [None, "ä"]},
        }

    async def test_need_not_read_them(self, desk: Desk) -> None:
        assert await desk.value("run/unread", text="x" * 1_000_000)

    async def test_finds_the_job_in_its_environment(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("OFFLOAD_LAB", raising=False)  # how these tests are run
        await desk.run("run/environment", size=3, flag=True, nul="a\0b", long="x" * 100_000)
        *lines, folder = desk.lines
        told = dict(line.split("=", 1) for line in lines)
        assert told == {
            "OFFLOAD_JOB_ID": "job1",
            "OFFLOAD_TOPIC": "run/environment",
            "OFFLOAD_ATTEMPT": "4",
            "OFFLOAD_RETRY_COUNT": "1",
            "OFFLOAD_FOLDER": str(desk.folder / "job1"),
            "OFFLOAD_ARG_SIZE": "3",
            "OFFLOAD_ARG_FLAG": "true",
            "TMPDIR": str(desk.folder / "job1/tmp"),
        }
        assert folder == told["OFFLOAD_FOLDER"]

    async def test_meets_no_shell(self, desk: Desk) -> None:
        await desk.run("run/literal")
        assert desk.lines == ["$HOME; `id` *"]

    async def test_prints_into_the_jobs_log(self, desk: Desk) -> None:
        await desk.run("run/loud")
        assert desk.lines == ["out", "err"]

    @pytest.mark.parametrize(
        ("code", "final", "reason"),
        [
            (1, False, "sh ended with exit code 1"),
            (75, False, "sh ended with exit code 75 (try again later)"),
            (3, True, "sh ended with exit code 3"),
        ],
    )
    async def test_fails_by_its_exit_code(
        self, desk: Desk, code: int, final: bool, reason: str
    ) -> None:
        outcome = (await desk.run("run/exit", code=code)).outcome
        assert (outcome.result, outcome.final) == (Result.FAILED, final)
        assert outcome.reason == reason
        assert outcome.traceback == ""

    async def test_has_crashed_if_a_signal_ends_it(self, desk: Desk) -> None:
        outcome = (await desk.run("run/signal")).outcome
        assert (outcome.result, outcome.reason) == (Result.CRASHED, "sh was ended by SIGSEGV")

    async def test_must_write_its_output(self, desk: Desk) -> None:
        outcome = (await desk.run("run/nothing")).outcome
        assert outcome.result is Result.FAILED
        assert "does not exist" in outcome.reason

    async def test_that_lacks_its_input_is_not_tried_again(self, desk: Desk) -> None:
        outcome = (await desk.run("run/copy")).outcome
        assert (outcome.final, outcome.reason) == (
            True,
            "input: one input file is needed, 0 were given",
        )

    async def test_that_is_no_program_says_so(self, tmp_path: Path) -> None:
        program = tmp_path / "program"
        program.write_bytes(b"neither binary nor script")
        program.chmod(0o700)
        rules = {"run/it": TopicRule(command=Command((str(program),)))}
        executors = Executors(None, run_file=tmp_path / "children.json", rules=rules)
        await executors.open()
        outcome = (await Desk(executors, tmp_path).run("run/it")).outcome
        await executors.close()
        assert outcome.reason == f"{program} cannot be run: Exec format error"
        assert outcome.traceback == ""

    async def test_uses_its_keeper_again(self, desk: Desk) -> None:
        for _ in range(3):
            await desk.run("run/unread")
        assert len(desk.executors._pool._all) == 1

    async def test_leaves_nothing_running(self, desk: Desk) -> None:
        assert await desk.value("run/leaving") == {"exit_code": 0}
        await until(lambda: not alive(int(desk.lines[0])), 1)


class TestACommandThatIsEnded:
    async def test_at_its_timeout_goes_with_its_whole_group(self, desk: Desk) -> None:
        """C021."""
        outcome = (await desk.run("run/long")).outcome
        assert outcome.result is Result.TIMED_OUT
        for pid in map(int, desk.lines[0].split()):
            await until(lambda pid=pid: not alive(pid), 1)

    async def test_is_asked_first(self, desk: Desk) -> None:
        """G19."""
        task, running = desk.begin("run/polite")
        await until(lambda: desk.lines)
        assert desk.executors.stop(task.job_id, task.attempt)
        assert (await running).outcome.result is Result.STOPPED
        assert desk.lines == ["ready", "asked"]

    async def test_and_does_not_listen_is_killed_after_its_grace(self, desk: Desk) -> None:
        """C019."""
        task, running = desk.begin("run/deaf")
        await until(lambda: desk.lines)
        asked_at = time.monotonic()
        desk.executors.stop(task.job_id, task.attempt)
        assert (await running).outcome.result is Result.STOPPED
        assert time.monotonic() - asked_at > 0.4
        await until(lambda: not alive(int(desk.lines[0])), 1)

    async def test_takes_along_what_it_would_leave_behind(self, desk: Desk) -> None:
        task, running = desk.begin("run/father")
        await until(lambda: desk.lines)
        desk.executors.stop(task.job_id, task.attempt)
        assert (await running).outcome.result is Result.STOPPED
        await until(lambda: not alive(int(desk.lines[0])), 1)

    async def test_goes_with_its_keeper(self, desk: Desk) -> None:
        _, running = desk.begin("run/deaf")
        await until(lambda: desk.lines)
        (keeper,) = desk.executors._pool._all
        os.kill(keeper.pid, signal.SIGKILL)
        assert (await running).outcome.result is Result.CRASHED
        await until(lambda: not alive(int(desk.lines[0])), 1)


DAEMON = """
import asyncio, sys
from pathlib import Path
from offload import payload
from offload.work.executors import Command, Executors, Task, TopicRule

async def main(folder):
    program = Command(("sh", "-c", "echo $$ > pid; trap '' TERM; sleep 60; sleep 60"))
    rules = {"run": TopicRule(command=program)}
    executors = Executors(None, run_file=folder / "children.json", rules=rules)
    await executors.open()
    data = payload.encode({}).data
    executors.begin(Task("s", "job", 1, 0, "run", data, (), str(folder / "job")), print, print)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_program_goes_with_the_daemon(tmp_path: Path) -> None:
    """C091."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, str(tmp_path)], env=environment)
    path = tmp_path / "job/pid"
    await until(lambda: path.exists() and path.read_text().endswith("\n"))
    daemon.kill()
    daemon.wait()
    await until(lambda: not alive(int(path.read_text())), 1)


class TestATopicWithACommand:
    def test_is_a_capability_if_the_program_is_here(self, desk: Desk) -> None:
        assert set(desk.executors.patterns()) == {
            f"run/{name}" for name in COMMANDS if name != "absent"
        }
        assert desk.executors.consumer("run/copy").isolate == "command"
        assert desk.executors.consumer("run/absent") is None

    def test_needs_no_consumer_and_wins_over_one(self, tmp_path: Path) -> None:
        app = App()
        app.consumer("a/*", isolate="thread")(lambda: None)
        rules = {"a/b": TopicRule(command=Command(("true",)))}
        executors = Executors(app, run_file=tmp_path / "x", rules=rules)
        assert executors.consumer("a/b").command is not None
        assert executors.consumer("a/c").command is None
        assert executors.patterns() == ("a/*", "a/b")


def plain() -> None: ...
async def waiting() -> None: ...


class TestTheRulesOfTopics:
    @pytest.fixture
    def app(self) -> App:
        app = App()
        app.consumer("a/plain", timeout=5)(plain)
        app.consumer("b/waiting")(waiting)
        app.consumer("c/local", isolate="thread")(lambda: None)
        return app

    def test_overrule_the_consumer(self, app: App, tmp_path: Path) -> None:
        rules = {"a/*": TopicRule(isolate="thread", timeout_s=7.0)}
        executors = Executors(app, run_file=tmp_path / "x", rules=rules)
        runner = executors.consumer("a/plain")
        assert (runner.isolate, runner.timeout_s) == ("thread", 7)
        assert executors.consumer("b/waiting").isolate == "coroutine"

    def test_leave_to_it_what_they_do_not_name(self, app: App, tmp_path: Path) -> None:
        executors = Executors(app, run_file=tmp_path / "x", rules={"**": TopicRule()})
        assert (executors.consumer("a/plain").isolate, executors.consumer("a/plain").timeout_s) == (
            "process",
            5,
        )

    @pytest.mark.parametrize(
        ("pattern", "isolate", "words"),
        [
            ("b/*", "thread", "is async and runs on the event loop"),
            ("a/plain", "coroutine", "would block the event loop"),
            ("c/local", "process", "a lambda has no name"),
        ],
    )
    def test_cannot_ask_for_what_a_consumer_cannot_do(
        self, app: App, tmp_path: Path, pattern: str, isolate: str, words: str
    ) -> None:
        with pytest.raises(ConfigError, match=words) as caught:
            Executors(app, run_file=tmp_path / "x", rules={pattern: TopicRule(isolate=isolate)})
        assert caught.value.key == f"topics.{pattern}.isolate"

    def test_keep_a_late_consumer_that_cannot_follow_them_from_running(
        self, app: App, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        executors = Executors(
            app, run_file=tmp_path / "x", rules={"d": TopicRule(isolate="thread")}
        )
        app.consumer("d")(waiting)
        assert executors.consumer("d") is None
        assert executors.consumer("d") is None
        assert caplog.text.count("d does not run here: consumer waiting: is async") == 1

    def test_can_be_changed(self, app: App, tmp_path: Path) -> None:
        executors = Executors(app, run_file=tmp_path / "x")
        executors.govern({"a/plain": TopicRule(isolate="thread")})
        assert executors.consumer("a/plain").isolate == "thread"
