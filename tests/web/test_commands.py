"""The commands that talk to a running instance; the node behind the control API is a double."""

import asyncio
import json
import logging
import os
import pty
import select
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from offload import File
from offload.cli import logs, shell
from offload.cli.following import describe, show_result
from offload.cli.terminal import age, printable, say_json, size
from offload.cli.wishes import arguments
from offload.errors import JobFailed, StoreFault, UsageError

Command = Callable[..., Awaitable[int]]


@pytest.fixture
def offload(node: Any) -> Command:
    """Run a command against the fake node, as the shell would; return the exit code."""

    async def command(*args: str) -> int:
        return await asyncio.to_thread(shell.run, [*args, "--data-dir", str(node.data_dir.path)])

    return command


@pytest.fixture
def view(node: Any) -> dict[str, Any]:
    """Two instances; the other one takes ``image/*``."""
    base = {"boot": 1, "draining": False, "silent": False, "properties": {}, "linked": True}
    own = base | {"id": "k3v9" * 6, "name": "attic", "own": True, "leader": True, "topics": []}
    other = base | {"id": "abcd" * 6, "name": "cellar\x1b[2J", "own": False, "leader": False}
    own |= {"address": "127.0.0.1:4711", "load": {}}
    other |= {
        "topics": ["image/*"],
        "address": "127.0.0.1:4712",
        "load": {"queues": {"a": [2, 1, 4]}},
    }
    shown = {"own": own["id"], "leader": own["id"], "current": True, "instances": [own, other]}
    node.topology_json = lambda: shown
    return shown


class TestTopology:
    async def test_is_a_table_in_which_nothing_steers_the_terminal(
        self, offload: Command, view: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("topology") == 0
        lines = capsys.readouterr().out.splitlines()
        known = ["NAME", "ID", "TOPICS", "SLOTS", "STATE", "ADDRESS", "RTT", "LINKED"]
        known += ["TRUST", "VERSION"]
        assert lines[0].split() == known
        rows = [" ".join(line.split()) for line in lines[1:]]
        assert rows[0] == "attic k3v9k3v9 - - up own leader 127.0.0.1:4711"
        assert rows[1].endswith("abcdabcd image/* 1/4 up 127.0.0.1:4712")
        assert "\x1b" not in lines[2]

    @pytest.mark.parametrize(
        "load",
        [*({"queues": {"main": odd}} for odd in ([1, 2], ["a"], 5, [1, "2", 3], None)), 5, ["a"]],
        ids=str,
    )
    async def test_shows_no_places_where_a_peer_says_nonsense(
        self, load: Any, offload: Command, view: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        view["instances"][1]["load"] = load
        assert await offload("topology") == 0
        assert "image/* - up" in " ".join(capsys.readouterr().out.split())

    async def test_is_json_for_programs(
        self, offload: Command, view: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("topology", "--json") == 0
        assert json.loads(capsys.readouterr().out) == view


class TestSubmit:
    async def test_prints_the_id_of_the_job_alone(
        self, offload: Command, view: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("submit", "image/thumbnail", "--arg", "size=256") == 0
        assert capsys.readouterr().out == "01abc\n"

    async def test_brings_files_in_order_and_arguments_by_name(
        self, node: Any, offload: Command, view: object, tmp_path: Path
    ) -> None:
        photo = tmp_path / "photo.jpg"
        photo.write_text("x")
        await offload("submit", "image/x", str(photo), "-a", "size=256", "-a", f"mask=@{photo}")
        assert node.asked[0][1] == {"0": File(photo), "size": 256, "mask": File(photo)}

    async def test_brings_its_options(
        self, node: Any, offload: Command, view: object, tmp_path: Path
    ) -> None:
        options = ("--into", str(tmp_path), "--if-exists", "refuse", "--key", "k")
        await offload("submit", "image/x", *options, "--priority", "-2", "--timeout", "2m")
        given = node.asked[0][2]
        assert (given.into, given.if_exists, given.key) == (str(tmp_path), "refuse", "k")
        assert (given.priority, given.timeout_s) == (-2, 120.0)

    async def test_of_a_topic_that_nobody_takes_is_refused_with_those_that_are_known(
        self, node: Any, offload: Command, view: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("submit", "imag/thumbnail") == 1
        error = capsys.readouterr().err
        assert "no instance takes topic 'imag/thumbnail' (known are image/*)" in error
        assert (error.count("\n"), node.asked) == (1, [])

    async def test_of_such_a_topic_can_be_insisted_upon(
        self, node: Any, offload: Command, view: object
    ) -> None:
        assert await offload("submit", "imag/thumbnail", "--anyway") == 0
        assert node.asked[0][0] == "imag/thumbnail"

    async def test_of_a_file_that_is_not_there_is_refused(
        self, offload: Command, view: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("submit", "image/x", "nowhere.jpg") == 2
        assert capsys.readouterr().err == "offload: nowhere.jpg: no such file\n"

    async def test_to_a_store_that_failed_ends_with_3(
        self, node: Any, offload: Command, view: object
    ) -> None:
        node.trouble = StoreFault("I/O error")
        assert await offload("submit", "image/x") == 3


def read_all(screen: int) -> bytes:
    """Return what was drawn; a terminal hands it out in pieces."""
    drawn = b""
    while select.select([screen], [], [], 0)[0]:
        drawn += os.read(screen, 100_000)
    return drawn


class TestFollowing:
    @pytest.fixture
    def happening(self, node: Any, view: object) -> Any:
        """The job that will be submitted: it logs, gets on, and ends when ``over`` is set."""
        news = [
            {"kind": "state", "wall": 0.0, "state": "active", "worker": "k3v9" * 6},
            {"kind": "log", "wall": 0.0, "text": "reading\x07"},
            {"kind": "progress", "wall": 0.0, "done": 2, "total": 5, "text": "tiles"},
        ]
        job = node.add(happens=news)
        job.over.set()
        node.add = lambda *_: job
        return job

    async def ends(self, job: Any, end: dict[str, Any]) -> None:
        async def wait() -> dict[str, Any]:
            return {"id": job.id, "topic": job.topic, **end}

        job.wait = wait

    async def test_tells_what_happens_and_ends_with_the_result(
        self, offload: Command, happening: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await self.ends(happening, {"state": "succeeded", "outputs": ["/out/1.jpg"], "value": "x"})
        assert await offload("submit", "image/x", "--follow") == 0
        lines = capsys.readouterr().out.splitlines()
        told = [line.partition("  ")[2] for line in lines[1:-1]]
        assert told == ["active on attic", "| reading�", "progress 2 of 5 tiles", "succeeded"]
        assert lines[-1] == "/out/1.jpg"

    async def test_prints_a_value_as_json(
        self, offload: Command, happening: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await self.ends(happening, {"state": "succeeded", "value": {"width": 3}})
        await offload("submit", "image/x", "--follow")
        assert capsys.readouterr().out.splitlines()[-1] == '{"width": 3}'

    async def test_ends_with_1_and_the_reason_if_the_job_failed(
        self, offload: Command, happening: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await self.ends(happening, {"state": "error", "reason": "no image", "error": None})
        assert await offload("submit", "image/x", "--follow") == 1
        assert capsys.readouterr().err == "offload: job 01abc is error: no image\n"

    async def test_gives_json_alone_if_asked_to(
        self, offload: Command, happening: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await self.ends(happening, {"state": "succeeded", "value": 7})
        assert await offload("submit", "image/x", "--follow", "--json") == 0
        assert json.loads(capsys.readouterr().out)["value"] == 7

    async def test_draws_in_a_terminal(
        self, node: Any, offload: Command, happening: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await self.ends(happening, {"state": "succeeded", "value": 7})
        screen, terminal = pty.openpty()
        with os.fdopen(terminal, "w") as stdout:
            monkeypatch.setattr("sys.stdout", stdout)
            assert await offload("submit", "image/x", "--follow") == 0
            stdout.flush()
            drawn = read_all(screen).decode()
        os.close(screen)
        assert "reading" in drawn
        assert drawn.rstrip().endswith("7")


class TestJobs:
    @pytest.fixture
    def listed(self, node: Any) -> dict[str, Any]:
        """One job that was tried twice."""
        found = {"id": "01abcdefghjkmnpqrstvwxyz01", "seq": 7, "topic": "a/b", "queue": "main"}
        found |= {"state": "error", "priority": 0, "attempt": 2, "worker": "abcd" * 6}
        found |= {"worker_name": "cellar", "failures": 1, "crashes": 0, "reason": "no image"}
        found |= {"created": "2026-01-02T03:04:05+00:00", "started": None, "finished": None}
        found |= {"into": "", "outputs": [], "value": None}
        found |= {"error": {"type": "ValueError", "message": "no image", "traceback": "Trace\n"}}
        attempt = {"number": 1, "worker": "abcd" * 6, "worker_name": "cellar", "result": "failed"}
        attempt |= {"reason": "bad luck", "ended": "2026-01-02T03:04:06+00:00", "run_s": 0.5}
        crash = {**attempt, "number": 2, "result": "crashed", "run_s": None}
        found["attempts"] = [attempt, crash]

        async def answer(*_args: object, **_query: object) -> Any:
            return [found] if _query else found

        node.jobs = node.describe = answer
        return found

    async def test_are_a_table(
        self, offload: Command, listed: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("jobs") == 0
        row = capsys.readouterr().out.splitlines()[1]
        assert row.split()[:5] == ["01abcdefghjkmn", "a/b", "error", "2", "cellar"]

    async def test_show_all_about_one_with_its_attempts(
        self, offload: Command, listed: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("job", "show", "01abc") == 0
        shown = capsys.readouterr().out
        assert "error     ValueError: no image" in shown
        assert "1    cellar  failed   0.50" in shown

    async def test_say_of_no_crashed_attempt_how_long_it_ran(
        self, offload: Command, listed: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("job", "show", "01abc") == 0
        assert "2    cellar  crashed  ?" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("kind", "message", "line"),
        [
            ("ValueError", "ValueError: no image", "error     ValueError: no image"),
            ("", "was stopped", "error     was stopped"),
        ],
    )
    async def test_name_an_error_once(
        self,
        offload: Command,
        listed: dict[str, Any],
        capsys: pytest.CaptureFixture[str],
        kind: str,
        message: str,
        line: str,
    ) -> None:
        listed["error"] = {"type": kind, "message": message, "traceback": ""}
        assert await offload("job", "show", "01abc") == 0
        assert line in capsys.readouterr().out.splitlines()

    async def test_are_json_for_programs(
        self, offload: Command, listed: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("job", "show", "01abc", "--json") == 0
        assert json.loads(capsys.readouterr().out) == listed

    async def test_can_be_stopped_and_removed(self, node: Any, offload: Command) -> None:
        node.add()
        assert await offload("job", "stop", "01abc") == 0
        assert await offload("job", "remove", "01abc") == 0
        assert node.held == {}

    async def test_are_stopped_added_again_and_removed_in_json(
        self, node: Any, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job = node.add()
        told = []
        for verb in ("stop", "retry", "remove"):
            assert await offload("job", verb, job.id[:4], "--json") == 0
            told.append(json.loads(capsys.readouterr().out))
        assert told[0] == {"id": job.id, "stopped": True}
        assert told[1] == {"id": "02new", "topic": job.topic}
        assert told[2] == {"id": job.id, "removed": True}

    async def test_that_are_over_cannot_be_stopped(
        self, node: Any, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        node.add().over.set()
        assert await offload("job", "stop", "01abc") == 1
        assert "has ended already" in capsys.readouterr().err

    async def test_that_nobody_knows_end_with_1(
        self, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("job", "show", "77") == 1
        assert capsys.readouterr().err == "offload: no job 77\n"

    async def test_are_explained(
        self, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("explain", "a/b") == 0
        assert capsys.readouterr().out == "nobody takes it\n"


class TestTextFromElsewhere:
    """It comes from a job, a peer or the store, and must not reach the terminal raw."""

    EVIL = "\x1b]0;gotcha\x07\x9b2J\u202e"

    def told(self, capsys: pytest.CaptureFixture[str]) -> str:
        captured = capsys.readouterr()
        told = captured.out + captured.err
        assert [c for c in told if not c.isprintable() and c not in "\t\n"] == []
        return told

    def test_in_a_result_is_harmless(self, capsys: pytest.CaptureFixture[str]) -> None:
        show_result({"state": "succeeded", "value": f"a\tb\n{self.EVIL}c"})
        show_result({"state": "succeeded", "outputs": [f"/tmp/{self.EVIL}"], "value": None})
        assert self.told(capsys).startswith("a\tb\n")

    def test_in_a_failure_is_harmless(self, capsys: pytest.CaptureFixture[str]) -> None:
        error = {"message": "m", "traceback": f"Traceback\n  {self.EVIL}\nValueError: {self.EVIL}"}
        show_result({"id": "01", "state": "error", "reason": self.EVIL, "error": error})
        assert self.told(capsys).count("\n") == 4

    def test_in_an_error_is_harmless(self, capsys: pytest.CaptureFixture[str]) -> None:
        shell.refuse(UsageError(self.EVIL))
        self.told(capsys)

    @pytest.mark.parametrize("number", ["\x1b[2J", [1], {}, float("nan"), 10**400, True])
    def test_in_place_of_a_number_is_harmless(self, number: Any) -> None:
        event = {"kind": "progress", "done": number, "total": number, "eta_s": number, "text": 5}
        assert describe(event).isprintable()

    def test_in_json_is_escaped(self, capsys: pytest.CaptureFixture[str]) -> None:
        value = {"name": self.EVIL + "\ud800é", "n": [float("inf"), 1.5]}
        say_json(value)
        assert json.loads(self.told(capsys)) == value | {"n": ["inf", 1.5]}

    def test_in_the_log_is_a_line(self) -> None:
        try:
            raise ValueError(self.EVIL)
        except ValueError:
            trouble = sys.exc_info()
        record = logging.makeLogRecord({"msg": f"a\n{self.EVIL}", "exc_info": trouble})
        first, *rest = logs.Lines("%(message)s").format(record).split("\n")
        assert first.startswith("a ")
        assert rest[0].startswith("Traceback")
        assert all(line.isprintable() for line in (first, *rest))


class TestArguments:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("256", 256),
            ("true", True),
            ("[1, 2]", [1, 2]),
            ("abc", "abc"),
            ("NaN", "NaN"),
            ("[-Infinity]", "[-Infinity]"),
            ("1e400", "1e400"),
            ("1.5e3", 1500.0),
            ("", ""),
            ("a=b", "a=b"),
            ("@@home", "@home"),
            ("@in.jpg", File("in.jpg")),
        ],
    )
    def test_are_json_or_text_or_files(self, text: str, value: object) -> None:
        assert arguments([], [f"x={text}"]) == {"x": value}

    def test_that_are_files_get_names_that_can_travel(self) -> None:
        given = arguments([Path("a/12:30.png")], ["x=@b/what?.txt"])
        assert given == {
            "0": File("a/12:30.png", "12_30.png"),
            "x": File("b/what?.txt", "what_.txt"),
        }

    @pytest.mark.parametrize("pair", ["x", "=1", "a b=1", "a-b=1"])
    def test_need_a_name(self, pair: str) -> None:
        with pytest.raises(UsageError, match="NAME=VALUE"):
            arguments([], [pair])

    def test_are_given_once(self) -> None:
        with pytest.raises(UsageError, match="twice"):
            arguments([Path("a")], ["0=1"])


def test_progress_may_be_a_count_alone() -> None:
    event = {"kind": "progress", "wall": 0.0, "done": 3, "total": None, "text": None}
    assert describe(event) == "progress 3"


def test_an_error_without_a_reason_still_has_a_sentence() -> None:
    assert "is error" in str(JobFailed("01", "error", ""))


@pytest.mark.parametrize(
    ("count_bytes", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (3 * 1024**3, "3.0 GiB")]
)
def test_sizes_are_readable(count_bytes: int, text: str) -> None:
    assert size(count_bytes) == text


def test_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\u202e") == "a�[2Jb c�"


def test_ages_are_readable() -> None:
    assert age(None) == ""
    assert age("2020-01-01T00:00:00+00:00").endswith(" d")
