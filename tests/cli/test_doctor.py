"""``offload doctor`` with real processes on loopback, and without any (issue 4, line 8)."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from offload.cli import shell

LIMIT_S = 60.0
ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def furnish(folder: Path, name: str, realm: str, **more: str) -> Path:
    """Write the configuration of an instance."""
    folder.mkdir()
    node = {"name": name, "realm": realm, **more}
    lines = [f"{key} = {json.dumps(value)}" for key, value in node.items()]
    (folder / "offload.toml").write_text("\n".join(["[node]", "port = 0", *lines]) + "\n")
    return folder


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start an instance; return it when it is up."""
    process = subprocess.Popen(
        [sys.executable, "-m", "offload", "run", *options],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert any(" is up on " in line for line in process.stdout)
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(LIMIT_S)
    assert process.stdout is not None
    process.stdout.close()


Examine = Callable[..., tuple[int, dict[str, list[dict[str, Any]]]]]


@pytest.fixture
def examined(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Run the command; return its exit code, and the findings by check."""
    monkeypatch.setattr("offload.doctor.multicast.LOOK_S", 1.0)  # of one that does not run

    def examined(folder: Path, *words: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        capsys.readouterr()
        code = shell.run(["doctor", *words, "--json", "--config", str(folder / "offload.toml")])
        told = capsys.readouterr()
        assert told.err == ""
        found: dict[str, list[dict[str, Any]]] = {}
        for finding in json.loads(told.out)["findings"]:
            found.setdefault(finding["check"], []).append(finding)
        return code, found

    return examined


def port_of(folder: Path) -> int:
    return int(json.loads((folder / ".offload/run.json").read_text())["port"])


@pytest.fixture(scope="module")
def realm() -> str:
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, user: Path, realm: str) -> Iterator[Path]:
    """The folder of an instance that is up; it is not of this user's group."""
    folder = tmp_path_factory.mktemp("desk") / "desk"
    furnish(folder, "desk", realm, group_dir=str(folder / "group"))
    process = start(folder)
    yield folder
    end(process)


@pytest.fixture(scope="module")
def attic(tmp_path_factory: pytest.TempPathFactory, realm: str, desk: Path) -> Iterator[Path]:
    """Another one, of the same group."""
    folder = tmp_path_factory.mktemp("attic") / "attic"
    furnish(folder, "attic", realm, group_dir=str(desk / "group"))
    process = start(folder)
    yield folder
    end(process)


class TestTwoInstances:
    def test_that_see_each_other_are_well(self, examined: Examine, desk: Path, attic: Path) -> None:
        code, found = examined(desk, f"127.0.0.1:{port_of(attic)}")
        (multicast,) = found["multicast"]
        assert (code, multicast["state"]) == (0, "ok")
        assert multicast["about"].endswith("(127.0.0.1)")  # and no other: they listen there alone
        assert found["fits"][0]["text"].startswith("attic (")
        assert {f["state"] for fs in found.values() for f in fs} <= {"ok", "warning", "not tested"}

    def test_of_which_one_is_insecure_are_told_so(
        self, examined: Examine, desk: Path, tmp_path: Path, realm: str
    ) -> None:
        folder = furnish(tmp_path / "shed", "shed", realm)
        process = start(folder, "--insecure")
        try:
            code, found = examined(desk, f"127.0.0.1:{port_of(folder)}")
        finally:
            end(process)
        assert (code, found["reachable"][0]["state"]) == (1, "ok")
        assert found["fits"][0]["state"] == "fault"
        assert "it speaks without TLS; is it insecure?" in found["fits"][0]["text"]
        assert "offload join CODE" in found["fits"][0]["remedy"]

    def test_of_different_realms_are_told_so(
        self, examined: Examine, desk: Path, tmp_path: Path
    ) -> None:
        group = str(desk / "group")
        folder = furnish(tmp_path / "shed", "shed", "elsewhere", group_dir=group)
        process = start(folder)
        try:
            code, found = examined(desk, f"127.0.0.1:{port_of(folder)}")
        finally:
            end(process)
        assert code == 1
        assert "is of realm 'elsewhere'" in found["fits"][0]["text"]


class TestAnAddress:
    def test_where_nothing_listens_is_a_fault(self, examined: Examine, desk: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        code, found = examined(desk, f"127.0.0.1:{port}")
        assert code == 1
        assert "nothing listens on that port" in found["reachable"][0]["text"]

    def test_that_is_none_is_refused_in_one_sentence(self, desk: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "offload", "doctor", "no/way"],
            cwd=desk,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr == "offload: 'no/way' is no address; write host or host:port\n"


class TestWithoutAnInstance:
    def test_what_can_be_looked_at_is(self, examined: Examine, tmp_path: Path, realm: str) -> None:
        folder = furnish(tmp_path / "shed", "shed", realm)
        code, found = examined(folder)
        assert code == 0
        assert found["instance"][0]["text"] == "no instance was ever started there"
        assert found["multicast"][0]["state"] == "ok"
        assert found["peers"][0]["state"] == "not tested"
        assert list(folder.iterdir()) == [folder / "offload.toml"]  # it has made nothing

    def test_others_are_visited_under_its_own_credentials(
        self, examined: Examine, attic: Path, tmp_path: Path, realm: str, desk: Path
    ) -> None:
        folder = furnish(tmp_path / "shed", "shed", realm, group_dir=str(desk / "group"))
        end(start(folder))
        code, found = examined(folder, f"127.0.0.1:{port_of(attic)}")
        assert (code, found["instance"][0]["state"]) == (0, "warning")
        assert found["fits"][0]["text"].startswith("attic (")

    def test_a_copy_of_a_folder_in_use_is_found_out(
        self, examined: Examine, desk: Path, tmp_path: Path
    ) -> None:
        """C057, before it is started."""
        copy = tmp_path / "copy"
        ignored = shutil.ignore_patterns("*.sock", "run.json", "group")
        shutil.copytree(desk, copy, ignore=ignored)
        toml = copy / "offload.toml"
        toml.write_text(toml.read_text().replace(str(copy), str(desk)))
        code, found = examined(copy, f"127.0.0.1:{port_of(desk)}")
        assert code == 1
        assert found["fits"][0]["text"].endswith("has this instance's id")
        assert found["identity"][0]["state"] == "fault"

    def test_a_wrong_configuration_is_the_finding(self, examined: Examine, tmp_path: Path) -> None:
        (tmp_path / "offload.toml").write_text("[node]\nprot = 1\n")
        code, found = examined(tmp_path)
        assert code == 1
        assert "did you mean port?" in found["configuration"][0]["text"]

    def test_an_address_without_a_group_is_the_finding(
        self, examined: Examine, tmp_path: Path
    ) -> None:
        """C110."""
        (tmp_path / "offload.toml").write_text('[node]\nlisten = "0.0.0.0"\n')
        code, found = examined(tmp_path)
        assert code == 1
        assert "offload init" in found["configuration"][0]["text"]


class TestForPeople:
    def test_each_finding_has_a_line_and_what_to_do(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "offload.toml").write_text("[node]\nprot = 1\n")
        assert shell.run(["doctor", "--config", str(tmp_path / "offload.toml")]) == 1
        line, remedy, _, summary = capsys.readouterr().out.splitlines()
        assert line.startswith("fault       configuration (offload.toml, ")
        assert remedy.strip().startswith("-> put it right")
        assert summary == "1 fault, 0 warnings"
