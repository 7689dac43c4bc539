"""One instance id in two processes, because a data directory was copied (C057)."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offload.config import Config
from offload.datadir import DataDir
from offload.errors import TwinRuns
from offload.node import Node
from offload.peers.transport.frames import Close, Hello, refusal
from offload.peers.transport.twins import Lives, is_younger


def hello(life: str, uptime_s: float, name: str = "ada") -> Hello:
    return Hello((1, 1), "ada", name, "s", 1, "r", 4711, uptime_s, life)


class TestTwoLivesOfOneId:
    @pytest.fixture
    def lives(self) -> Lives:
        """Has heard one, which began at 0, and other, which began at 100."""
        lives = Lives()
        assert lives.heard("ada", "one", 10.0, now=10) is None
        assert lives.heard("ada", "other", 1.0, now=101) is None
        return lives

    def test_are_a_restart_as_a_rule(self, lives: Lives) -> None:
        assert lives.heard("ada", "other", 9.0, now=109) is None

    def test_run_both_if_the_former_comes_back(self, lives: Lives) -> None:
        assert lives.heard("ada", "one", 102.0, now=102) == "other"

    def test_run_both_if_the_elder_came_second(self) -> None:
        lives = Lives()
        lives.heard("ada", "young", 1.0, now=101)
        lives.heard("ada", "old", 101.0, now=101)
        assert lives.heard("ada", "young", 2.0, now=102) == "young"

    def test_are_at_peace_when_one_has_ended(self, lives: Lives) -> None:
        lives.heard("ada", "one", 102.0, now=102)
        assert lives.heard("ada", "one", 103.0, now=103) is None

    def test_are_taken_for_one_if_they_have_no_name(self) -> None:
        lives = Lives()
        assert [lives.heard("ada", "", n, now=0) for n in (5.0, 1.0, 5.0)] == [None] * 3

    def test_of_other_ids_are_nobodys_twins(self, lives: Lives) -> None:
        assert lives.heard("bob", "one", 102.0, now=102) is None

    def test_are_remembered_for_a_few_lives_only(self, lives: Lives) -> None:
        for n in range(10):
            lives.heard("ada", f"n{n}", 0.0, now=200 + n)
        assert lives.heard("ada", "one", 300.0, now=300) is None

    def test_that_began_together_are_told_apart_by_their_names(self) -> None:
        assert is_younger(5.0, "z", 5.4, "a")
        assert not is_younger(5.4, "a", 5.0, "z")


class TestAHelloOfOurOwnId:
    def test_is_our_own(self) -> None:
        assert refusal(hello("one", 5), hello("one", 5)) == (
            Close.ITSELF,
            "it is this instance itself",
        )

    def test_of_a_younger_twin_ends_that_one(self) -> None:
        answer = refusal(hello("one", 500), hello("two", 5))
        assert answer is not None
        assert answer[0] is Close.TWIN

    def test_of_an_elder_twin_ends_us(self) -> None:
        answer = refusal(hello("two", 5), hello("one", 500))
        assert answer is not None
        assert answer[0] is Close.ELDER


async def start(folder: Path, *peers: int) -> Node:
    """Open a node that knows these ports on this host, and shows itself to nobody else."""
    table = {"name": folder.name, "data_dir": folder, "realm": "twins"}
    dialled = [f"127.0.0.1:{port}" for port in peers]
    config = Config.make(node=table, discovery={"mdns": False, "peers": dialled})
    return await Node(config, None, DataDir(folder)).__aenter__()


def copy(folder: Path, name: str) -> Path:
    """Copy a data directory while its instance runs, as a backup or a cloned disk does."""
    ignored = shutil.ignore_patterns("lock", "run.json", "control.sock")
    shutil.copytree(folder, folder.with_name(name), ignore=ignored)
    return folder.with_name(name)


def port_of(node: Node) -> int:
    return next(iter(node.topology.own.addresses))[1]


async def until(holds: Callable[[], Any], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


async def ends(node: Node) -> TwinRuns:
    """Serve until the node ends because of its twin, and close it."""
    with pytest.raises(TwinRuns) as caught:
        async with asyncio.timeout(20):
            await node.serve(asyncio.Event())
    await node.__aexit__(None, None, None)
    return caught.value


class TestACopiedDataDirectory:
    async def test_is_found_out_when_the_two_meet(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The younger one ends with one clear sentence, the elder goes on and says so."""
        elder = await start(tmp_path / "elder")
        await until(lambda: elder.topology.own.addresses)
        await asyncio.sleep(1.1)  # so long that the clock tells who is older
        copied = await start(copy(tmp_path / "elder", "copy"), port_of(elder))
        error = await ends(copied)
        assert str(error).startswith(f"{tmp_path / 'copy'} is a copy of the data directory")
        assert "'elder' at 127.0.0.1" in str(error)
        assert "a copy of this instance's data directory is in use: 'copy' " in caplog.text
        await elder.__aexit__(None, None, None)

    async def test_is_found_out_at_a_third_that_both_reach(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The two cannot reach each other: the third one tells them."""
        third = await start(tmp_path / "third")
        await until(lambda: third.topology.own.addresses)
        elder = await start(tmp_path / "elder", port_of(third))
        await until(lambda: third.topology.get(elder.id))
        await asyncio.sleep(1.1)
        copied = await start(copy(tmp_path / "elder", "copy"), port_of(third))
        assert "'elder' at 127.0.0.1" in str(await ends(copied))
        await until(lambda: "has the same id, says 'third'" in caplog.text)
        await until(lambda: third.topology.get(elder.id).name == "elder")
        assert {i.name for i in elder.topology.instances} == {"third", "elder"}
        for node in (elder, third):
            await node.__aexit__(None, None, None)
