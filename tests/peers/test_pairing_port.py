"""The port of an open invitation, which whoever comes may speak to (C111, C116)."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from offload import codec
from offload.errors import JoinRefused
from offload.peers.identity import Group, Identity
from offload.peers.identity.pairing import Invitation, Request, Secret, Welcome
from offload.peers.pairing import Inviting, Tried, Where, join, joining
from offload.peers.pairing.inviting import BEGINS, JOIN_PATH

SPAKE_LENGTH = 33
BAD: dict[str, tuple[dict[str, str], bytes, int]] = {
    "random bytes": ({}, os.urandom(500), 400),
    "nothing": ({}, b"", 400),
    "no map": ({}, codec.pack([1, 2]), 400),
    "a map of other things": ({}, codec.pack({"id": 7, "message": "x"}), 400),
    "a name that is too long": ({}, codec.pack({"id": "a" * 65, "message": b"x"}), 400),
    "no message of SPAKE2": ({}, codec.pack({"id": "eve", "message": b"x" * SPAKE_LENGTH}), 400),
    "ten thousand maps": ({}, b"\xdc\x27\x10" + b"\x80" * 10_000, 413),
    "a claim of 4 GiB": ({}, b"\xc6\xff\xff\xff\xff", 400),
    "what is compressed": ({"Content-Encoding": "gzip"}, b"\x1f\x8b", 415),
    "a browser": ({"Origin": "http://evil.example"}, b"\x80", 403),
}


class Port:
    """An invitation that is open, its port, and what it has told."""

    def __init__(self, folder: Path) -> None:
        self.told: list[Tried] = []
        self.identity = Identity.load(folder / "ada")
        group = Group.create()
        self.group, _ = group.certify(self.identity.public, "ada")
        self.secret = Secret.code()
        invitation = Invitation(self.secret, self.identity.id, time.monotonic())
        self.inviting = Inviting(
            invitation,
            own_id=self.identity.id,
            admit=self._admit,
            listen=("127.0.0.1",),
            realm="test",
            interfaces=(),
            mdns=False,
            tell=self.told.append,
        )

    async def _admit(self, request: Request) -> Welcome:
        self.group, certificate = self.group.certify(request.public, request.name)
        return Welcome(self.group, certificate)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.inviting.port}{JOIN_PATH}"

    async def join(self, folder: Path, secret: Secret) -> Welcome:
        where = Where(f"127.0.0.1:{self.inviting.port}", ("127.0.0.1",), "test")
        return await join(Identity.load(folder / "bob"), "bob", secret, where, print)


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[Port]:
    port = Port(tmp_path)
    await port.inviting.open()
    yield port
    await port.inviting.close()


@pytest.fixture
async def post(port: Port) -> AsyncIterator[Callable[..., Awaitable[int]]]:
    async with aiohttp.ClientSession() as session:

        async def post(data: bytes, headers: dict[str, str] | None = None) -> int:
            async with session.post(port.url, data=data, headers=headers) as response:
                return response.status

        yield post


class TestRubbish:
    @pytest.mark.parametrize(("headers", "data", "status"), BAD.values(), ids=BAD)
    async def test_is_refused_and_costs_no_try(
        self,
        port: Port,
        post: Any,
        tmp_path: Path,
        headers: dict[str, str],
        data: bytes,
        status: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        assert await post(data, headers) == status
        assert port.told == []
        assert (await port.join(tmp_path, port.secret)).group.name == port.group.name
        assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


class TestSomebodyWhoTriesWithoutEnd:
    async def test_has_to_wait(self, post: Any) -> None:
        """What a try costs us, SPAKE2, is bounded per address and in time."""
        message = codec.pack({"id": "eve", "message": bytes(SPAKE_LENGTH)})
        statuses = [await post(message) for _ in range(int(BEGINS) + 5)]
        assert set(statuses[: int(BEGINS)]) == {400}
        assert 429 in statuses[int(BEGINS) :]

    async def test_closes_the_invitation_with_the_third_guess(
        self, port: Port, tmp_path: Path
    ) -> None:
        """G28."""
        wrong = [Secret(word) for word in (b"AAAAAA", b"BBBBBB", b"CCCCCC")]
        for secret in [*wrong, port.secret]:
            with pytest.raises(JoinRefused):
                await port.join(tmp_path, secret)
        assert [(t.kind, t.tries_left) for t in port.told] == [
            ("wrong", 2),
            ("wrong", 1),
            ("wrong", 0),
            ("closed", 0),
        ]


class TestFalseInviters:
    async def test_have_three_guesses_between_them_and_are_told_of(
        self, port: Port, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Four answer before the true one does, none of which knows the code."""
        warned: list[str] = []
        false = [Port(tmp_path / str(number)) for number in range(4)]

        async def inviters(_where: Where) -> AsyncIterator[list[tuple[str, int]]]:
            for one in [*false, port]:
                yield [("127.0.0.1", one.inviting.port)]

        monkeypatch.setattr(joining, "_inviters", inviters)
        for one in false:
            await one.inviting.open()
        try:
            with pytest.raises(JoinRefused):
                await join(
                    Identity.load(tmp_path / "bob"), "bob", port.secret, Where(), warned.append
                )
        finally:
            for one in false:
                await one.inviting.close()
        assert [len(one.told) for one in [*false, port]] == [1, 1, 1, 0, 0]
        assert warned[-1] == "three have answered that do not; nobody else is asked"


OK = b"HTTP/1.1 200 OK\r\n\r\n"
NONE: dict[str, bytes] = {
    "nothing": b"",
    "random bytes": os.urandom(3000),
    "no HTTP": codec.pack({"id": "a" * 26}),
    "a refusal": b"HTTP/1.1 403 Forbidden\r\n\r\n" + codec.pack({"id": "a" * 26}),
    "no end of the head": b"HTTP/1.1 200 OK\r\nA: b",
    "no MessagePack": OK + b"\xc1",
    "no map": OK + codec.pack([1]),
    "no id": OK + codec.pack({"id": 7}),
    "another id than one can be": OK + codec.pack({"id": "../../etc"}),
    "many maps": OK + b"\xdc\x27\x10" + b"\x80" * 10_000,
    "more than is read": OK + bytes(joining.ANSWER_LIMIT_BYTES + 1),
}


class TestWhatIsNoInviter:
    @pytest.mark.parametrize("said", NONE.values(), ids=NONE)
    async def test_takes_nobody_in_and_has_no_guess(self, said: bytes, tmp_path: Path) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            writer.close()

        warned: list[str] = []
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            where = Where(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            with pytest.raises(JoinRefused):
                await join(
                    Identity.load(tmp_path / "bob"), "bob", Secret.code(), where, warned.append
                )
        assert warned == []

    async def test_is_not_waited_for_without_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It sends a byte now and then."""
        monkeypatch.setattr(joining, "ANSWER_S", 0.3)
        ended = asyncio.Event()

        async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    writer.write(b"H")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            except ConnectionError:
                ended.set()

        async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
            where = Where(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            with pytest.raises(JoinRefused):
                await join(Identity.load(tmp_path / "bob"), "bob", Secret.code(), where, print)
            async with asyncio.timeout(10):
                await ended.wait()


class TestSilence:
    async def test_ends_the_connection(self, port: Port) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.inviting.port)
        async with asyncio.timeout(10):
            assert await reader.read(1) == b""
        writer.close()
