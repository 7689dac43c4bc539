"""
Watches who says hello: whom we do not link with, and why, and who has a twin.

Twins are two processes with one instance id, of which the younger must end (C057).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from offload.events import Bus
from offload.peers.transport import frames
from offload.peers.transport.frames import Close, Hello
from offload.peers.transport.link import Link, LinkRefused, LinkUp, TwinFound
from offload.peers.transport.twins import Lives

log = logging.getLogger(__name__)
REASON_LIMIT: Final = 200
REFUSED_LIMIT: Final = 100


class Watch:
    """
    Judges hellos. Twins may be our own, or those of peers, who may never meet but at us.

    Attributes:
        doomed: We are the younger one of two.
        refused: Those that could be members but for their version, by id or, if that is not known,
            host; until they link.
    """

    def __init__(self, bus: Bus, link: Callable[[str], Link | None]) -> None:
        self._bus = bus
        self._link = link
        self._lives = Lives()
        self._elders: dict[str, str] = {}  # lives that are to be told that they have a twin
        self.doomed = False
        self.refused: dict[str, LinkRefused] = {}
        bus.listen(LinkUp, self._up)

    def refusal(self, own: Hello, other: Hello, where: str) -> tuple[Close, str] | None:
        """Say why ``own`` does not link with ``other``, or None if it does."""
        refusal = frames.refusal(own, other)
        if refusal is not None:
            if refusal[0] in (Close.TWIN, Close.ELDER):
                reason = f"{other.name!r} at {where} has the same id"
                younger = refusal[0] is Close.ELDER
                self._found(f"{reason} and has been up for longer" if younger else reason, younger)
            elif refusal[0] is Close.VERSION:
                self._refuse(LinkRefused(other.id, other.name, where, refusal[1]))
            return refusal
        now = asyncio.get_running_loop().time()
        ends = self._lives.heard(other.id, other.life, other.uptime_s, now)
        if ends is None:
            return None
        former = self._link(other.id)
        if ends == other.life:
            reason = f"{_where(former)} has the same id and has been up for longer"
            if former is not None:
                former.send(_notice(where))
            return Close.TWIN, reason
        self._elders[other.life] = _where(former)
        if former is not None:
            reason = f"{other.name!r} at {where} has the same id and has been up for longer"
            former.retire(Close.TWIN, reason)
        return None

    def closed(self, code: int | None, reason: str, host: str) -> None:
        """Take in the code by which a peer closed a link; who it was, it may not have said."""
        said = reason.partition(": ")[2] or reason
        if code == Close.VERSION:
            self._refuse(LinkRefused("", "", host, said))
        if code in (Close.TWIN, Close.ELDER):
            self._found(said, code == Close.TWIN)

    def hear(self, link: Link, fields: list[dict[str, Any]]) -> None:
        """Take in the word of a peer that we have a twin, which is to end."""
        where = str(fields[0].get("where"))[:REASON_LIMIT]
        self._found(f"{where} has the same id, says {link.hello.name!r}", False)

    def _refuse(self, refused: LinkRefused) -> None:
        """Keep it for people to see, and say so once."""
        key = refused.id or refused.address
        former = self.refused.get(key)
        if former is None or former.reason != refused.reason:
            log.warning("no link with %r at %s: %s", refused.name, refused.address, refused.reason)
        self.refused[key] = refused
        if len(self.refused) > REFUSED_LIMIT:
            del self.refused[next(iter(self.refused))]

    def _up(self, event: LinkUp) -> None:
        self.refused.pop(event.peer, None)
        where, link = self._elders.pop(event.hello.life, None), self._link(event.peer)
        if where is not None and link is not None:
            link.send(_notice(where))

    def _found(self, reason: str, younger: bool) -> None:
        if younger:
            self.doomed = True
        else:
            log.warning(
                "a copy of this instance's data directory is in use: %s. It was started later than"
                " this one, and has to end",
                reason,
            )
        self._bus.publish(TwinFound(younger, reason))


def _notice(where: str) -> bytes:
    return frames.frame("twin", {"where": where})


def _where(link: Link | None) -> str:
    return "another" if link is None else f"{link.hello.name!r} at {link.info.address}"
