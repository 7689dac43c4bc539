"""The door under siege (C116, G36): silent connections are few, short and cheap."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from typing import Any

import pytest

from offload.peers.identity import server_name
from offload.peers.transport import entrance
from offload.peers.transport.crowd import OF_ONE
from offload.peers.transport.server import OF_ONE_PEER

ATTACKER = "127.0.0.2"


class Outsider:
    """Somebody at an address of its own, who opens connections and says nothing."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def besiege(self, count: int) -> None:
        for _ in range(count):
            with suppress(OSError):
                self.open.append(
                    await asyncio.open_connection("127.0.0.1", self._port, local_addr=(ATTACKER, 0))
                )

    async def left(self) -> int:
        """Return how many of its connections nobody has ended."""
        return sum([not await self._ended(reader) for reader, _ in self.open])

    async def _ended(self, reader: asyncio.StreamReader) -> bool:
        try:
            async with asyncio.timeout(0.02):
                return await reader.read(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    async def close(self) -> None:
        for _, writer in self.open:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@pytest.fixture
async def ada(lan: Any) -> Any:
    return await lan.member("ada")


@pytest.fixture
async def outsider(ada: Any) -> AsyncIterator[Outsider]:
    outsider = Outsider(ada.transport.port)
    yield outsider
    await outsider.close()


class TestSilentConnections:
    async def test_of_one_address_are_few(self, ada: Any, outsider: Outsider) -> None:
        await outsider.besiege(OF_ONE + 20)
        assert await outsider.left() <= OF_ONE

    async def test_keep_no_member_out(self, lan: Any, ada: Any, outsider: Outsider) -> None:
        bob = await lan.member("bob")
        await outsider.besiege(300)
        assert await bob.dial(ada, ada.id) == ada.id

    async def test_are_ended_soon(
        self, ada: Any, outsider: Outsider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(entrance, "HANDSHAKE_S", 0.2)
        await outsider.besiege(5)
        async with asyncio.timeout(5):
            while await outsider.left():
                await asyncio.sleep(0.01)

    async def test_make_one_line_in_the_log(
        self, ada: Any, outsider: Outsider, caplog: pytest.LogCaptureFixture
    ) -> None:
        await outsider.besiege(OF_ONE + 50)
        told = [r for r in caplog.records if r.levelno >= logging.INFO]
        assert [r.levelname for r in told] == ["WARNING"]
        assert ATTACKER in told[0].getMessage()

    async def test_are_few_where_links_are_plain(self, lan: Any) -> None:
        plain = await lan.start("plain")
        outsider = Outsider(plain.transport.port)
        await outsider.besiege(OF_ONE + 20)
        assert await outsider.left() <= OF_ONE
        other = await lan.start("other")
        await other.dial(plain)
        await outsider.close()

    async def test_that_wait_when_it_ends_end_with_it(self, ada: Any, outsider: Outsider) -> None:
        await outsider.besiege(5)
        await ada.stop()
        assert await outsider.left() == 0


class TestAMember:
    async def test_has_so_many_connections_and_no_more(
        self, lan: Any, ada: Any, until: Callable[..., Any]
    ) -> None:
        """Bounds hold per peer too, after the handshake."""
        bob = await lan.member("bob")
        ours, name = bob.credentials.client, server_name(ada.id)
        opened = [
            await asyncio.open_connection(
                "127.0.0.1", ada.transport.port, ssl=ours, server_hostname=name
            )
            for _ in range(OF_ONE_PEER + 8)
        ]
        runner = ada.transport._server._runner
        await until(lambda: len(runner.server.connections) <= OF_ONE_PEER)
        for _, writer in opened:
            writer.transport.abort()


class TestAPortOfAnEntrance:
    async def test_is_free_at_once_when_it_is_closed(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        door = entrance.Entrance(asyncio.Protocol)
        await door.open(listening)
        await door.close()
        with closing(socket.create_server(("127.0.0.1", port))) as again:
            assert again.getsockname()[1] == port
