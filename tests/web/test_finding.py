"""Finding, controlling and measuring jobs through the control API and the commands, end to end."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from offload import App, Node, sync
from offload.cli import shell
from offload.client import Client, connect
from offload.errors import Refused, UsageError
from offload.testing import Lan
from offload.web.control import Control

Command = Callable[..., Awaitable[str]]
app = App()


@app.consumer("image/thumbnail")
async def thumbnail(size: int = 0) -> int:
    return size


@app.consumer("image/broken")
async def broken() -> None:
    raise ValueError("broken")


@pytest.fixture
async def attic(lan: Lan) -> AsyncIterator[Node]:
    """Ran thumbnails of 64, 128 and 256, gave up on one job, and has one that nobody takes."""
    node = await lan.node(app, name="attic", queues={"main": {"retries": 0}})
    for size in (64, 128, 256):
        await lan.until((await node.submit("image/thumbnail", size=size)).result())
    await lan.until((await node.submit("image/broken")).wait())
    await node.submit("video/cut", size=256)
    async with Control(node):
        yield node


@pytest.fixture
async def client(attic: Node) -> AsyncIterator[Client]:
    async with connect(attic.data_dir.path) as client:
        yield client


@pytest.fixture
def offload(attic: Node, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command that works; return what it prints."""

    async def command(*args: str) -> str:
        place = str(attic.data_dir.path)
        assert await asyncio.to_thread(shell.run, [*args, "--data-dir", place]) == 0
        return capsys.readouterr().out

    return command


class TestAClient:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ({}, 5),
            ({"where": ["size>=128"]}, 3),
            ({"where": {"size": 256}, "topic": "image/*"}, 1),
            ({"where": [("size", "=", 64), "size=256"], "match": "any"}, 3),
            ({"states": "history"}, 4),
            ({"states": ["queued", "given_up"]}, 2),
            ({"since": "1d", "until": datetime(2000, 1, 1, tzinfo=UTC)}, 0),
            ({"since": 0.0}, 5),
            ({"worker": "attic"}, 4),
            ({"origin": "attic", "queue": "main"}, 5),
        ],
    )
    async def test_finds_and_counts(
        self, client: Client, query: dict[str, Any], expected: int
    ) -> None:
        assert len(await client.jobs(**query)) == expected
        assert len(await client.find(**query)) == expected
        assert await client.count(**query) == expected

    async def test_is_told_what_it_asked_wrongly(self, client: Client) -> None:
        with pytest.raises(UsageError, match="no condition"):
            await client.jobs(where="size")
        with pytest.raises(UsageError, match=r"since: .* is no moment"):
            await client.jobs(since=1e30)
        with pytest.raises(UsageError, match="no instance"):
            await client.count(worker="cellar")

    async def test_requeues_and_changes_priorities(self, client: Client) -> None:
        [given_up] = await client.find(states=["given_up"])
        assert (await client.requeue(given_up.id)).id == given_up.id
        [waiting] = await client.find(topic="video/*")
        await client.set_priority(waiting.id, 7)
        assert (await waiting.info())["priority"] == 7
        [done] = await client.find(where="size=64")
        with pytest.raises(Refused, match="succeeded"):
            await client.requeue(done.id)

    async def test_hears_what_happens(self, client: Client, attic: Node, lan: Lan) -> None:
        events = client.events("image/*")
        first = asyncio.ensure_future(anext(events))
        while not first.done():
            await attic.submit("video/cut")
            await attic.submit("image/thumbnail")
            await asyncio.wait([first], timeout=0.05)
        event = first.result()
        assert (event["kind"], event["topic"]) == ("added", "image/thumbnail")
        await events.aclose()  # type: ignore[attr-defined]

    async def test_without_asyncio_does_the_same(self, attic: Node) -> None:
        def program() -> tuple[int, int, int]:
            with sync.connect(attic.data_dir.path) as client:
                done = client.find(states="succeeded")
                finished = client.statistics()["total"]["finished"]
                return len(done), client.count(states="live"), finished

        assert await asyncio.to_thread(program) == (3, 1, 3)


class TestTheCommand:
    async def test_jobs_finds(self, offload: Command) -> None:
        args = (
            "--where",
            "size>=128",
            "--state",
            "history",
            "--topic",
            "image/**",
            "--since",
            "2h",
        )
        found = json.loads(await offload("jobs", *args, "--worker", "attic", "--json"))
        assert [job["topic"] for job in found] == ["image/thumbnail"] * 2

    async def test_jobs_counts(self, offload: Command) -> None:
        args = ("--where", "size=64", "--where", "size=256")
        assert await offload("jobs", *args, "--any", "--count") == "3\n"
        assert json.loads(await offload("jobs", *args, "--count", "--json")) == {"count": 0}

    async def test_jobs_turns_pages(self, offload: Command) -> None:
        page = json.loads(await offload("jobs", "-n", "2", "--json"))
        rest = json.loads(await offload("jobs", "--before", str(page[-1]["seq"]), "--json"))
        assert (len(page), len(rest)) == (2, 3)

    async def test_jobs_says_where_the_next_page_begins(self, offload: Command) -> None:
        columns, *page = (await offload("jobs", "-n", "2")).splitlines()
        place = columns.index("SEQ")
        rest = await offload("jobs", "--before", page[-1][place:].split()[0])
        assert len(rest.splitlines()) == 1 + 3

    async def test_job_changes_what_becomes_of_it(self, offload: Command, client: Client) -> None:
        [given_up] = await client.find(states=["given_up"])
        [waiting] = await client.find(topic="video/*")
        assert await offload("job", "requeue", given_up.id) == "queued\n"
        assert await offload("job", "priority", waiting.id, "3") == "priority 3\n"
        assert await offload("job", "priority", waiting.id, "-5") == "priority -5\n"

    async def test_statistics_shows_and_resets(self, offload: Command) -> None:
        lines = (await offload("statistics")).splitlines()
        assert lines[1].split()[:6] == ["all", "1", "0", "3", "0", "1"]
        found = json.loads(await offload("statistics", "--reset", "--json"))
        assert (found["total"]["finished"], found["total"]["queued"]) == (0, 1)
