"""Bad HTTP at the door (G32-G35): refused fast, in few words, without a traceback."""

import asyncio
import gzip
import logging
import os
from typing import Any

import aiohttp
import pytest

from offload.peers.identity import server_name

BLOB = b"/offload/blobs/" + b"ab" * 32
HEAD = b"PUT " + BLOB + b" HTTP/1.1\r\nHost: x\r\n"
RAW = {
    "2 MiB that nobody asked for": (
        b"POST /offload/link HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n"
        + b"a" * 2_097_152,
        b"413",
    ),
    "a body on a GET": (
        b"GET " + BLOB + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        b"413",
    ),
    "a chunked body": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"403",
    ),
    "both lengths": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"400",
    ),
    "two lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", b"400"),
    "a negative length": (HEAD + b"Content-Length: -1\r\n\r\n", b"400"),
    "a header of 100 kB": (HEAD + b"X: " + b"a" * 100_000 + b"\r\n\r\n", b"400"),
    "10 000 headers": (HEAD + b"".join(b"X%d: a\r\n" % i for i in range(10_000)), b"400"),
    "a request line of 1 MB": (b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n", b"400"),
    "a NUL in a header": (HEAD + b"X: a\0b\r\n\r\n", b"400"),
    "random bytes": (b"\xff" + os.urandom(4096), b"400"),
    "TLS": (bytes.fromhex("16030100a5010000a10303") + os.urandom(150), b"400"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    "a path upwards": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
    "no digest": (b"GET /offload/blobs/..%2fx HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    "a digest in capitals": (
        b"GET /offload/blobs/" + b"AB" * 32 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"400",
    ),
    "a blob that is not here": (b"GET " + BLOB + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
    "a browser": (
        b"GET " + BLOB + b" HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n\r\n",
        b"403",
    ),
    "a link without a WebSocket": (b"GET /offload/link HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
    "a link of another protocol": (
        (
            b"GET /offload/link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Protocol: chat\r\n\r\n"
        ),
        b"400",
    ),
}


async def ask(port: int, data: bytes, within_s: float = 5.0, **tls: Any) -> bytes:
    """Send raw bytes; return the first line of the answer, b"" if the connection was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **tls)
    try:
        async with asyncio.timeout(within_s):
            writer.write(data)
            try:
                return await reader.readline()
            except ConnectionError:
                return b""
    finally:
        writer.close()


class TestARequestThatIsWrong:
    @pytest.mark.parametrize(("data", "status"), RAW.values(), ids=RAW)
    async def test_is_refused_at_once_and_the_next_one_served(
        self, lan: Any, data: bytes, status: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        ada = await lan.start("ada")
        digest = ada.blobs.put_bytes(b"content")
        answer = await ask(ada.transport.port, data)  # which waits for no timeout of the server's
        assert status in answer or not answer
        good = f"GET /offload/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        assert b"200" in await ask(ada.transport.port, good)
        assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []

    async def test_that_is_no_http_is_counted(self, lan: Any) -> None:
        ada = await lan.start("ada")
        await ask(ada.transport.port, b"\xff\xff\r\n\r\n")
        await ask(ada.transport.port, HEAD + b"Content-Length: -1\r\n\r\n")
        assert ada.transport._server.malformed == 2


class TestAMemberThatSendsThem:
    async def test_is_answered_likewise_and_served_afterwards(
        self, lan: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """G33: over mutual TLS, all to one instance."""
        ada, eve = await lan.member("ada"), await lan.member("eve")
        digest = ada.blobs.put_bytes(b"content")
        proven = {"ssl": eve.credentials.client, "server_hostname": server_name(ada.id)}
        for name, (data, status) in RAW.items():
            answer = await ask(ada.transport.port, data, **proven)
            assert status in answer or not answer, name
        good = f"GET /offload/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        assert b"200" in await ask(ada.transport.port, good, **proven)
        assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


class TestACompressedBody:
    async def test_is_refused_before_it_is_unpacked(self, lan: Any) -> None:
        """G34: 200 KB that would be 200 MiB."""
        ada = await lan.start("ada")
        bomb = gzip.compress(bytes(20 << 20))
        head = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        assert b"415" in await ask(ada.transport.port, HEAD + head + bomb)


class TestSilence:
    @pytest.mark.parametrize("said", [b"", HEAD], ids=["nothing", "half a head"])
    async def test_ends_the_connection(self, lan: Any, said: bytes) -> None:
        """G35: 3 s and 5 s."""
        ada = await lan.start("ada")
        assert await ask(ada.transport.port, said, within_s=5.0) == b""


class TestAPutThatWasNotAskedFor:
    async def test_leaves_nothing(self, lan: Any) -> None:
        ada = await lan.start("ada")
        url = f"http://127.0.0.1:{ada.transport.port}{BLOB.decode()}"
        headers = {"Content-Range": "bytes 0-4/5"}
        async with (
            aiohttp.ClientSession() as session,
            session.put(url, data=b"hello", headers=headers) as response,
        ):
            assert response.status == 403
        assert ada.blobs.usage() == 0
