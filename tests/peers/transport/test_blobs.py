"""Blobs beside the link: streamed, verified, resumed, never visible half (G38)."""

import asyncio
import hashlib
import os
import resource
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from offload.errors import BlobMismatch, BlobMissing, DiskFull, PeerUnreachable
from offload.peers.transport import Timing, bulk
from offload.peers.transport.giving import give

MIB = 1 << 20
IMPATIENT = Timing(stall_s=0.5, push_s=0.5)


class TestABlob:
    @pytest.mark.parametrize("size", [0, 1, MIB, 5 * MIB + 7])
    async def test_comes_from_the_side_that_was_dialled(self, lan: Any, size: int) -> None:
        ada, bob = await lan.pair()
        digest, _ = bob.blobs.put(lan.file(size))
        await ada.transport.fetch("bob", digest, size)
        assert ada.blobs.path(digest).read_bytes() == bob.blobs.path(digest).read_bytes()

    @pytest.mark.parametrize("size", [0, 1, MIB, 5 * MIB + 7])
    async def test_comes_from_the_side_that_dialled(self, lan: Any, size: int) -> None:
        ada, bob = await lan.pair()
        digest, _ = ada.blobs.put(lan.file(size))
        await bob.transport.fetch("ada", digest, size)
        assert ada.blobs.path(digest).read_bytes() == bob.blobs.path(digest).read_bytes()

    async def test_that_is_here_is_not_fetched(self, lan: Any) -> None:
        ada = await lan.start("ada")
        digest = ada.blobs.put_bytes(b"here")
        await ada.transport.fetch("nobody", digest, 4)

    async def test_is_fetched_once_by_all_who_want_it(self, lan: Any) -> None:
        ada, bob = await lan.pair()
        digest, size = bob.blobs.put(lan.file(3 * MIB))
        seen = count_gets(bob)
        await asyncio.gather(*(ada.transport.fetch("bob", digest, size) for _ in range(10)))
        assert seen == [digest]

    async def test_goes_on_arriving_when_one_of_two_no_longer_wants_it(self, lan: Any) -> None:
        ada, bob = await lan.pair()
        digest, size = bob.blobs.put(lan.file(8 * MIB))
        first = asyncio.create_task(ada.transport.fetch("bob", digest, size))
        second = asyncio.create_task(ada.transport.fetch("bob", digest, size))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert ada.blobs.has(digest)

    @pytest.mark.parametrize("dialler", [True, False], ids=["get", "put"])
    async def test_can_be_fetched_again_after_nobody_wanted_it_any_more(
        self, lan: Any, until: Any, dialler: bool
    ) -> None:
        here, there = await lan.pair()
        if not dialler:
            here, there = there, here
        digest, size = there.blobs.put(lan.file(32 * MIB))
        fetch = asyncio.create_task(here.transport.fetch(there.id, digest, size))
        await until(lambda: here.blobs.usage() > 0)
        fetch.cancel()
        await here.transport.fetch(there.id, digest, size)
        assert here.blobs.has(digest)

    async def test_delays_no_frames(self, lan: Any, until: Any) -> None:
        ada, bob = await lan.pair()
        digest, size = bob.blobs.put(lan.file(64 * MIB))
        fetch = asyncio.create_task(ada.transport.fetch("bob", digest, size))
        await until(lambda: ada.blobs.usage() > 0)
        ada.transport.send("bob", "beat", {})
        await until(lambda: bob.frames)
        assert not fetch.done()
        await fetch

    async def test_of_any_size_needs_little_memory(self, lan: Any) -> None:
        ada, bob = await lan.pair()
        for here, there in ((ada, bob), (bob, ada)):
            digest, size = there.blobs.put(lan.file(96 * MIB))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            await here.transport.fetch(there.id, digest, size)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert (after - before) / 1024 < 64


def count_gets(instance: Any) -> list[str]:
    seen: list[str] = []
    serve = instance.transport._server._get
    path = instance.blobs.path

    def noted(sha256: str) -> Any:
        seen.append(sha256)
        return path(sha256)

    assert serve is not None
    instance.blobs.path = noted
    return seen


class TestABlobThatCannotCome:
    @pytest.mark.parametrize("dialler", [True, False], ids=["get", "put"])
    async def test_because_the_peer_has_none_is_missing(self, lan: Any, dialler: bool) -> None:
        here, there = await lan.pair()
        if not dialler:
            here, there = there, here
        with pytest.raises(BlobMissing):
            await here.transport.fetch(there.id, "ab" * 32, 10)

    async def test_because_there_is_no_link_is_unreachable(self, lan: Any) -> None:
        ada = await lan.start("ada")
        with pytest.raises(PeerUnreachable):
            await ada.transport.fetch("bob", "ab" * 32, 10)

    async def test_because_the_link_ends_is_unreachable(self, lan: Any) -> None:
        ada, bob = await lan.pair()
        bob.transport._own["want"] = lambda _link, _frames: None  # it never answers
        ada.transport._own["want"] = bob.transport._own["want"]
        fetch = asyncio.create_task(bob.transport.fetch("ada", "ab" * 32, 10))
        await asyncio.sleep(0)
        ada.transport.drop("bob", "test")
        with pytest.raises(PeerUnreachable):
            await fetch

    async def test_because_the_disk_is_full_says_so(
        self, lan: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for here, there in (await lan.pair(), reversed(await lan.pair())):
            digest, size = there.blobs.put(lan.file(MIB))
            make_full(monkeypatch, here)
            with pytest.raises(DiskFull):
                await here.transport.fetch(there.id, digest, size)

    @pytest.mark.parametrize("dialler", [True, False], ids=["get", "put"])
    async def test_because_its_content_was_changed_is_refused(
        self, lan: Any, dialler: bool
    ) -> None:
        here, there = await lan.pair()
        if not dialler:
            here, there = there, here
        digest, size = there.blobs.put(lan.file(2 * MIB))
        there.blobs.path(digest).chmod(0o600)
        there.blobs.path(digest).write_bytes(os.urandom(size))
        with pytest.raises(BlobMismatch):
            await here.transport.fetch(there.id, digest, size)
        assert not here.blobs.has(digest)
        assert here.blobs.usage() == 0

    async def test_because_its_size_is_another_is_refused(self, lan: Any) -> None:
        ada, bob = await lan.pair()
        digest, size = bob.blobs.put(lan.file(MIB))
        with pytest.raises(BlobMismatch):
            await ada.transport.fetch("bob", digest, size - 1)
        digest, size = ada.blobs.put(lan.file(MIB + 1))
        with pytest.raises(BlobMissing):
            await bob.transport.fetch("ada", digest, size - 1)


def make_full(monkeypatch: pytest.MonkeyPatch, instance: Any) -> None:
    incoming = instance.blobs.incoming

    def full(sha256: str, size: int) -> Any:
        arriving = incoming(sha256, size)

        def write(*_chunks: bytes) -> None:
            raise DiskFull

        arriving.write = write
        return arriving

    monkeypatch.setattr(instance.blobs, "incoming", full)


class Cutter:
    """A relay that cuts the first connection of blobs after ``after`` bytes have passed."""

    def __init__(self, port: int, after: int) -> None:
        self._port, self._left = port, after
        self.passed = 0
        self.cuts = 0

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: Any, writer: Any) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        writers = (writer, back)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, back, writers))
                group.create_task(self._pump(there, writer, writers))
        finally:
            for end in writers:
                end.close()

    async def _pump(self, source: Any, target: Any, writers: Any) -> None:
        try:
            while data := await source.read(65536):
                if len(data) > 1000:
                    self.passed += len(data)
                target.write(data)
                await target.drain()
                if not self.cuts and self.passed >= self._left:
                    self.cuts += 1
                    raise ConnectionResetError
        except ConnectionError:
            pass
        for end in writers:
            end.transport.abort()


class TestATransferThatIsCut:
    @pytest.mark.parametrize("dialler", [True, False], ids=["get", "put"])
    async def test_goes_on_where_it_was(self, lan: Any, until: Any, dialler: bool) -> None:
        """G38: at most 1 MiB is sent again."""
        ada, bob = await lan.start("ada"), await lan.start("bob")
        size = 16 * MIB
        cutter = Cutter(bob.transport.port, size // 2)
        port = await cutter.start()
        await ada.transport.dial("127.0.0.1", port)
        await until(lambda: bob.linked(ada))
        here, there = (ada, bob) if dialler else (bob, ada)
        digest, _ = there.blobs.put(lan.file(size))
        await here.transport.fetch(there.id, digest, size)
        assert cutter.cuts == 1
        assert here.blobs.has(digest)
        assert cutter.passed < size + 3 * MIB  # what the sockets held is lost on top
        await lan.stop()
        await cutter.stop()


class Want:
    """``ada`` wants a blob of ``bob``, who dialled her and lets us put it by hand."""

    def __init__(self, ada: Any, data: bytes) -> None:
        self.ada, self.data = ada, data
        self.digest = hashlib.sha256(data).hexdigest()
        self.fetch = asyncio.create_task(ada.transport.fetch("bob", self.digest, len(data)))

    async def put(self, data: bytes, start: int = 0, **headers: str) -> tuple[int, str]:
        size = len(self.data)
        given = {"Content-Range": f"bytes {start}-{size - 1}/{size}"} | headers
        url = f"http://127.0.0.1:{self.ada.transport.port}/offload/blobs/{self.digest}"
        async with (
            aiohttp.ClientSession() as session,
            session.put(url, data=data, headers=given) as response,
        ):
            return response.status, response.headers.get("Offload-Offset", "")


@pytest.fixture
async def wanted(lan: Any, until: Any) -> Want:
    bob, ada = await lan.start("bob"), await lan.start("ada", timing=IMPATIENT)
    bob.transport._own["want"] = lambda _link, _frames: None
    await bob.dial(ada)
    await until(lambda: ada.linked(bob))
    want = Want(ada, os.urandom(200_000))
    await until(lambda: ada.transport._bulk._wants)
    return want


class TestAPutByHand:
    async def test_of_all_of_it_is_created(self, wanted: Want) -> None:
        assert (await wanted.put(wanted.data))[0] == 201
        await wanted.fetch
        assert wanted.ada.blobs.path(wanted.digest).read_bytes() == wanted.data

    async def test_of_other_content_is_unprocessable(self, wanted: Want) -> None:
        assert (await wanted.put(bytes(200_000)))[0] == 422
        with pytest.raises(BlobMismatch):
            await wanted.fetch
        assert wanted.ada.blobs.usage() == 0

    @pytest.mark.parametrize(
        ("data", "content_range", "status"),
        [
            (b"x" * 10, "bytes 0-9/10", 400),
            (b"x" * 10, "bytes 0-9/200000", 400),
            (b"x" * 200_001, "bytes 0-200000/200001", 413),
            (b"x" * 200_001, "bytes 0-199999/200000", 413),
            (b"x" * 10, "bytes 199990-199999/200000", 409),
            (b"x", "everything", 400),
            (b"x", "bytes 5-4/200000", 400),
        ],
        ids=["short", "part", "long", "longer than it says", "later", "words", "backwards"],
    )
    async def test_of_a_wrong_range_is_refused(
        self, wanted: Want, data: bytes, content_range: str, status: int
    ) -> None:
        assert (await wanted.put(data, **{"Content-Range": content_range}))[0] == status
        assert not wanted.ada.blobs.has(wanted.digest)
        wanted.fetch.cancel()

    async def test_that_goes_on_where_nothing_is_is_told_the_offset(self, wanted: Want) -> None:
        assert await wanted.put(wanted.data[5:], start=5) == (409, "0")
        wanted.fetch.cancel()

    async def test_that_dawdles_is_ended(self, wanted: Want, until: Callable[..., Any]) -> None:
        """G35: a slow body."""
        size = len(wanted.data)
        reader, writer = await asyncio.open_connection("127.0.0.1", wanted.ada.transport.port)
        writer.write(
            f"PUT /offload/blobs/{wanted.digest} HTTP/1.1\r\nHost: x\r\n"
            f"Content-Range: bytes 0-{size - 1}/{size}\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        async with asyncio.timeout(5):
            assert b"408" in await reader.readline()
        writer.close()
        wanted.fetch.cancel()

    async def test_that_is_slow_but_steady_is_ended_too(
        self, wanted: Want, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """G35: it never stalls, and has no more time than its size needs."""
        monkeypatch.setattr(bulk, "patience_s", lambda _size, _least_s: 0.2)
        monkeypatch.setattr(bulk, "LEAST_BYTES", 1)
        size = len(wanted.data)
        reader, writer = await asyncio.open_connection("127.0.0.1", wanted.ada.transport.port)
        writer.write(
            f"PUT /offload/blobs/{wanted.digest} HTTP/1.1\r\nHost: x\r\n"
            f"Content-Range: bytes 0-{size - 1}/{size}\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        answer = asyncio.ensure_future(reader.readline())
        async with asyncio.timeout(5):
            while not answer.done():
                writer.write(b"x")
                await asyncio.sleep(0.02)
        assert b"408" in answer.result()
        writer.close()
        wanted.fetch.cancel()


def test_a_body_has_as_long_as_its_size_needs_on_a_slow_line() -> None:
    assert bulk.patience_s(0, 30.0) == 30.0
    assert bulk.patience_s(64 * 1024 * 60, 30.0) == 90.0


class TestABlobThatSeveralHave:
    """Workers fetch from one another when the origin is slow, has it no more, or is gone."""

    async def three(self, lan: Any, dialler: bool, size: int) -> tuple[Any, Any, Any, str]:
        """``cleo`` wants what ``ada`` should have, and ``bob`` has."""
        timing = Timing(stall_s=0.5, slow_s=0.2, push_s=0.5)
        ada, bob = await lan.start("ada", timing=timing), await lan.start("bob", timing=timing)
        cleo = await lan.start("cleo", timing=timing)
        for other in (ada, bob):
            await (cleo.dial(other) if dialler else other.dial(cleo))
        digest, _ = bob.blobs.put(lan.file(size))
        return ada, bob, cleo, digest

    @pytest.mark.parametrize("dialler", [True, False], ids=["get", "put"])
    async def test_comes_from_another_when_its_holder_has_it_no_more(
        self, lan: Any, until: Any, dialler: bool
    ) -> None:
        _, _, cleo, digest = await self.three(lan, dialler, 2 * MIB)
        await until(lambda: len(cleo.links()) == 2)
        await cleo.transport.fetch("ada", digest, 2 * MIB)
        assert cleo.blobs.has(digest)

    @pytest.mark.parametrize("dialler", [True, False], ids=["get", "put"])
    async def test_comes_from_another_when_its_holder_is_gone(
        self, lan: Any, until: Any, dialler: bool
    ) -> None:
        ada, _, cleo, digest = await self.three(lan, dialler, 2 * MIB)
        await ada.stop()
        await until(lambda: list(cleo.links()) == ["bob"])
        await cleo.transport.fetch("ada", digest, 2 * MIB)
        assert cleo.blobs.has(digest)

    async def test_goes_on_from_another_when_its_holder_falls_silent(
        self, lan: Any, until: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ada, bob, cleo, digest = await self.three(lan, True, 8 * MIB)
        ada.blobs.put(bob.blobs.path(digest))

        over, ended = asyncio.Event(), asyncio.Event()

        async def two_chunks_and_silence(read: Any) -> Any:
            yield read(MIB)
            yield read(MIB)
            await over.wait()
            ended.set()

        monkeypatch.setattr(ada.transport._bulk, "_chunks", two_chunks_and_silence)
        seen: list[str] = []
        pull = cleo.transport._bulk._pull

        async def noted(link: Any, want: Any) -> None:
            seen.append(f"{link.peer} from {want.incoming.offset // MIB}")
            await pull(link, want)

        monkeypatch.setattr(cleo.transport._bulk, "_pull", noted)
        monkeypatch.setattr("offload.peers.transport.bulk.proven_by", lambda _: "somebody")
        await cleo.transport.fetch("ada", digest, 8 * MIB)
        assert seen == ["ada from 0", "bob from 2"]
        over.set()
        await until(ended.is_set)

    async def test_goes_on_from_another_when_its_holder_is_slow(
        self, lan: Any, until: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ada, bob, cleo, digest = await self.three(lan, True, 8 * MIB)
        ada.blobs.put(bob.blobs.path(digest))

        async def slowly(read: Any) -> Any:
            while chunk := read(MIB // 16):
                yield chunk
                await asyncio.sleep(1)

        monkeypatch.setattr(ada.transport._bulk, "_chunks", slowly)
        monkeypatch.setattr("offload.peers.transport.bulk.proven_by", lambda _: "somebody")
        monkeypatch.setattr("offload.peers.transport.bulk.CHUNK_BYTES", MIB // 16)
        seen, open_answers = count_gets(bob), []

        async def noted(*arguments: Any, **named: Any) -> Any:
            open_answers.append(1)
            try:
                return await give(*arguments, **named)
            finally:
                open_answers.pop()

        monkeypatch.setattr("offload.peers.transport.bulk.give", noted)
        await cleo.transport.fetch("ada", digest, 8 * MIB)  # from ada alone it would take minutes
        assert digest in seen
        await until(lambda: not open_answers)

    async def test_that_only_its_slow_holder_has_is_waited_for(
        self, lan: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ada, _, cleo, _ = await self.three(lan, True, 1)
        digest, size = ada.blobs.put(lan.file(MIB))

        async def slowly(read: Any) -> Any:
            while chunk := read(MIB // 16):
                yield chunk
                await asyncio.sleep(0.1)

        monkeypatch.setattr(ada.transport._bulk, "_chunks", slowly)
        monkeypatch.setattr("offload.peers.transport.bulk.proven_by", lambda _: "somebody")
        monkeypatch.setattr("offload.peers.transport.bulk.CHUNK_BYTES", MIB // 16)
        await cleo.transport.fetch("ada", digest, size)
        assert cleo.blobs.has(digest)

    async def test_that_nobody_has_is_missing(self, lan: Any) -> None:
        _, _, cleo, _ = await self.three(lan, True, 1)
        with pytest.raises(BlobMissing):
            await cleo.transport.fetch("ada", "ab" * 32, 10)
