"""Queues from outside: by commands, by the client and without asyncio, with a real node behind."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from typing import Any

import pytest

from offload import Node, sync
from offload.cli import shell
from offload.client import connect
from offload.errors import Refused, UsageError
from offload.testing import Lan
from offload.web.control import Control

Command = Callable[..., Awaitable[int]]


@pytest.fixture
async def node(lan: Lan) -> AsyncIterator[Node]:
    """Hands out jobs, and has a queue ``heavy``."""
    rules = {"heavy": {"topics": ["heavy/*"], "type": "ordered"}, "main": {"rate": "10/s"}}
    node = await lan.node(queues=rules)
    async with Control(node):
        yield node


@pytest.fixture
def offload(node: Node) -> Command:
    async def command(*args: str) -> int:
        return await asyncio.to_thread(shell.run, [*args, "--data-dir", str(node.data_dir.path)])

    return command


class TestTheCommands:
    async def test_list_suspend_resume_and_clear(
        self, node: Node, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await node.submit("heavy/a")
        assert await offload("queues", "suspend", "heavy") == 0
        assert await offload("queues") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[2].split()[:4] == ["heavy", "ordered", "suspended", "1"]
        assert await offload("queues", "list", "--json") == 0
        found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        assert [(q["name"], q["state"], q["depth"], q["rate"]) for q in found] == [
            ("heavy", "suspended", 1, None),
            ("main", "open", 0, "10/s"),
        ]
        assert await offload("queues", "resume", "heavy") == 0
        capsys.readouterr()
        assert await offload("queues", "clear", "heavy", "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"dropped": 1}

    async def test_name_the_queues_that_there_are(
        self, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("queues", "suspend", "hevy") == 2
        assert "known are heavy, main" in capsys.readouterr().err

    @pytest.mark.parametrize("moment", ["1e18", "-1e18", "9e999"])
    async def test_list_a_job_whose_moment_is_damaged(
        self, node: Node, offload: Command, capsys: pytest.CaptureFixture[str], moment: str
    ) -> None:
        job = await node.submit("heavy/a")
        with closing(sqlite3.connect(node.data_dir.store / "store.db")) as connection:
            connection.execute(f"UPDATE jobs SET created_wall = {moment}")
            connection.commit()
        assert await offload("queues") == 0
        assert job.id[:14] in capsys.readouterr().out
        [heavy] = [queue for queue in await node.queues() if queue["name"] == "heavy"]
        assert (heavy["oldest"], heavy["oldest_job"]) == (None, job.id)
        assert (await job.info())["created"] is None

    async def test_switch_processing(self, node: Node, offload: Command) -> None:
        assert await offload("processing", "off") == 0
        assert {queue["state"] for queue in await node.queues()} == {"disabled"}
        assert await offload("processing", "on") == 0
        assert {queue["state"] for queue in await node.queues()} == {"open"}

    async def test_give_a_job_its_limits(
        self, node: Node, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        flags = ["--expires-in", "1m", "--deadline-in", "2m", "--order-by", "x", "--anyway"]
        assert await offload("submit", "a", *flags, "--key", "k", "--if-key", "refuse") == 0
        assert await offload("submit", "a", *flags, "--key", "k", "--if-key", "refuse") == 1
        assert "which has not ended" in capsys.readouterr().err
        assert await offload("submit", "a", "--anyway", "--at", "tomorrow") == 2
        [job] = await node._house.store.find(limit=5)
        assert (job.expires_at, job.deadline_at, job.order_by) == (60.0, 120.0, "x")

    async def test_load_no_configuration_where_there_is_no_file(
        self, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("config", "reload") == 1
        assert "file" in capsys.readouterr().err


async def test_the_client_has_the_same_verbs(node: Node) -> None:
    async with connect(node.data_dir.path) as client:
        await client.suspend_queue("heavy")
        wishes = client.options(order_by="x", deadline_in="5m", run_at="2100-01-01T00:00:00")
        await wishes.submit("heavy/a")
        assert [queue["state"] for queue in await client.queues()] == ["suspended", "open"]
        await client.resume_queue("heavy")
        assert await client.clear_queue("heavy") == 1
        await client.set_processing(enabled=False)
        with pytest.raises(UsageError, match="known are"):
            await client.suspend_queue("a b/c?")
        with pytest.raises(Refused):
            await client.reload()
    assert not node._house.manager.gates.processing


async def test_so_has_a_program_without_asyncio(node: Node) -> None:
    def program() -> list[str]:
        with sync.connect(node.data_dir.path) as client:
            client.suspend_queue("main")
            client.set_processing(enabled=True)
            states = [queue["state"] for queue in client.queues()]
            client.resume_queue("main")
            assert client.clear_queue("main") == 0
            return states

    assert await asyncio.to_thread(program) == ["open", "suspended"]
