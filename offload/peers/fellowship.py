"""
Keeps the group one: tells the roster and a new CA over the links, and hears them.

At link-up each side says which CA and which roster it has; whoever has something that the other
needs sends it. What a keeper, or another program of the same user, has changed is told at once to
all who are linked, and so reaches everybody. Whoever was removed is cut off by the transport.
"""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, NoReturn, Protocol

from offload.errors import Distrusted, Malformed, NotAKeeper, Refused, UsageError
from offload.events import Bus
from offload.peers.identity import Credentials, Group, Move
from offload.peers.identity import credentials as standing
from offload.peers.identity.certificates import digest_of, key_as_der
from offload.peers.identity.roster import covers
from offload.peers.transport import LinkDown, LinkUp, ShutOut

log = logging.getLogger(__name__)
Handler = Callable[[str, list[dict[str, Any]]], Awaitable[None] | None]
WATCH_S: Final = 1.0  # how soon we notice what other programs of the user do
LEAVE_S: Final = 2.0
SHUT: Final = 2  # times in a row, since a member may also have been about to end


class Links(Protocol):
    """What is asked of the transport."""

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """Queue a frame for the peer; False if that can't be."""
        ...


class Fellowship:
    """The part of one instance in its group."""

    def __init__(self, credentials: Credentials, links: Links, bus: Bus) -> None:
        self._credentials = credentials
        self._links = links
        self._linked: set[str] = set()
        self._shut: Counter[str] = Counter()  # where members have ended our connections
        self._parted = asyncio.Event()
        self._lock = asyncio.Lock()
        self._told: Group = credentials.group
        bus.listen(LinkUp, self._link_up)
        bus.listen(LinkDown, self._link_down)
        bus.listen(ShutOut, self._shut_out)
        credentials.listen(self._changed)

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the frames that belong here, for the transport."""
        return {
            "roster": self._told_roster,
            "rekey": self._told_move,
            "key": self._given_key,
            "leave": self._left,
        }

    async def run(self) -> NoReturn:
        """Notice what other programs of this user do to the group, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            self._credentials.refresh()

    # --- what people want ----------------------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        """Return the group as plain values, with who is linked, and whether nobody lets us in."""
        told = self._credentials.group.to_json(self._credentials.id)
        for member in told["members"]:
            member["linked"] = member["id"] in self._linked
        told["shut_out"] = self._is_shut_out()
        return told

    async def alter(self, change: Callable[[Group], Group]) -> None:
        """Change the group on disk, and go by it; raise what ``change`` raises."""
        async with self._lock:
            group = await asyncio.to_thread(self._credentials.folder.alter, change)
            self._credentials.install(group)

    async def leave(self) -> bool:
        """
        Leave the group; return whether a keeper has noted it.

        Raises:
            Refused: If there is no group to leave, or nobody would be left to keep it.
        """
        standing.check_leave(self._credentials.group, self._credentials.id)
        keepers = [e.id for e in self._credentials.roster.members() if e.keeper]
        asked = [peer for peer in keepers if self._links.send(peer, "leave", {})]
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S if asked else 0):
                while self._linked & set(asked):  # who takes us at our word cuts us off
                    self._parted.clear()
                    await self._parted.wait()
        noted = bool(asked) and not self._linked & set(asked)
        async with self._lock:
            own = self._credentials
            await asyncio.to_thread(standing.leave, own.identity, own.folder)
            own.refresh()
        return noted

    # --- telling -------------------------------------------------------------------------------

    def _shut_out(self, event: ShutOut) -> None:
        was = self._is_shut_out()
        self._shut[event.address] += 1
        if self._is_shut_out() and not was:
            log.warning(
                "the member at %s ends every connection without a word: this instance may have been"
                " removed from the group while it was away",
                event.address,
            )

    def _is_shut_out(self) -> bool:
        """Say whether we were probably removed: who was, is told nothing of the group any more."""
        belongs = self._credentials.roster.has(self._credentials.id)  # else we know that we were
        return belongs and not self._linked and any(n >= SHUT for n in self._shut.values())

    def _link_up(self, event: LinkUp) -> None:
        self._linked.add(event.peer)
        self._shut.clear()
        self._tell(event.peer, whole=False)

    def _link_down(self, event: LinkDown) -> None:
        self._linked.discard(event.peer)
        self._parted.set()

    def _changed(self) -> None:
        if self._credentials.group == self._told:
            return
        own_id = self._credentials.id
        belonged = self._told.roster.has(own_id)
        self._told = self._credentials.group
        if belonged and not self._told.roster.has(own_id):
            log.warning("this instance was removed from the group")
        for peer in self._linked:  # those too who were removed, so that they know
            self._tell(peer, whole=True)

    def _tell(self, peer: str, *, whole: bool) -> None:
        group = self._credentials.group
        fields: dict[str, Any] = {
            "ca": digest_of(group.ca),
            "digest": hashlib.sha256(group.signed.data).digest(),
            "version": group.roster.version,
            "has_key": group.key is not None,
        }
        if whole:
            fields["signed"] = group.signed.data
        self._links.send(peer, "roster", fields)

    # --- hearing -------------------------------------------------------------------------------

    async def _told_roster(self, peer: str, frames: list[dict[str, Any]]) -> None:
        for fields in frames:
            match fields:
                case {"ca": bytes(ca), "digest": bytes(digest), "has_key": bool(has_key)}:
                    signed = fields.get("signed")
                    if signed is not None and not isinstance(signed, bytes):
                        raise Malformed("roster: signed is no bytes")
                    await self._compare(peer, ca, digest, signed)
                    self._perhaps_give_key(peer, ca, has_key=has_key)
                case _:
                    raise Malformed("roster: a field is missing or of the wrong type")

    async def _compare(self, peer: str, ca: bytes, digest: bytes, signed: bytes | None) -> None:
        """Take what is news to us, or give what is news to the peer."""
        group = self._credentials.group
        if ca != digest_of(group.ca):
            move = group.move_from(ca)
            if move is not None:
                self._links.send(peer, "rekey", move.to_wire())
            elif signed is not None:  # it has just changed: let it see that we are behind
                self._tell(peer, whole=False)
            return
        if digest == hashlib.sha256(group.signed.data).digest():
            return
        if signed is None:
            self._tell(peer, whole=True)
            return
        try:
            theirs = group.hear(signed)
            if theirs is not group:
                await self.alter(lambda found: found.hear(signed))
            elif covers(group.roster, standing.read_roster(signed, group)):
                self._tell(peer, whole=True)
        except Distrusted as error:
            raise Malformed(f"roster: {error.reason}") from None

    def _perhaps_give_key(self, peer: str, ca: bytes, *, has_key: bool) -> None:
        """Give the CA's key to a keeper who has none: a link leads to nobody else than it names."""
        group = self._credentials.group
        entry = group.roster.entries.get(peer)
        if has_key or entry is None or not entry.keeper or group.key is None:
            return
        if ca == digest_of(group.ca):
            self._links.send(peer, "key", {"key": key_as_der(group.key)})

    async def _told_move(self, peer: str, frames: list[dict[str, Any]]) -> None:
        try:
            move = Move.from_wire(frames[-1])
            if digest_of(move.former) != digest_of(self._credentials.group.ca):
                return  # another has led us over already
            lost = self._credentials.group.overruled(move)
            await self.alter(lambda found: _followed(found, move))
        except Distrusted as error:
            raise Malformed(f"rekey: {error.reason}") from None
        log.info("the group has a new CA, as %s tells", peer)
        if lost:
            log.warning("the new CA takes for members whom we removed: %s", ", ".join(lost))

    async def _given_key(self, peer: str, frames: list[dict[str, Any]]) -> None:
        entry = self._credentials.roster.entries.get(self._credentials.id)
        if entry is None or not entry.keeper or self._credentials.group.key is not None:
            return
        key = frames[-1].get("key")
        if not isinstance(key, bytes):
            raise Malformed("key: is no bytes")
        try:
            await self.alter(lambda found: found.with_key(key))
        except Distrusted as error:
            raise Malformed(f"key: {error.reason}") from None
        log.info("this instance keeps the key of the group now, as %s does", peer)

    async def _left(self, peer: str, _frames: list[dict[str, Any]]) -> None:
        with suppress(NotAKeeper, UsageError, Refused):
            await self.alter(lambda found: found.without(peer))
            log.info("%s has left the group", peer)


def _followed(found: Group, move: Move) -> Group:
    """Follow a move, unless another program of the user has."""
    return found.follow(move) if digest_of(found.ca) == digest_of(move.former) else found
