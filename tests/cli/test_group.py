"""``offload group`` by hand, where no instance runs: three commands make two machines a group."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 60


class User:
    """Somebody at a terminal, in a folder with an offload.toml."""

    def __init__(self, folder: Path, name: str, realm: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        (self.folder / "offload.toml").write_text(
            f'[node]\nname = "{name}"\nrealm = "{realm}"\nlisten = "127.0.0.1"\n'
            'group_dir = "group"\n'
            "[discovery]\nmdns = false\n"
        )

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "offload", *words]

    def run(self, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(*words),
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            input=said,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(*words),
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def test_three_commands_make_two_machines_a_group(tmp_path: Path) -> None:
    ada, bob = User(tmp_path, "ada", "r"), User(tmp_path, "bob", "r")
    assert "made the group attic" in ada.run("init", "attic").stdout
    again = ada.run("group", "init")
    assert (again.returncode, "already" in again.stderr) == (1, True)
    inviting = ada.start("invite")
    assert inviting.stdout is not None
    try:
        code = inviting.stdout.readline().split()[1].rstrip(",")
        inviting.stdout.readline()
        where = inviting.stdout.readline().split("--host ")[1].split(";")[0]
        wrong = bob.run("join", "000-000" if code != "000-000" else "111-111", "--host", where)
        assert (wrong.returncode, "not joined" in wrong.stderr) == (1, True)
        assert "2 tries left" in inviting.stdout.readline()
        right = bob.run("join", "-", "--host", where, said=code)
        assert "joined the group attic (2 members)" in right.stdout
        assert "bob" in inviting.stdout.readline()
        assert inviting.wait(LIMIT_S) == 0
    finally:
        inviting.kill()
        inviting.wait(LIMIT_S)
        inviting.stdout.close()
    told = json.loads(bob.run("group", "members", "--json").stdout)
    assert [(m["name"], m["keeper"]) for m in told["members"]] == [("ada", True), ("bob", False)]
    refused = bob.run("group", "remove", "ada")
    assert (refused.returncode, "keeper" in refused.stderr) == (1, True)
