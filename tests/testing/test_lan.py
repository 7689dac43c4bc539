"""A LAN in memory behaves as one of cables does, as far as a node can tell."""

import asyncio
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from offload import App, Node
from offload.app import load_app
from offload.errors import BlobMissing, PeerRefused, PeerUnreachable
from offload.testing import Lan, MovedClock

ROOT = Path(__file__).parents[2]


def sees(node: Node) -> list[str]:
    return sorted(instance.name for instance in node.topology.instances if not instance.silent)


class TestNodes:
    async def test_see_each_other_at_once(self, lan: Lan) -> None:
        nodes = [await lan.node(name=name) for name in ("ada", "bob", "cleo")]
        assert [sees(node) for node in nodes] == [["ada", "bob", "cleo"]] * 3

    async def test_of_another_realm_do_not(self, lan: Lan) -> None:
        ada = await lan.node(name="ada")
        with pytest.raises(TimeoutError, match="have not met"):
            await lan.node(name="bob", node={"realm": "other"})
        assert sees(ada) == ["ada"]

    async def test_that_leave_say_goodbye(self, lan: Lan) -> None:
        ada, bob = await lan.node(name="ada"), await lan.node(name="bob")
        await bob.__aexit__(None, None, None)
        await lan.settle()
        assert sees(ada) == ["ada"]

    async def test_that_crash_are_gone_at_once_and_come_back(self, lan: Lan) -> None:
        """C080, C056: who comes back does so at the end."""
        ada, bob = await lan.node(name="ada"), await lan.node(name="bob")
        await lan.clock.advance(5)
        await lan.crash(ada)
        assert sees(bob) == ["bob"]
        ada = await lan.restart(ada)
        assert [i.name for i in ada.topology.instances] == ["bob", "ada"]
        assert ada.topology.own.boot == 2


class TestWhatIsUnderWay:
    async def test_is_waited_for_also_between_what_threads_are_asked(self, lan: Lan) -> None:
        """However late in a look the answer comes, whoever has it may go on."""

        async def work() -> None:
            for _ in range(100):
                await asyncio.to_thread(time.sleep, 0.0001)
                for _ in range(10):
                    await asyncio.sleep(0)

        task = asyncio.create_task(work())
        await lan.settle()
        assert task.done()


class TestACut:
    async def test_shows_after_five_beats_and_ends(self, lan: Lan) -> None:
        ada, bob = await lan.node(name="ada"), await lan.node(name="bob")
        lan.cut(ada)
        await lan.clock.advance(4)
        assert sees(ada) == ["ada", "bob"]
        await lan.clock.advance(3)
        assert (sees(ada), sees(bob)) == (["ada"], ["bob"])
        lan.heal()
        await lan.settle()
        assert (sees(ada), sees(bob)) == (["ada", "bob"], ["ada", "bob"])

    async def test_leaves_the_others_linked(self, lan: Lan) -> None:
        ada, bob, cleo = [await lan.node(name=name) for name in ("ada", "bob", "cleo")]
        lan.cut(ada, bob)
        await lan.clock.advance(30)
        assert sees(ada) == sees(bob) == sees(cleo) == ["ada", "bob", "cleo"]

    async def test_is_no_answer_and_a_crash_a_refusal(self, lan: Lan) -> None:
        ada, bob = await lan.node(), await lan.node()
        lan.cut(ada)
        ada._house.transport.drop(bob.id, "a test")
        await lan.settle()
        with pytest.raises(PeerUnreachable, match="no answer"):
            await ada._house.transport.dial("127.0.0.1", bob._house.transport.port)
        with pytest.raises(PeerUnreachable, match="no link"):
            await ada._house.transport.fetch(bob.id, "0" * 64, 1)
        await lan.crash(bob)
        lan.heal()
        with pytest.raises(PeerRefused):
            await ada._house.transport.dial("127.0.0.1", bob._house.transport.port)


async def test_a_blob_that_is_not_there_is_missing(lan: Lan) -> None:
    ada, bob = await lan.node(), await lan.node()
    with pytest.raises(BlobMissing):
        await ada._house.transport.fetch(bob.id, "0" * 64, 1)


async def test_malformed_frames_are_answered_and_change_nothing(lan: Lan) -> None:
    ada, bob = await lan.node(name="ada"), await lan.node(name="bob")
    for kind in ("offer", "holding", "beat", "nonsense"):
        assert ada._house.transport.send(bob.id, kind, {"job": 7, "load": 7})
    await lan.settle()
    assert sees(ada) == sees(bob) == ["ada", "bob"]
    assert not ada._house.transport.send("nobody", "offer", {})


class TestSettling:
    async def test_waits_until_the_answer_of_a_thread_has_arrived(self, lan: Lan) -> None:
        answer = lan._threads.submit(time.sleep, 0.1)
        answer.add_done_callback(lambda _: time.sleep(0.1))  # a thread that the machine lets wait
        arrived = asyncio.wrap_future(answer)
        await lan.settle()
        assert arrived.done()

    async def test_that_takes_too_long_says_what_for(
        self, lan: Lan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("offload.testing.lan.PATIENCE_S", 0.05)
        over = threading.Event()
        answer = asyncio.create_task(asyncio.to_thread(over.wait))
        with pytest.raises(TimeoutError, match="busy is a thread"):
            await lan.settle()
        over.set()
        await answer


class TestUntil:
    async def test_gives_up_by_the_clock(self, lan: Lan) -> None:
        with pytest.raises(TimeoutError, match="not done within 10 s"):
            await lan.until(asyncio.Event().wait(), within_s=10)
        assert lan.clock.now() == 10

    async def test_says_what_was_not_done(self, lan: Lan) -> None:
        node = await lan.node(name="ada")
        job = await node.submit("no/such")
        with pytest.raises(TimeoutError, match="no/such of ada, queued: No instance has the topic"):
            await lan.until(job.result(), within_s=1)

    async def test_gives_consumers_the_real_time_that_they_take(self, lan: Lan) -> None:
        app = App()

        @app.consumer("a/slow", isolate="thread")
        def slow() -> str:
            while lan.clock.now() < 30:
                time.sleep(0.001)
            return "done"

        node = await lan.node(app)
        assert await lan.until(node.offload("a/slow"), within_s=20) == "done"

    async def test_raises_what_is_raised(self, lan: Lan) -> None:
        async def fail() -> None:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await lan.until(fail())


async def test_without_a_folder_nothing_is_left() -> None:
    async with Lan() as lan:
        folder = (await lan.node()).data_dir.path
        assert folder.is_dir()
    assert not folder.exists()


class TestAMovedClock:
    async def test_wakes_sleepers_each_at_its_time(self, moved_clock: MovedClock) -> None:
        woken: list[tuple[str, float]] = []

        async def sleep(name: str, *delays_s: float) -> None:
            for delay_s in delays_s:
                await moved_clock.sleep(delay_s)
                woken.append((name, moved_clock.now()))

        tasks = [asyncio.create_task(sleep("a", 1, 3, 5)), asyncio.create_task(sleep("b", 3))]
        await moved_clock.advance(5)
        assert woken == [("a", 1), ("b", 3), ("a", 4)]
        assert (moved_clock.now(), moved_clock.mark().steady_s) == (5, 5)
        await moved_clock.advance(10)
        assert woken[-1] == ("a", 9)
        await asyncio.gather(*tasks)

    async def test_does_not_mind_who_sleeps_no_longer(self, moved_clock: MovedClock) -> None:
        task = asyncio.create_task(moved_clock.sleep(1))
        await moved_clock.advance(0)
        task.cancel()
        await moved_clock.advance(2)
        assert task.cancelled()

    async def test_moves_the_wall_clock_alike(self, moved_clock: MovedClock) -> None:
        before = moved_clock.wall()
        await moved_clock.advance(7)
        assert moved_clock.wall() - before == 7


async def test_consumers_run_in_child_processes_too(lan: Lan, tmp_path: Path) -> None:
    (tmp_path / "consumers.py").write_text(
        "import os\nfrom offload import App\napp = App()\n"
        "@app.consumer('work/pid')\ndef pid() -> int:\n    return os.getpid()\n"
    )
    app = load_app(str(tmp_path / "consumers.py"))
    desk, _ = await lan.node(), await lan.node(app)
    assert await lan.until(desk.offload("work/pid")) > 0


# By name, whether or not it is installed, where pytest would find it by itself.
PLUGINS = ("-p", "no:cacheprovider", "-p", "no:offload", "-p", "offload.testing.plugin")


def run_pytest(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *PLUGINS, *options],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestThePlugin:
    def test_runs_the_example_of_the_documentation(self, tmp_path: Path) -> None:
        text = (ROOT / "docs" / "testing.md").read_text("utf-8")
        [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        (tmp_path / "test_example.py").write_text(example, "utf-8")
        ran = run_pytest(tmp_path, "-o", "asyncio_mode=auto")
        assert "1 passed" in ran.stdout, ran.stdout + ran.stderr

    def test_costs_those_nothing_who_do_not_use_it(self, tmp_path: Path) -> None:
        (tmp_path / "test_light.py").write_text(
            "import sys\n"
            "def test_light():\n"
            "    assert 'offload.testing.plugin' in sys.modules\n"
            "    heavy = {'aiohttp', 'pydantic', 'zeroconf', 'offload.node'}\n"
            "    assert not heavy & sys.modules.keys()\n"
        )
        ran = run_pytest(tmp_path, "-p", "no:asyncio")
        assert "1 passed" in ran.stdout, ran.stdout + ran.stderr
