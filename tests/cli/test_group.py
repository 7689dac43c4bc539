"""``offload group`` by hand, where no instance runs: three commands make two machines a group."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from offload.cli import shell
from offload.peers.identity import GroupFolder, Identity

ROOT = Path(__file__).parents[2]
LIMIT_S = 60
Run = Callable[..., tuple[int, str]]
CONFIG = """\
[node]
name = "{name}"
listen = "127.0.0.1"
group_dir = "group"
[discovery]
mdns = false
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in somebody's folder; return its exit code, and what it says."""
    for name in ("ada", "bob"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "offload.toml").write_text(CONFIG.format(name=name))

    def run(name: str, *words: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path / name)
        code = shell.run(words)
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.fixture
def inviting(run: Run, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Ada has made a group, and waits for somebody to join it."""
    exit_code, said = run("ada", "init", "attic")
    assert (exit_code, "made the group attic" in said) == (0, True)
    with subprocess.Popen(
        [sys.executable, "-m", "offload", "invite"],
        cwd=tmp_path / "ada",
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as inviting:
        yield inviting
        inviting.kill()


def test_three_commands_make_two_machines_a_group(
    run: Run, inviting: subprocess.Popen[str]
) -> None:
    assert inviting.stdout is not None
    code = inviting.stdout.readline().split()[1].rstrip(",")
    inviting.stdout.readline()
    where = inviting.stdout.readline().split("--host ")[1].split(";")[0]
    exit_code, said = run(
        "bob", "join", "111-111" if code != "111-111" else "222-222", "--host", where
    )
    assert (exit_code, "not joined" in said) == (1, True)
    assert "2 tries left" in inviting.stdout.readline()
    exit_code, said = run("bob", "join", code, "--host", where)
    assert (exit_code, "joined the group attic (2 members)" in said) == (0, True)
    assert "bob" in inviting.stdout.readline()
    assert inviting.wait(LIMIT_S) == 0
    told = json.loads(run("bob", "group", "members", "--json")[1])
    assert [(m["name"], m["keeper"]) for m in told["members"]] == [("ada", True), ("bob", False)]


def test_who_was_removed_is_told_so_where_the_members_are_listed(run: Run, tmp_path: Path) -> None:
    assert run("ada", "init", "attic")[0] == 0
    assert "no member of it" not in run("ada", "group", "members")[1]
    own = Identity.load(tmp_path / "ada" / ".offload" / "identity").id
    GroupFolder(tmp_path / "ada" / "group").alter(lambda group: group.without(own))
    exit_code, said = run("ada", "group", "members")
    assert (exit_code, "this instance is no member of it: it was removed" in said) == (0, True)


class TestWhatCannotBe:
    def test_is_said_in_a_sentence(self, run: Run) -> None:
        assert run("ada", "init")[0] == 0
        exit_code, said = run("ada", "init")
        assert (exit_code, "already" in said) == (1, True)
        exit_code, said = run("ada", "group", "remove", "nobody")
        assert (exit_code, "no member" in said) == (2, True)
        exit_code, said = run("bob", "invite")
        assert (exit_code, "offload init" in said) == (1, True)
        exit_code, said = run("bob", "join", "12")
        assert (exit_code, "six letters" in said) == (2, True)
        exit_code, said = run("bob", "join", "offload1-abc")
        assert (exit_code, "standard input: offload join -" in said) == (2, True)
