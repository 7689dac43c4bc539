"""
Blobs on the move: over HTTP beside the link, streamed, verified, resumed where they were cut.

The side that dialled the link pushes and pulls, because it is known to reach the other: it gets
with GET, and puts with PUT what the other has asked for by a ``want`` frame. Disk and digest are
worked on in threads, one chunk while the next one is on its way.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from io import SEEK_END, BufferedReader
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
from aiohttp import StreamReader, hdrs, web

from offload.errors import (
    BlobMismatch,
    BlobMissing,
    DiskFull,
    Malformed,
    OffloadError,
    PeerUnreachable,
    Refused,
)
from offload.peers.transport.giving import CONTENT, content_range, give
from offload.peers.transport.guard import patience_s
from offload.peers.transport.link import Link, proven_by
from offload.peers.transport.server import BLOB_PATH
from offload.peers.transport.sources import Sources, TooSlow
from offload.peers.transport.store import Arriving, BlobStore
from offload.tasks import Tasks

log = logging.getLogger(__name__)
T = TypeVar("T")
CHUNK_BYTES: Final = 1024 * 1024
LEAST_BYTES: Final = 64 * 1024  # of a chunk, in the time that one may take
THREADS: Final = 4
MAX_FETCHES: Final = 8
MAX_PUSHES: Final = 8
PUSHES_KEPT: Final = 64  # of one peer
OFFSET: Final = "Offload-Offset"
_CUT: Final = (aiohttp.ClientError, ConnectionError, TimeoutError, web.RequestPayloadError)


@dataclass(slots=True)
class _Want:
    """A blob that was asked for, and is to be got, or put here by a peer."""

    sources: Sources
    sha256: str
    size: int
    incoming: Arriving
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    busy: bool = False
    finished: bool = False
    error: OffloadError | OSError | None = None

    @property
    def peer(self) -> str:
        """Who is asked for it now."""
        return self.sources.current

    @property
    def complete(self) -> bool:
        """Whether all its bytes are here, verified or not."""
        return self.incoming.offset == self.size


@dataclass(slots=True)
class _Fetch:
    """One transfer that several may wait for."""

    peer: str
    task: asyncio.Task[Exception | None]
    waiters: int = 0


class Bulk:
    """
    Moves blobs between this instance and its linked peers.

    Args:
        blobs: Where they are kept.
        link: The link to a peer, or None.
        send: Sends a frame to a peer; False if it can't.
        tasks: The owner of what runs in the background.
        stall_s: A chunk that takes longer ends the try.
        slow_s: A source that brings little in this makes room for another.
        push_s: A peer that was asked for a blob must begin to put it within this.
    """

    def __init__(
        self,
        blobs: BlobStore,
        *,
        link: Callable[[str], Link | None],
        send: Callable[[str, str, dict[str, Any]], bool],
        tasks: Tasks,
        stall_s: float,
        slow_s: float,
        push_s: float,
    ) -> None:
        self._blobs = blobs
        self._link = link
        self._send = send
        self._tasks = tasks
        self._stall_s, self._slow_s, self._push_s = stall_s, slow_s, push_s
        self._http: aiohttp.ClientSession | None = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="offload-bulk")
        self._fetches: dict[str, _Fetch] = {}
        self._wants: dict[str, _Want] = {}
        self._pushes: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._fetch_slots = asyncio.Semaphore(MAX_FETCHES)
        self._push_slots = asyncio.Semaphore(MAX_PUSHES)

    def open(self, http: aiohttp.ClientSession) -> None:
        """Use ``http`` for what is pulled and pushed."""
        self._http = http

    def close(self) -> None:
        """Let the threads go; all tasks must have ended."""
        self._threads.shutdown(wait=False)

    # --- getting ---------------------------------------------------------------------------------

    async def fetch(self, peer: str, sha256: str, size: int, others: Iterable[str] = ()) -> None:
        """Bring a blob here from ``peer``, or from one of ``others``; see ``Transport.fetch``."""
        while not self._blobs.has(sha256):
            fetch = self._fetches.get(sha256)
            if fetch is not None and fetch.task.cancelling():
                await asyncio.wait([fetch.task])
                continue
            if fetch is None:
                fetch = self._start(Sources(peer, others, self._slow_s), sha256, size)
            error = await self._outcome(fetch)
            if error is None:
                return
            if fetch.peer == peer:
                raise error  # another's failure says nothing of our peer: then we try it

    def _start(self, sources: Sources, sha256: str, size: int) -> _Fetch:
        task = self._tasks.start(self._fetch(sources, sha256, size))
        task.add_done_callback(lambda _: self._fetches.pop(sha256, None))
        fetch = self._fetches[sha256] = _Fetch(sources.first, task)
        return fetch

    async def _outcome(self, fetch: _Fetch) -> Exception | None:
        """Wait for a transfer; the last one who no longer waits ends it."""
        fetch.waiters += 1
        try:
            return await asyncio.shield(fetch.task)
        finally:
            fetch.waiters -= 1
            if not fetch.waiters and not fetch.task.done():
                fetch.task.cancel()

    async def _fetch(self, sources: Sources, sha256: str, size: int) -> Exception | None:
        try:
            async with self._fetch_slots, self._incoming(sha256, size) as incoming:
                want = _Want(sources, sha256, size, incoming)
                while not want.complete:
                    await self._one_try(want)
                if not want.finished:
                    await self._thread(incoming.finish)
        except (OffloadError, OSError) as error:
            return error
        return None

    async def _one_try(self, want: _Want) -> None:
        """Get on with a blob; raise when there is nobody left to ask."""
        sources, before, peer = want.sources, want.incoming.offset, want.peer
        await asyncio.sleep(sources.pause_s)
        sources.begin(asyncio.get_running_loop().time(), before)
        try:
            await self._try(want)
        except _CUT as error:
            log.debug("blob %s from %s was cut: %r", want.sha256, peer, error)
            lost = PeerUnreachable(peer, f"blob {want.sha256} does not arrive")
            if not sources.cut(error, brought=want.incoming.offset > before):
                raise lost from error
        except (PeerUnreachable, BlobMissing) as error:
            if not sources.drop(error):
                raise sources.verdict(error) from None

    async def _try(self, want: _Want) -> None:
        link = self._link(want.peer)
        if link is None:
            raise PeerUnreachable(want.peer, "no link")
        if link.dialled:
            await self._pull(link, want)
        else:
            await self._be_given(want)

    async def _pull(self, link: Link, want: _Want) -> None:
        headers = {hdrs.RANGE: f"bytes={want.incoming.offset}-"}
        async with self._session().get(
            link.url(BLOB_PATH + want.sha256), headers=headers, server_hostname=link.server_name
        ) as response:
            if response.status == web.HTTPNotFound.status_code:
                raise BlobMissing(want.sha256)
            if response.status != web.HTTPPartialContent.status_code:
                raise PeerUnreachable(want.peer, f"answers {response.status} for a blob")
            start, end, total = content_range(response.headers.get(hdrs.CONTENT_RANGE, ""))
            if (start, end + 1, total) != (want.incoming.offset, want.size, want.size):
                raise BlobMismatch(want.sha256, f"has {total} bytes there instead of {want.size}")
            async with asyncio.timeout(patience_s(end + 1 - start, self._stall_s)):
                await self._pour(response.content, want)
        if not want.complete:
            raise ConnectionError("the answer ended early")

    async def _be_given(self, want: _Want) -> None:
        """Ask for a blob, and wait until a try to put it here is over."""
        fields = {"sha256": want.sha256, "size": want.size, "offset": want.incoming.offset}
        self._wants[want.sha256] = want
        want.changed.clear()
        want.error = None
        try:
            if not self._send(want.peer, "want", fields):
                raise PeerUnreachable(want.peer, "no link")
            async with asyncio.timeout(self._push_s):
                await want.changed.wait()
            while want.busy:
                want.changed.clear()
                await want.changed.wait()
        finally:
            del self._wants[want.sha256]
        if want.error is not None:
            raise want.error
        if not want.complete:
            raise ConnectionError("the peer stopped putting it")

    def lost(self, peer: str) -> None:
        """Note that the link to ``peer`` is down: it has not heard what was asked of it."""
        for want in self._wants.values():
            if want.peer == peer:
                want.changed.set()

    def on_missing(self, link: Link, frames: list[dict[str, Any]]) -> None:
        """Take in that the peer does not have what it was asked for."""
        for fields in frames:
            want = self._wants.get(_text(fields, "sha256"))
            if want is not None and want.peer == link.peer and not want.busy:
                want.error = BlobMissing(want.sha256)
                want.changed.set()

    # --- giving ----------------------------------------------------------------------------------

    def on_want(self, link: Link, frames: list[dict[str, Any]]) -> None:
        """Put to the peer what it asks for."""
        for fields in frames:
            sha256, size, offset = _text(fields, "sha256"), fields.get("size"), fields.get("offset")
            if type(size) is not int or type(offset) is not int or not 0 <= offset < size:
                raise Malformed("want: no size or offset")
            if sum(peer == link.peer for peer, _ in self._pushes) >= PUSHES_KEPT:
                return  # it never has so many under way; what it really wants it asks for again
            former = self._pushes.get((link.peer, sha256))
            if former is not None:  # it was cut there, and we have not noticed yet
                former.cancel()
            push = self._tasks.start(self._push(link, sha256, size, offset))
            self._pushes[link.peer, sha256] = push
            push.add_done_callback(partial(self._pushed, link.peer, sha256))

    def _pushed(self, peer: str, sha256: str, push: asyncio.Task[None]) -> None:
        if self._pushes.get((peer, sha256)) is push:
            del self._pushes[peer, sha256]

    async def _push(self, link: Link, sha256: str, size: int, offset: int) -> None:
        try:
            async with self._push_slots:
                if not link.dialled or self._blobs.size(sha256) != size:
                    self._send(link.peer, "missing", {"sha256": sha256})
                    return
                await self._put(link, sha256, size, offset)
        except (*_CUT, BlobMissing, OSError) as error:  # the peer will ask again
            log.debug("blob %s was not put to %s: %r", sha256, link.peer, error)

    async def _put(self, link: Link, sha256: str, size: int, offset: int) -> None:
        headers = {
            hdrs.CONTENT_TYPE: "application/octet-stream",
            hdrs.CONTENT_LENGTH: str(size - offset),
            hdrs.CONTENT_RANGE: f"bytes {offset}-{size - 1}/{size}",
        }
        file = await self._thread(_open, self._blobs.path(sha256))
        try:
            file.seek(offset)
            data = self._chunks(file.read)
            async with self._session().put(
                link.url(BLOB_PATH + sha256),
                data=data,
                headers=headers,
                server_hostname=link.server_name,
            ) as response:
                if not response.ok:
                    log.info("%s answers %d for blob %s", link.peer, response.status, sha256)
        finally:
            self._threads.submit(file.close)

    async def _chunks(self, read: Callable[[int], bytes]) -> AsyncIterator[bytes]:
        """Yield the rest of a file, reading one chunk while the former is on its way."""
        ahead = self._thread(read, CHUNK_BYTES)
        try:
            while chunk := await ahead:
                ahead = self._thread(read, CHUNK_BYTES)
                yield chunk
        finally:
            ahead.cancel()  # whoever stops early does not want to know how it went

    async def serve_get(self, request: web.Request, sha256: str) -> web.StreamResponse:
        """Answer with a blob's content or the range of it that was asked for."""
        try:
            path = self._blobs.path(sha256)
        except BlobMissing:
            raise web.HTTPNotFound(text="this blob is not here\n") from None
        if proven_by(request) is None:
            return web.FileResponse(path, chunk_size=CHUNK_BYTES, headers=dict(CONTENT))
        file = await self._thread(_open, path)
        try:
            async with asyncio.timeout(patience_s(file.seek(0, SEEK_END), self._stall_s)):
                return await give(request, file, self._chunks(file.read), stall_s=self._stall_s)
        finally:
            self._threads.submit(file.close)

    # --- being given -----------------------------------------------------------------------------

    async def serve_put(self, request: web.Request, sha256: str) -> web.StreamResponse:
        """Take in a blob that was asked for, from where its last try was cut."""
        want = self._wants.get(sha256)
        if want is None:
            raise web.HTTPForbidden(text="nobody here asked for this blob\n")
        self._check(request, want)
        want.busy = True
        want.changed.set()
        try:
            async with asyncio.timeout(patience_s(want.size, self._stall_s)):
                await self._receive(request.content, want)
            return web.Response(status=web.HTTPCreated.status_code)
        except (TimeoutError, TooSlow):
            raise web.HTTPRequestTimeout(text="too slow\n") from None
        except web.RequestPayloadError:
            raise web.HTTPBadRequest(text="the body is not what its head says\n") from None
        except BlobMismatch as error:
            raise web.HTTPUnprocessableEntity(text=f"{error}\n") from None
        except DiskFull:
            raise web.HTTPInsufficientStorage(text="the disk is full\n") from None
        except Refused as error:
            raise web.HTTPConflict(text=f"{error}\n") from None
        finally:
            want.busy = False
            want.changed.set()

    async def _receive(self, stream: StreamReader, want: _Want) -> None:
        """Take in the rest of a blob, and verify it if it is all here."""
        try:
            await self._pour(stream, want)
            if want.complete:
                await self._thread(want.incoming.finish)
                want.finished = True
        except OffloadError as error:
            want.error = error
            raise

    @staticmethod
    def _check(request: web.Request, want: _Want) -> None:
        length = request.content_length
        if length is None:
            raise web.HTTPLengthRequired(text="Content-Length is needed\n")
        try:
            start, end, total = content_range(request.headers.get(hdrs.CONTENT_RANGE, ""))
        except Malformed as error:
            raise web.HTTPBadRequest(text=f"{error.reason}\n") from None
        if total > want.size or length > want.size - start:
            raise web.HTTPRequestEntityTooLarge(want.size, length)
        if (end + 1, total, length) != (want.size, want.size, want.size - start):
            raise web.HTTPBadRequest(text="put all that is left\n")
        if want.busy or start != want.incoming.offset:
            offset = str(want.incoming.offset)
            raise web.HTTPConflict(text=f"go on at {offset}\n", headers={OFFSET: offset})

    # --- both ------------------------------------------------------------------------------------

    async def _pour(self, stream: StreamReader, want: _Want) -> None:
        """Write all that comes; hash and write one chunk while the next is on its way."""
        writing: Awaitable[None] | None = None
        loop = asyncio.get_running_loop()
        try:
            while parts := await self._chunk(stream):
                if writing is not None:
                    await writing
                    want.sources.look(loop.time(), want.incoming.offset)
                writing = self._thread(want.incoming.write, *parts)
        finally:
            if writing is not None:
                await writing

    async def _chunk(self, stream: StreamReader) -> list[bytes]:
        """Return the next chunk in parts; none: the end. What came before a cut is kept."""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._stall_s):
                while size < CHUNK_BYTES and (part := await stream.readany()):
                    parts.append(part)
                    size += len(part)
        except TimeoutError:
            if size < LEAST_BYTES:
                raise
        except _CUT:
            if not size:
                raise
        return parts

    @asynccontextmanager
    async def _incoming(self, sha256: str, size: int) -> AsyncIterator[Arriving]:
        """Open in a thread what may first have to read a gigabyte; close it whatever happens."""
        opening = self._threads.submit(self._blobs.incoming, sha256, size)
        try:
            incoming = await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise
        try:
            yield incoming
        finally:
            await asyncio.shield(self._thread(incoming.close))

    def _thread(self, work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("the transport is not open")
        return self._http


def _open(path: Path) -> BufferedReader:
    return path.open("rb")


def _close_late(opening: "Future[Arriving]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name} is missing or no text")
    return value
