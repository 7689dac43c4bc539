"""The same verbs without asyncio, from a thread that knows no event loop."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from offload import App, sync
from offload.config import Config
from offload.errors import JobFailed, NotRunning


async def elsewhere(work: Callable[[], Any]) -> Any:
    """Run ``work`` in a thread, as a program without asyncio would be."""
    return await asyncio.to_thread(work)


class TestAClient:
    async def test_waits_for_results(self, node: Any) -> None:
        node.add(value={"n": 1}).over.set()

        def program() -> Any:
            with sync.connect(node.data_dir.path) as client:
                return client.job("01").result(), client.status()["name"], len(client.jobs())

        assert await elsewhere(program) == ({"n": 1}, "attic", 1)

    async def test_submits_with_options(self, node: Any) -> None:
        def program() -> None:
            with sync.connect(node.data_dir.path) as client:
                client.options(priority=4).submit("a/b", size=1)

        await elsewhere(program)
        topic, arguments, options = node.asked[0]
        assert (topic, arguments, options.priority) == ("a/b", {"size": 1}, 4)

    async def test_follows_events_to_their_end(self, node: Any) -> None:
        node.add(happens=[{"kind": "log", "wall": 1.0, "text": "half"}]).over.set()

        def program() -> list[str]:
            with sync.connect(node.data_dir.path) as client:
                return [event["kind"] for event in client.job("01").events()]

        assert await elsewhere(program) == ["log", "state"]

    async def test_raises_why_a_job_failed(self, node: Any, failed: JobFailed) -> None:
        node.add(value=failed).over.set()

        def program() -> None:
            with sync.connect(node.data_dir.path) as client:
                client.job("01").result()

        with pytest.raises(JobFailed, match="no image"):
            await elsewhere(program)

    async def test_need_not_wait_for_ever(self, node: Any) -> None:
        node.add()

        def program() -> None:
            with sync.connect(node.data_dir.path) as client:
                client.job("01").wait(timeout_s=0.05)

        with pytest.raises(TimeoutError):
            await elsewhere(program)

    def test_says_that_no_instance_runs(self, tmp_path: Path) -> None:
        with pytest.raises(NotRunning), sync.connect(tmp_path):
            pass


def test_a_node_runs_jobs_in_a_program_without_asyncio(tmp_path: Path) -> None:
    app = App()

    @app.consumer("double", isolate="thread")
    def double(n: int) -> int:
        return 2 * n

    node = {"data_dir": str(tmp_path / "data"), "port": 0, "realm": f"test-{tmp_path.name}"}
    config = Config.make(node=node, discovery={"mdns": False})
    with sync.Node.from_config(config, app) as running:
        assert running.offload("double", n=21) == 42
