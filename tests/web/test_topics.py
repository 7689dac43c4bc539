"""Topics switched from outside: by commands, by the client, without asyncio; with real nodes."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from offload import App, Node, sync
from offload.cli import shell
from offload.client import connect
from offload.errors import Refused, UsageError
from offload.testing import Lan
from offload.web.control import Control

Command = Callable[..., Awaitable[int]]


@pytest.fixture
async def peer(lan: Lan) -> Node:
    """Takes ``image/*`` and ``mail``."""
    app = App()

    @app.consumer("image/*", version="2")
    @app.consumer("mail")
    async def work() -> None:
        return None

    return await lan.node(app, name="peer")


@pytest.fixture
async def node(lan: Lan, peer: Node) -> AsyncIterator[Node]:
    """Hands out jobs; it is asked to switch topics of ``peer``."""
    await lan.clock.advance(5)  # so it comes after
    node = await lan.node(name="desk")
    async with Control(node):
        yield node


@pytest.fixture
def offload(node: Node) -> Command:
    async def command(*args: str) -> int:
        return await asyncio.to_thread(shell.run, [*args, "--data-dir", str(node.data_dir.path)])

    return command


class TestTheCommands:
    async def test_show_who_runs_what(
        self, offload: Command, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("topics", "disable", "mail", "--on", "peer") == 0
        assert capsys.readouterr().out == "disabled on peer\n"
        assert await offload("topics") == 0
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert rows == [
            ["TOPIC", "peer", "desk", "(own)"],
            ["image/*", "yes", "(2)", "-"],
            ["mail", "disabled", "-"],
        ]

    async def test_have_the_same_as_json(
        self, offload: Command, peer: Node, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await offload("topics", "list", "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert [i["name"] for i in found["instances"]] == ["peer", "desk"]
        cell = {"state": "enabled", "queue": "main", "version": "2"}
        assert found["topics"][0]["topic"] == "image/*"
        assert found["topics"][0]["instances"][peer.id] == cell

    async def test_switch_several_on_another(self, offload: Command, peer: Node) -> None:
        assert await offload("topics", "only", "mail", "--on", peer.id[:6]) == 0
        assert [pattern for pattern, _ in peer.topology.own.capabilities] == ["mail"]
        assert await offload("topics", "enable", "image/x", "--on", "peer") == 0
        assert peer.topology.own.takes("image/x")
        assert await offload("topics", "reset", "--on", "peer") == 0
        assert peer.topology.own.takes("image/y")

    @pytest.mark.parametrize(
        ("args", "code", "words"),
        [
            (("disable", "mail", "--on", "attic"), 2, "'attic' is no instance"),
            (("disable", "mial", "--on", "peer"), 1, "peer: has no consumer for mial"),
            (("disable", "mail"), 1, "desk: has no consumer for mail"),
            (("enable", "a//b"), 2, "empty part"),
            (("disable", "mail", "--on", ""), 2, "--on: '' names no instance"),
        ],
        ids=str,
    )
    async def test_say_why_not(
        self,
        args: tuple[str, ...],
        code: int,
        words: str,
        offload: Command,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert await offload("topics", *args) == code
        assert words in capsys.readouterr().err


async def test_the_client_has_the_same_verbs(node: Node, peer: Node) -> None:
    async with connect(node.data_dir.path) as client:
        await client.topics.disable("mail", on="peer")
        assert not peer.topology.own.takes("mail")
        await client.topics.enable("mail", on="peer")
        await client.topics.only("mail", on="peer")
        assert not peer.topology.own.takes("image/x")
        await client.topics.reset(on="peer")
        assert len((await client.topics.all())["topics"]) == 2
        with pytest.raises(Refused, match="no consumer"):
            await client.topics.disable("x", on="peer")
        with pytest.raises(UsageError, match="is none of enable"):
            await client._ask("POST", "/api/topics/explode", body={})
        with pytest.raises(UsageError, match="is no text"):
            await client._ask("POST", "/api/topics/enable", body={"topics": [7]})


async def test_so_has_a_program_without_asyncio(node: Node, peer: Node) -> None:
    def program() -> list[str]:
        with sync.connect(node.data_dir.path) as client:
            client.topics.disable("mail", on="peer")
            client.topics.enable("mail", on="peer")
            client.topics.only("mail", on="peer")
            states = [line["instances"][peer.id]["state"] for line in client.topics.all()["topics"]]
            client.topics.reset(on="peer")
            return states

    assert await asyncio.to_thread(program) == ["disabled", "enabled"]
    assert peer.topology.own.takes("image/x")
