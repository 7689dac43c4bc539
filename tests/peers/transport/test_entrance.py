"""The door under siege (C116, G36): silent connections are few, short and cheap."""

import asyncio
import logging
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
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


class Siege:
    """Somebody in a process of its own, who holds so many silent connections at once."""

    def __init__(self, port: int, count: int) -> None:
        self._words = [sys.executable, "-c", BESIEGE, ATTACKER, str(port), str(count)]

    async def __aenter__(self) -> asyncio.subprocess.Process:
        self._process = await asyncio.create_subprocess_exec(
            *self._words, stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"all\n"
        return self._process

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.wait()


BESIEGE = """
import resource, socket, sys, time
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held, told = [], False
while True:
    while len(held) < count:
        one = socket.socket()
        one.bind((host, 0))
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
        held.append(one)
    if not told:
        told = True
        print("all", flush=True)
    time.sleep(0.1)
    alive = []
    for one in held:
        try:
            ended = one.recv(1) == b""
        except BlockingIOError:
            ended = False
        except OSError:
            ended = True
        one.close() if ended else alive.append(one)
    held = alive
"""


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class TestAnInstanceThatMayOpen512Files:
    @pytest.fixture
    def few(self) -> Iterator[int]:
        """The limit of this process, in which the instances of the test live."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        yield 512
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    async def test_keeps_its_links_and_takes_new_ones_beside_1500_that_are_silent(
        self, few: int, lan: Any, until: Callable[..., Any]
    ) -> None:
        """G36: p95 of 0.5 s where nothing else runs; it was 7 s when they used up what there is."""
        ada, bob, cleo = [await lan.member(name) for name in ("ada", "bob", "cleo")]
        await bob.dial(ada, ada.id)
        before = descriptors()
        took_s: list[float] = []
        async with Siege(ada.transport.port, 1500):
            for _ in range(20):
                begun = time.monotonic()
                assert await cleo.dial(ada, ada.id) == ada.id
                took_s.append(time.monotonic() - begun)
                assert descriptors() < before + few // 4 + 20
                cleo.transport.drop(ada.id, "again")
                await until(lambda: not cleo.transport.peers())
        assert sorted(took_s)[18] < 5
        assert ada.transport._server._entrance.turned_away > 100
        assert not [down for down in ada.downs if down.peer == bob.id]


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
