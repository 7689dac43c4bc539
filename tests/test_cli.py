"""The ``offload`` command as a program: instances that really run, and what a user gets wrong."""

import inspect
import json
import os
import queue
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import typer

from offload.cli import contents, shell
from offload.datadir import DataDir

APP = """
import asyncio
import logging
import sys
import time
from offload import App, Context, File

app = App()

@app.consumer("text/shout")
def shout(words: File, ctx: Context, mark: str = "!") -> File:
    ctx.log("reading")
    out = ctx.folder / "shouted.txt"
    out.write_text(open(words).read().upper() + mark)
    return File(out)

@app.consumer("text/fail")
def fail() -> None:
    raise ValueError("no text")

@app.consumer("text/note")
async def note() -> None:
    logging.getLogger("user").info("noted")

@app.consumer("text/quit")
async def quits() -> None:
    async def leave() -> None:
        sys.exit(3)

    async with asyncio.TaskGroup() as group:
        group.create_task(leave())

@app.consumer("sleep")
def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"
"""
LIMIT_S = 30.0


class Instance:
    """``offload run`` in a process of its own; its output is read line by line."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._lines: queue.Queue[str] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "offload", "run", "app.py", *options],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.greeting = [self.line(), self.line()]

    def line(self) -> str:
        """Return the next line that it prints; "" when it has ended."""
        return self._lines.get(timeout=LIMIT_S)

    def ended(self) -> int:
        return self.process.wait(LIMIT_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self._lines.put(line.rstrip("\n"))
        self._lines.put("")


def spelled(
    listed: Mapping[str, contents.Entry | contents.Group],
) -> dict[tuple[str, ...], contents.Entry]:
    """Return the entries of a table by all words that lead to them."""
    found: dict[tuple[str, ...], contents.Entry] = {}
    for name, entry in listed.items():
        if isinstance(entry, contents.Group):
            below = spelled(entry.commands).items()
            found |= {(name, *words): command for words, command in below}
        else:
            found[name,] = entry
    return found


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[1])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")}
    return {**kept, "PYTHONPATH": root, "OFFLOAD_DISCOVERY__MDNS": "false"}


def furnish(folder: Path) -> Path:
    """Write an app and a configuration in a realm of its own."""
    realm = f"test-{secrets.token_hex(6)}"
    (folder / "app.py").write_text(APP)
    (folder / "offload.toml").write_text(
        f'[node]\nname = "attic"\nrealm = "{realm}"\nport = 0\n[queues.main]\nretries = 0\n'
    )
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder."""
    return furnish(tmp_path)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance that is up, for all who only talk to it."""
    instance = Instance(furnish(tmp_path_factory.mktemp("standing")))
    yield instance
    instance.close()


@pytest.fixture
def instance(folder: Path) -> Iterator[Instance]:
    """An instance that is up, for one who ends it."""
    instance = Instance(folder)
    yield instance
    instance.close()


def offload(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "offload", *args],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a user error says: one line, and no traceback."""
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("offload: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


class TestAnInstance:
    def test_greets_with_its_name_address_and_topics(self, standing: Instance) -> None:
        up, topics = standing.greeting
        assert re.match(r"attic \([a-z2-7]{26}\) is up on 127\.0\.0\.1:\d+, realm test-", up)
        assert topics == "topics: sleep, text/fail, text/note, text/quit, text/shout"

    def test_is_seen_in_its_own_topology(self, standing: Instance) -> None:
        done = offload(standing.folder, "topology", "--json")
        (own,) = json.loads(done.stdout)["instances"]
        assert (own["name"], own["own"], own["leader"]) == ("attic", True, True)

    def test_has_a_status(self, standing: Instance) -> None:
        done = offload(standing.folder, "status")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"process     {standing.process.pid}\n" in done.stdout

    def test_runs_a_job_that_is_followed_to_its_result(self, standing: Instance) -> None:
        folder = standing.folder
        (folder / "in.txt").write_text("hello")
        options = ("--arg", "mark=?", "--into", "out", "--follow")
        done = offload(folder, "submit", "text/shout", "in.txt", *options)
        assert (done.returncode, done.stderr) == (0, "")
        assert "| reading" in done.stdout
        assert done.stdout.splitlines()[-1] == str(folder / "out/shouted.txt")
        assert (folder / "out/shouted.txt").read_text() == "HELLO?"

    def test_shows_what_a_job_logs_on_its_loop_too(self, standing: Instance) -> None:
        done = offload(standing.folder, "submit", "text/note", "--follow")
        assert "| INFO user: noted\n" in done.stdout

    def test_takes_files_whose_names_cannot_travel_under_safe_ones(
        self, standing: Instance
    ) -> None:
        folder = standing.folder
        (folder / 'at 12:30 "x".txt').write_text("late")
        done = offload(folder, "submit", "text/shout", 'at 12:30 "x".txt', "--into", "o2", "-f")
        assert (done.returncode, done.stderr) == (0, "")
        assert (folder / "o2/shouted.txt").read_text() == "LATE!"

    def test_tells_why_a_job_failed(self, standing: Instance) -> None:
        options = ("--order-by", "a customer", "--deadline-in", "1h")
        done = offload(standing.folder, "submit", "text/fail", *options, "--follow")
        assert done.returncode == 1
        assert "no text" in done.stderr
        job_id = done.stdout.splitlines()[0].removeprefix("job ")
        shown = offload(standing.folder, "job", "show", job_id[:20]).stdout
        assert "ValueError: no text" in shown
        facts = dict(line.split("  ", 1) for line in shown.splitlines() if "  " in line)
        assert facts["order by"].strip() == "a customer"
        assert facts["delivery"].strip() == "exclusive"
        assert facts["deadline"].strip() > facts["created"].strip()


class TestAnInstanceOneOfWhoseConsumersEndsTheProgram:
    def test_in_a_task_of_its_own_goes_on(self, instance: Instance) -> None:
        """It is the end of that attempt, as it would be outside a task."""
        done = offload(instance.folder, "submit", "text/quit", "--retries", "0", "--follow")
        assert (done.returncode, "called sys.exit(3)" in done.stderr) == (1, True), done
        assert "wants to end the program (SystemExit(3)): it goes on" in instance.line()
        instance.process.send_signal(signal.SIGTERM)
        assert instance.ended() == 0


class TestAnInstanceThatIsToEnd:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_lets_jobs_finish_and_ends_with_0(
        self, instance: Instance, number: signal.Signals
    ) -> None:
        offload(instance.folder, "submit", "sleep", "-a", "seconds=0.5")
        instance.process.send_signal(number)
        assert instance.ended() == 0
        assert not (instance.folder / ".offload/run.json").exists()

    def test_ends_at_once_at_the_second_signal(self, instance: Instance) -> None:
        offload(instance.folder, "submit", "sleep", "-a", "seconds=60")
        instance.process.send_signal(signal.SIGINT)
        assert instance.line().startswith("ending: ")
        instance.process.send_signal(signal.SIGINT)
        assert instance.ended() == 130
        again = Instance(instance.folder)
        (job,) = json.loads(offload(instance.folder, "jobs", "--json").stdout)
        shown = json.loads(offload(instance.folder, "job", "show", job["id"], "--json").stdout)
        again.close()
        assert (shown["crashes"], shown["failures"]) == (0, 0)  # not the job's fault

    def test_follows_its_file_at_a_sighup(self, instance: Instance) -> None:
        file = instance.folder / "offload.toml"
        instance.process.send_signal(signal.SIGHUP)
        assert instance.line() == "configuration loaded again: nothing has changed"
        file.write_text(file.read_text() + "[queues.slow]\ntopics = ['sleep']\n")
        instance.process.send_signal(signal.SIGHUP)
        assert instance.line() == "configuration loaded again; in force: queues"
        file.write_text("[queues.slow]\ntopcs = ['sleep']\n")
        instance.process.send_signal(signal.SIGHUP)
        assert instance.line().startswith("configuration not loaded: queues.slow.topcs: unknown")
        assert offload(instance.folder, "status").returncode == 0

    def test_ends_with_whoever_holds_its_standard_input(self, folder: Path) -> None:
        instance = Instance(folder, "--until-eof")
        assert instance.process.stdin is not None
        instance.process.stdin.close()
        ended = instance.ended()
        instance.close()
        assert ended == 0
        assert not (folder / ".offload/run.json").exists()

    def test_by_a_crash_has_its_jobs_when_it_is_back(self, instance: Instance) -> None:
        job_id = offload(instance.folder, "submit", "sleep", "-a", "seconds=60").stdout.strip()
        instance.close()
        assert offload(instance.folder, "status").returncode == 4
        again = Instance(instance.folder)
        listed = offload(instance.folder, "jobs", "--json").stdout
        again.close()
        assert [job["id"] for job in json.loads(listed)] == [job_id]


class TestRunIsRefused:
    def test_with_a_wrong_key(self, folder: Path) -> None:
        (folder / "offload.toml").write_text("[node]\nprot = 1\n")
        done = offload(folder, "run", "app.py")
        assert done.returncode == 2
        assert "node.prot: unknown key; did you mean port?" in one_sentence(done)

    def test_with_a_port_that_is_taken(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = offload(folder, "run", "app.py", "--port", str(port))
        assert done.returncode == 2
        assert f"node.port: 127.0.0.1:{port} is in use by another program" in one_sentence(done)

    def test_with_an_interface_that_is_not_here(self, folder: Path) -> None:
        with (folder / "offload.toml").open("a") as file:
            file.write('[discovery]\ninterfaces = ["eth99"]\n')
        done = offload(folder, "run", "app.py")
        assert done.returncode == 2
        assert "discovery.interfaces: no interface eth99 here" in one_sentence(done)

    def test_on_a_data_directory_in_use(self, folder: Path) -> None:
        data_dir = DataDir(folder / ".offload")
        data_dir.lock()
        done = offload(folder, "run", "app.py")
        data_dir.unlock()
        assert done.returncode == 1
        assert f"is in use by process {os.getpid()}" in one_sentence(done)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("import nothing_like_that\n", "nothing_like_that"),
            ("def broken(:\n", "line 1"),
            ("x = 1\n", "declares no App"),
        ],
    )
    def test_with_an_app_that_cannot_be_used(self, folder: Path, text: str, words: str) -> None:
        (folder / "app.py").write_text(text)
        done = offload(folder, "run", "app.py")
        assert done.returncode == 2
        assert words in one_sentence(done)

    def test_with_an_app_that_is_not_there(self, folder: Path) -> None:
        done = offload(folder, "run", "nowhere.py")
        assert done.returncode == 2
        assert "nowhere.py" in one_sentence(done)

    def test_on_other_addresses_without_saying_insecure(self, folder: Path) -> None:
        """C110."""
        done = offload(folder, "run", "app.py", "--listen", "0.0.0.0")
        assert done.returncode == 2
        sentence = one_sentence(done)
        assert all(word in sentence for word in ("offload init", "offload join", "--insecure"))


class TestWithoutAnInstance:
    @pytest.mark.parametrize(
        "command", [["status"], ["topology"], ["jobs"], ["job", "show", "1"], ["submit", "a"]]
    )
    def test_every_command_says_so_and_ends_with_4(
        self, tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert shell.run([*command, "--data-dir", str(tmp_path)]) == 4
        assert f"no instance runs on {tmp_path}; start one with" in capsys.readouterr().err


class TestTheCommandLine:
    def test_lists_its_commands(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert shell.run(["--help"]) == 0
        listed = capsys.readouterr().out
        assert all(f"  {name} " in listed for name in contents.COMMANDS)

    @pytest.mark.parametrize("args", [["nonsense"], ["jobs", "--nonsense"], ["submit"]])
    def test_refuses_what_it_does_not_know(
        self, args: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert shell.run(args) == 2
        assert "Error: " in capsys.readouterr().err

    def test_refuses_a_name_that_can_be_no_file(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert shell.run(["submit", "a/b", "x" * 300]) == 2
        assert capsys.readouterr().err.endswith("x: File name too long\n")

    def test_says_its_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert shell.run(["--version"]) == 0
        assert "offload" in capsys.readouterr().out

    def test_answers_programs_in_json_whatever_they_ask(self) -> None:
        def commands(group: typer.Typer) -> Iterator[typer.models.CommandInfo]:
            yield from group.registered_commands
            for below in group.registered_groups:
                assert below.typer_instance is not None
                yield from commands(below.typer_instance)

        long_lived = {"run", "demo"}
        for words in spelled(contents.COMMANDS):
            for command in commands(shell.command_line(words)):
                assert command.callback is not None
                if command.callback is not shell._only_listed and command.name not in long_lived:
                    assert "as_json" in inspect.signature(command.callback).parameters, command

    def test_says_of_each_command_what_that_says_of_itself(self) -> None:
        for words, entry in spelled(contents.COMMANDS).items():
            command = shell.load(entry)
            if isinstance(command, typer.Typer):
                assert command.info.help == entry.summary, words
            else:
                assert (command.__doc__ or "").split("\n\n")[0].strip() == entry.summary, words

    def test_imports_of_its_commands_the_one_that_is_wanted(self) -> None:
        code = (
            "import sys; from offload.cli import shell;"
            "code = shell.run(sys.argv[1:]);"
            "print(*sys.modules, file=sys.stderr); sys.exit(code)"
        )

        def imported(*words: str) -> set[str]:
            done = subprocess.run(
                [sys.executable, "-c", code, *words],
                env=environment(),
                capture_output=True,
                text=True,
                check=True,
            )
            return set(done.stderr.split())

        listed, joining = imported("--help"), imported("join", "--help")
        assert not {"aiohttp", "pydantic", "offload.cli.jobs"} & listed
        assert "offload.cli.group" in joining
        assert (
            not {"aiohttp", "croniter", "zeroconf", "rich", "offload.config", "offload.client"}
            & joining
        )

    def test_costs_an_importer_nothing(self) -> None:
        code = "import sys, offload.cli; print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert not {"typer", "rich", "aiohttp", "pydantic"} & set(done.stdout.split())


class TestConfig:
    def test_that_is_right_is_called_so(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "offload.toml"
        path.write_text("")
        assert shell.run(["config", "check", "--config", str(path)]) == 0
        assert capsys.readouterr().out == f"{path} is right\n"

    def test_that_is_wrong_ends_with_2(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "offload.toml"
        path.write_text('[timing]\nlease = "soon"\n')
        assert shell.run(["config", "check", "--config", str(path)]) == 2
        assert "timing.lease: 'soon' is no duration" in capsys.readouterr().err

    def test_is_wrong_if_an_instance_would_not_start_with_its_schedules(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "offload.toml"
        jobs = 'idempotent = true\ndelivery = "exclusive"'
        path.write_text(f'[[schedules]]\ntopic = "a/b"\nevery = "1h"\n{jobs}\n')
        assert shell.run(["config", "check", "--config", str(path)]) == 2
        assert "schedules.0: idempotent: exclusive work" in capsys.readouterr().err

    def test_is_judged_as_json_too(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "offload.toml"
        path.write_text("")
        assert shell.run(["config", "check", "--json", "--config", str(path)]) == 0
        assert json.loads(capsys.readouterr().out) == {"right": True, "file": str(path)}
        path.write_text("[node]\nport = -1\n")
        assert shell.run(["config", "check", "--json", "--config", str(path)]) == 2
        judged = json.loads(capsys.readouterr().out)
        assert (judged["right"], judged["key"]) == (False, "node.port")

    def test_is_shown_as_it_is_in_force_and_can_be_read_again(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "offload.toml"
        path.write_text('[topics."a/b"]\ntimeout = "2m"\n[queues."q-{0}"]\ntopics = "a/*"\n')
        assert shell.run(["config", "show", "--config", str(path)]) == 0
        shown = capsys.readouterr().out
        assert 'topics."a/b".timeout = 120.0' in shown
        path.write_text(shown)
        assert shell.run(["config", "show", "--config", str(path)]) == 0
        assert capsys.readouterr().out == shown
