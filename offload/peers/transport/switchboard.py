"""Who is linked: dials, accepts, hands frames up, and sends what the rooms above have to say."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NoReturn

from offload.errors import Malformed, PeerClosed, PeerShut, PeerStranger, PeerUnreachable
from offload.events import Bus
from offload.peers.identity import Credentials
from offload.peers.transport import frames
from offload.peers.transport.bulk import Bulk
from offload.peers.transport.dialling import Dialling
from offload.peers.transport.frames import Close, Hello, Message
from offload.peers.transport.link import (
    CLOSE_S,
    Channel,
    Link,
    LinkDown,
    LinkInfo,
    LinkRefused,
    LinkUp,
    ShutOut,
    Terms,
    abort,
    address_of,
    close,
    hear_hello,
    impostor,
    is_later,
    note_error,
    note_goodbye,
    refuse_hello,
    same_life,
    takes_over,
)
from offload.peers.transport.server import Server
from offload.peers.transport.sources import others_than
from offload.peers.transport.store import BlobStore
from offload.peers.transport.timing import PATIENT, Timing
from offload.peers.transport.watch import Watch
from offload.tasks import Tasks

log = logging.getLogger(__name__)
MAX_MALFORMED: Final = 3
Handler = Callable[[str, list[dict[str, Any]]], Awaitable[None] | None]


class Transport:
    """
    The links of this instance, one per peer at most, and the blobs that move beside them.

    ``open`` listens; ``run`` owns what goes on until it is cancelled, and then says goodbye.
    Facts on the bus: ``LinkUp``, ``LinkDown``.

    Args:
        hello: What to say of this instance, asked at every new link.
        handlers: By kind, who takes a peer's frames: called once per message with the fields of
            all its frames of that kind. What a handler returns is awaited beside the reading;
            when too much of it is outstanding, the link is read no further: so a handler must
            not wait for its own peer. A handler that raises ``Malformed`` refuses the frames.
        blobs: Where blobs are kept.
        bus: Where facts are published.
        listen: The addresses to listen on.
        port: The port, on all of them; None for a free one, ``port_hint`` if that is free.
        timing: How long to wait for others.
        credentials: What links are opened with, and who may have one; None: they are plain.
    """

    def __init__(
        self,
        *,
        hello: Callable[[], Hello],
        handlers: Mapping[str, Handler],
        blobs: BlobStore,
        bus: Bus,
        listen: Sequence[str],
        port: int | None = None,
        port_hint: int | None = None,
        timing: Timing = PATIENT,
        credentials: Credentials | None = None,
    ) -> None:
        self._hello = hello
        self._handlers = handlers
        self._bus = bus
        self._listen, self._ports = tuple(listen), (port, port_hint)
        self._timing = timing
        self._credentials = credentials
        self._tasks = Tasks()
        self._links: dict[str, Link] = {}
        self._living: set[Link] = set()  # those too that another has taken the place of
        self._dials: dict[tuple[str, int, str | None], asyncio.Task[str | PeerUnreachable]] = {}
        self._terms = Terms(timing.write_s)
        self._closing = False
        self._dialling = Dialling(credentials, dial_s=timing.dial_s, stall_s=timing.stall_s)
        self._bulk = Bulk(
            blobs,
            link=self._links.get,
            send=self.send,
            tasks=self._tasks,
            stall_s=timing.stall_s,
            slow_s=timing.slow_s,
            push_s=timing.push_s,
        )
        self._server = Server(
            accept=self._accept,
            get=self._bulk.serve_get,
            put=self._bulk.serve_put,
            stall_s=timing.stall_s,
            tls=None if credentials is None else credentials.server,
            member=self._is_member,
        )
        self._watch = Watch(bus, self._links.get)
        if credentials is not None:
            credentials.listen(self._group_changed)  # others who listen may still send
        self._own: Mapping[str, Callable[[Link, list[dict[str, Any]]], None]] = {
            "hello": refuse_hello,
            "error": note_error,
            "bye": note_goodbye,
            "twin": self._watch.hear,
            "want": self._bulk.on_want,
            "missing": self._bulk.on_missing,
        }
        self.port = port or 0
        self.malformed = 0  # frames
        self.unknown = 0  # frames of kinds that nobody handles

    async def open(self) -> None:
        """
        Listen; from here on peers may link, and ``port`` is known.

        Raises:
            PortTaken: If the configured port is in use.
            ConfigError: If it can't listen there at all.
        """
        self.port = await self._server.open(self._listen, *self._ports)
        self._bulk.open(self._dialling.open())

    async def run(self) -> NoReturn:
        """Work until cancelled; then say goodbye to all peers and close, in bounded time."""
        for_ever = asyncio.Event()
        try:
            while True:
                await for_ever.wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Say goodbye to all peers and end everything; may be called again."""
        self._closing = True
        self._server.stop_listening()
        for link in tuple(self._living):
            if not self._watch.doomed:  # another goes on under our id
                link.send(frames.frame("bye", {}))
            link.retire(Close.AWAY, "it leaves")
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE_S):
                for link in tuple(self._living):
                    await link.ended.wait()
        await self._tasks.close()
        await self._server.close()
        await self._dialling.close()
        self._bulk.close()

    def peers(self) -> dict[str, LinkInfo]:
        """Return the linked peers, by instance id."""
        return {peer: link.info for peer, link in self._links.items()}

    def refusals(self) -> tuple[LinkRefused, ...]:
        """Return those that could be reached and were refused because of their version."""
        return tuple(self._watch.refused.values())

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """
        Queue a frame for ``peer``; it leaves in the next message.

        Returns:
            False if there is no link, or if too much waits on it already. True does not mean
            that it arrives.

        Raises:
            ValueError: If the frame is longer than a message.
        """
        link = self._links.get(peer)
        return link is not None and link.send(frames.frame(kind, fields))

    def drop(self, peer: str, reason: str) -> None:
        """Cut the link to ``peer`` at once, if there is one: it is thought to be dead."""
        link = self._links.get(peer)
        if link is not None:
            link.cut(reason)

    def release(self, peer: str) -> None:
        """Close the link to ``peer``, if there is one, once what waits is written."""
        link = self._links.get(peer)
        if link is not None:
            link.retire(Close.SPARE, "it is not needed")

    async def fetch(self, peer: str, sha256: str, size: int) -> None:
        """
        Bring a blob here from ``peer``; at once if it is here. Fetches of one digest share.

        If that peer is gone, has it no more, or is slow, others that are linked are asked too.

        Raises:
            PeerUnreachable: If there is no link, or nothing arrives.
            BlobMissing: If the peer does not have it, nor does anybody else.
            BlobMismatch: If other bytes came than were promised.
            DiskFull: If there is no room here.
        """
        await self._bulk.fetch(peer, sha256, size, others_than(peer, self._links))

    # --- dialling --------------------------------------------------------------------------------

    async def dial(self, host: str, port: int, want: str | None = None) -> str:
        """
        Link with who listens there, and return its instance id; at once if linked already.

        Raises:
            PeerRefused: If the host says that nothing listens there.
            PeerStranger: If it is not the instance ``want``, or not of our group.
            PeerUnreachable: If there is no answer, or it is itself, or does not fit (realm,
                versions).
        """
        for peer, link in self._links.items():
            if peer == want or (link.dialled and (link.host, link.port) == (host, port)):
                return peer
        key = (host, port, want)
        dial = self._dials.get(key)
        if dial is None:
            dial = self._dials[key] = self._tasks.start(self._dial(host, port, want))
            dial.add_done_callback(lambda _: self._dials.pop(key, None))
        answer = await asyncio.shield(dial)
        if isinstance(answer, PeerUnreachable):
            raise answer
        return answer

    async def _dial(self, host: str, port: int, want: str | None) -> str | PeerUnreachable:
        where = address_of(host, port)
        if self._closing:
            return PeerUnreachable(where, "this instance is not open")
        try:
            async with asyncio.timeout(self._timing.dial_s):
                channel = await self._dialling.connect(host, port, want)
                try:
                    return await self._greet(channel, host, port, want)
                except BaseException:
                    abort(channel)
                    raise
        except PeerUnreachable as error:
            if isinstance(error, PeerShut):
                self._bus.publish(ShutOut(where))
            return error
        except Malformed as error:
            return PeerUnreachable(where, str(error))
        except TimeoutError:
            return PeerUnreachable(where, f"no answer within {self._timing.dial_s:g} s")
        except OSError as error:
            return PeerUnreachable(where, str(error) or type(error).__name__)

    async def _greet(self, channel: Channel, host: str, port: int, want: str | None) -> str:
        """Hear the acceptor's hello, answer with ours, and take up the link."""
        where = address_of(host, port)
        hello, rest = await hear_hello(channel, where)
        own = self._hello()
        refusal = impostor(channel, hello) or self._watch.refusal(own, hello, where)
        if refusal is None and want not in (None, hello.id):
            refusal = Close.OTHER, f"it is {hello.id}, not {want}"
        if refusal is not None:
            await close(channel, *refusal)
            kind = PeerStranger if refusal[0] is Close.OTHER else PeerUnreachable
            raise kind(where, refusal[1])
        if self._credentials is not None:  # soon: the link need not wait for it
            keep, secured = self._credentials.keep_session, channel.get_extra_info("ssl_object")
            asyncio.get_running_loop().call_soon(keep, secured)
        link = Link(channel, hello, (host, port), self._terms, dialled=True)
        former = self._links.get(hello.id)
        if former is not None and not is_later(former.hello, hello):
            await close(channel, Close.DUPLICATE, "linked already")
            return hello.id
        link.send(frames.frame("hello", own.to_wire()))  # from here on both hold the link for up
        self._take_up(link)
        self._tasks.start(self._live(link, rest))
        return hello.id

    # --- accepting -------------------------------------------------------------------------------

    async def _accept(self, channel: Channel, host: str, port: int) -> None:
        """Say hello first, hear the dialler's, and live with the link until it ends."""
        own = self._hello()
        try:
            async with asyncio.timeout(self._timing.dial_s):
                await channel.send_bytes(frames.join([frames.frame("hello", own.to_wire())])[0])
                hello, rest = await hear_hello(channel, address_of(host, port))
        except (Malformed, TimeoutError) as error:
            self.malformed += 1
            await close(channel, Close.PROTOCOL, str(error) or "no hello")
            return
        except PeerClosed as error:
            self._watch.closed(error.code, error.reason, host)
            log.debug("no link: %s", error)
            return
        except ConnectionError as error:
            log.debug("no link: %s", error)
            return
        where = address_of(host, port)
        refusal = impostor(channel, hello) or self._watch.refusal(own, hello, where)
        if self._closing:
            refusal = Close.AWAY, "it leaves"
        if refusal is not None:
            await close(channel, *refusal)
            return
        link = Link(channel, hello, (host, port), self._terms, dialled=False)
        former = self._links.get(hello.id)
        if former is not None and not takes_over(own.id, former, link):
            await close(channel, Close.DUPLICATE, "linked already")
            return
        self._take_up(link)
        await self._live(link, rest)

    # --- the group -------------------------------------------------------------------------------

    def _is_member(self, peer: str) -> bool:
        return self._credentials is None or self._credentials.roster.has(peer)

    def _group_changed(self) -> None:
        asyncio.get_running_loop().call_soon(self._part_with_strangers)

    def _part_with_strangers(self) -> None:
        """Hear those no more who were removed, and end all that connects us."""
        strangers = [link for link in self._living if not self._is_member(link.peer)]
        for link in strangers:
            link.goodbye = True  # it is gone for good, and so are we to it
            link.retire(Close.REMOVED, "it is no member of the group any more")
        if strangers:
            self._tasks.start(self._cut_strangers(strangers))
        else:
            self._server.cut_strangers()

    async def _cut_strangers(self, strangers: Sequence[Link]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):  # so that they are told
                for link in strangers:
                    await link.ended.wait()
        for link in strangers:
            link.cut("it is no member of the group any more")
        self._server.cut_strangers()

    # --- links -----------------------------------------------------------------------------------

    def _take_up(self, link: Link) -> None:
        former = self._links.get(link.peer)
        self._links[link.peer] = link
        self._living.add(link)
        if former is not None:
            if same_life(former.hello, link.hello):
                link.inherit(former)
            former.retire(Close.REPLACED, "a newer link takes its place")
        info = link.info
        log.debug("link with %s at %s is up", link.peer, info.address)
        self._bus.publish(LinkUp(link.peer, link.hello, info.address, link.dialled))

    async def _live(self, link: Link, rest: Message) -> None:
        try:
            await self._hear(link, rest)
            await link.live(partial(self._hear, link))
        finally:
            link.ended.set()
            self._living.discard(link)
            self._watch.closed(link.code, link.reason, link.host)
            if self._links.get(link.peer) is link:
                del self._links[link.peer]
                await self._down(link)

    async def _down(self, link: Link) -> None:
        self._bulk.lost(link.peer)
        if link.code == Close.DUPLICATE:  # the peer holds another link: it is about to be up
            await self._other_link(link.peer)
        if link.peer not in self._links:
            log.debug("link with %s is down: %s", link.peer, link.reason)
            self._bus.publish(LinkDown(link.peer, link.reason, link.goodbye, link.spare))

    async def _other_link(self, peer: str) -> None:
        up = asyncio.Event()
        stop = self._bus.listen(LinkUp, lambda fact: up.set() if fact.peer == peer else None)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await up.wait()
        finally:
            stop()

    # --- frames ----------------------------------------------------------------------------------

    async def _hear(self, link: Link, message: Message) -> None:
        """Hand the frames of a message to their handlers."""
        for reason in message.wrong:
            self._complain(link, reason)
        for kind, fields in message.frames.items():
            if not link.open:
                return
            own, handler = self._own.get(kind), self._handlers.get(kind)
            try:
                if own is not None:
                    own(link, fields)
                if handler is not None:
                    await self._call(link, kind, handler, fields)
            except Malformed as error:
                self._complain(link, f"{kind}: {error.reason}")
            if own is None and handler is None:
                self.unknown += len(fields)

    async def _call(
        self, link: Link, kind: str, handler: Handler, fields: list[dict[str, Any]]
    ) -> None:
        await link.slots.acquire()
        begun_s = time.thread_time()
        working: Awaitable[None] | None = None
        try:
            working = handler(link.peer, fields)
        except Malformed:
            raise
        except Exception:  # a bug of ours must not cut off a peer
            log.exception("the handler of %s failed", kind)
        finally:
            link.busy_s += time.thread_time() - begun_s
            if working is None:
                link.slots.release()
        if working is not None:
            self._tasks.start(self._work(link, kind, working))

    async def _work(self, link: Link, kind: str, working: Awaitable[None]) -> None:
        try:
            await working
        except Malformed as error:
            self._complain(link, f"{kind}: {error.reason}")
        finally:
            link.slots.release()

    def complain(self, peer: str, reason: str) -> None:
        """Tell ``peer`` that a frame of its was malformed; the third time is the last."""
        link = self._links.get(peer)
        if link is not None:
            self._complain(link, reason)

    def _complain(self, link: Link, reason: str) -> None:
        """Tell the peer that a frame was malformed; the third time is the last."""
        self.malformed += 1
        if link.malformed >= MAX_MALFORMED:
            return
        link.malformed += 1
        link.send(frames.frame("error", {"reason": reason, "count": link.malformed}))
        if link.malformed == MAX_MALFORMED:
            log.info("link with %s is closed: three malformed frames (%s)", link.peer, reason)
            link.retire(Close.MALFORMED, "three malformed frames")
