"""
What instances say to each other of the schedules of the whole topology (docs/protocol.md).

All know all of them, and how far each has come; the leader fires. Before it makes a job it notes
the firing on its own disk and asks every linked peer, which notes it too and says whether it knows
of another: so whoever leads next goes on behind it, and a leader that was frozen, or is back from
a crash, learns that it is one no more. If nobody does it says so to all, and then decides, on its
disk: what a leader has asked for and nobody knows to be sure when it dies, the next one makes.
A peer that gives no answer is asked again until it counts as silent: a leader that fired while
nobody heard it, and died, would have fired alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from offload.clock import Clock
from offload.errors import DiskFull, Malformed
from offload.events import Bus
from offload.peers.topology import TopologyView
from offload.peers.transport import LinkDown, LinkUp
from offload.scheduler.book import Book, Entry
from offload.scheduler.records import Mark, Schedule, Scope, moment

log = logging.getLogger(__name__)
Handler = Callable[[str, list[dict[str, Any]]], Awaitable[None] | None]
Firing = tuple[str, float]  # schedule id, the moment that it is for
GATHER_S: Final = 3.0
AGAIN_S: Final = 0.5  # who has not answered by then is asked again
ANSWER_S: Final = 6.0  # who has not answered by then is as good as cut off


class Links(Protocol):
    """What is asked of the links: the transport, or a LAN in memory."""

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """Queue a frame for ``peer``; False if that can't be."""
        ...

    def peers(self) -> Mapping[str, Any]:
        """Return the linked peers, by instance id."""
        ...


@dataclass(slots=True)
class _Question:
    """Firings that were asked for; ``heard`` is set when all peers have answered all of them."""

    open: set[tuple[str, Firing]]  # peer, firing
    refused: set[Firing] = field(default_factory=set)
    heard: asyncio.Event = field(default_factory=asyncio.Event)

    def settle(self, peer: str, firing: Firing | None, *, refused: bool = False) -> None:
        """Note an answer; without a firing: that ``peer`` will give none."""
        if firing is None:
            self.open = {asked for asked in self.open if asked[0] != peer}
        else:
            self.open.discard((peer, firing))
            if refused:
                self.refused.add(firing)
        if not self.open:
            self.heard.set()


class Accord:
    """The part of one instance in it."""

    def __init__(
        self,
        *,
        book: Book,
        links: Links,
        bus: Bus,
        clock: Clock,
        own_id: str,
        view: Callable[[], TopologyView],
        changed: Callable[[], None],
    ) -> None:
        self._book = book
        self._links = links
        self._clock = clock
        self._own_id = own_id
        self._view = view
        self._changed = changed
        self._quiet_until = clock.now() + GATHER_S
        self._untold: dict[str, float] = {}  # who has not told us all -> for how long we wait
        self._owed: set[str] = set()  # whom we have not told all
        self._questions: list[_Question] = []
        bus.listen(LinkUp, self._link_up)
        bus.listen(LinkDown, self._link_down)

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the frames that belong here, for the transport."""
        return {
            "schedule": self._heard,
            "schedules": self._heard_all,
            "firing": self._asked,
            "allowed": self._answered,
        }

    # --- who fires -------------------------------------------------------------------------

    def leader(self) -> str:
        """Return the id of the instance that fires: the first that does not leave, or ""."""
        staying = (i.id for i in self._view().instances if not i.draining)
        return next(staying, "")

    @property
    def leads(self) -> bool:
        """Whether that is this instance."""
        return self.leader() == self._own_id

    def hold(self) -> None:
        """Fire nothing for a while: time has passed in which others may have fired."""
        self._quiet_until = self._clock.now() + GATHER_S

    def ready_in_s(self) -> float:
        """Return the seconds until firing is safe at the latest; 0: it is."""
        return max(0.0, max([self._quiet_until, *self._untold.values()]) - self._clock.now())

    # --- telling ---------------------------------------------------------------------------

    def tell(self, entry: Entry, *, but: str = "", mark_only: bool = False) -> None:
        """Tell all linked peers of a schedule and its mark."""
        for peer in self._links.peers():
            if peer != but and not self._tell(peer, entry, mark_only=mark_only):
                self._owed.add(peer)

    def tick(self) -> None:
        """Tell those who could not be told before."""
        owed, self._owed = self._owed, set()
        for peer in owed & set(self._links.peers()):
            self._tell_all(peer)

    def _tell_all(self, peer: str) -> None:
        entries = [entry for entry in self._book.all() if entry.shared]
        told = all(self._tell(peer, entry) for entry in entries)
        if not told or not self._links.send(peer, "schedules", {"count": len(entries)}):
            self._owed.add(peer)

    def _tell(self, peer: str, entry: Entry, *, mark_only: bool = False) -> bool:
        fields: dict[str, Any] = {"id": entry.schedule.id, **_wire(entry.mark)}
        if not mark_only:
            fields["schedule"] = entry.schedule.to_wire()
        return self._links.send(peer, "schedule", fields)

    def _link_up(self, event: LinkUp) -> None:
        self._untold[event.peer] = self._clock.now() + GATHER_S
        self._tell_all(event.peer)

    def _link_down(self, event: LinkDown) -> None:
        self._untold.pop(event.peer, None)
        self._owed.discard(event.peer)
        for question in self._questions:
            question.settle(event.peer, None)
        self._changed()

    # --- hearing ---------------------------------------------------------------------------

    def _heard_all(self, peer: str, _frames: list[dict[str, Any]]) -> None:
        self._untold.pop(peer, None)
        self._changed()

    def _heard(self, peer: str, frames: list[dict[str, Any]]) -> Awaitable[None] | None:
        told = [
            (_text(f, "id"), _mark(f, "fired", _text(f, "by")), f.get("schedule")) for f in frames
        ]
        news: dict[str, tuple[Entry, bool]] = {}
        for name, mark, wire in told:
            merged = self._merge(wire)
            entry = merged or self._book.get(name)
            if entry is None:
                continue
            ahead = self._book.merge_mark(entry, mark, self._own_id)
            if merged or ahead:
                news[name] = entry, merged is None and news.get(name, (entry, True))[1]
        return self._pass_on(peer, list(news.values())) if news else None

    def _merge(self, wire: object) -> Entry | None:
        if wire is None:
            return None
        try:
            schedule = Schedule.from_wire(wire)
        except Malformed as error:  # perhaps of a later version, or of a zone unknown here
            log.warning("a schedule of another instance is ignored: %s", error)
            return None
        if schedule.scope is not Scope.TOPOLOGY:
            return None
        merged = self._book.merge(schedule)
        if merged is not None and merged.schedule != schedule:
            self.tell(merged)  # it is removed elsewhere, but declared here
        return merged

    async def _pass_on(self, peer: str, news: Sequence[tuple[Entry, bool]]) -> None:
        self._changed()
        for entry, mark_only in news:
            self.tell(entry, but=peer, mark_only=mark_only)
        for entry, _ in news:
            await self._keep(entry)

    async def _keep(self, entry: Entry) -> None:
        try:
            await self._book.keep(entry)
        except DiskFull:
            log.warning("disk full: what was heard of schedule %s is not kept", entry.schedule.id)

    # --- firing ----------------------------------------------------------------------------

    async def agreed(self, firings: Iterable[Firing], *, sure: bool = False) -> set[Firing]:
        """
        Ask all linked peers, and return those of the firings that nobody knows another of.

        ``sure``: all have allowed it; who hears of that lets nobody else make the job.
        """
        agreed, peers = set(firings), self._links.peers()
        question = _Question({(peer, firing) for peer in peers for firing in agreed})
        spread = not all(i.own or i.id in peers for i in self._view().instances)
        self._questions.append(question)
        until = self._clock.now() + ANSWER_S
        try:
            while question.open and self._clock.now() < until:
                self._ask(question, {"sure": sure, "spread": spread})
                await self._answers(question)
        finally:
            self._questions.remove(question)
        return agreed - question.refused

    def _ask(self, question: _Question, fields: Mapping[str, Any]) -> None:
        for peer, (name, at) in sorted(question.open):
            firing = {"id": name, "due": at, **fields}
            if self._silent(peer) or not self._links.send(peer, "firing", firing):
                question.settle(peer, (name, at))

    async def _answers(self, question: _Question) -> None:
        """Wait until all have answered, or it is time to ask again."""
        over = asyncio.ensure_future(self._clock.sleep(AGAIN_S))
        heard = asyncio.ensure_future(question.heard.wait())
        try:
            await asyncio.wait([over, heard], return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            heard.cancel()

    def _silent(self, peer: str) -> bool:
        instance = self._view().get(peer)
        return instance is not None and instance.silent

    async def _asked(self, peer: str, frames: list[dict[str, Any]]) -> None:
        asked = [(_text(f, "id"), _mark(f, "due", peer), f.get("spread") is True) for f in frames]
        answers: list[dict[str, Any]] = []
        for name, mark, spread in asked:
            entry = self._book.get(name)
            allowed = entry is None or self._book.allow(entry, mark, self._own_id)
            answer = {"id": name, "due": mark.fired, "allowed": allowed}
            answers.append(answer if allowed or entry is None else answer | _wire(entry.mark))
            if entry is not None and allowed:
                if spread:
                    self.tell(entry, but=peer, mark_only=True)
                await self._keep(entry)
        self._changed()
        for answer in answers:  # after the commits: whoever hears of it relies on it
            self._links.send(peer, "allowed", answer)

    def _answered(self, peer: str, frames: list[dict[str, Any]]) -> None:
        for fields in frames:
            firing, refused = _firing(fields), fields.get("allowed") is False
            entry = self._book.get(firing[0])
            if refused and entry is not None and "by" in fields:  # who has it, if it is asked for
                self._book.merge_mark(
                    entry, _mark(fields, "fired", _text(fields, "by")), self._own_id
                )
            for question in self._questions:
                question.settle(peer, firing, refused=refused)


def _mark(fields: Mapping[str, Any], name: str, by: str) -> Mark:
    return Mark(moment(fields.get(name)), by, asked=fields.get("sure") is not True)


def _wire(mark: Mark) -> dict[str, Any]:
    return {"fired": mark.fired, "by": mark.by, "sure": not mark.asked}


def _firing(fields: Mapping[str, Any]) -> Firing:
    return _text(fields, "id"), moment(fields.get("due"))


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > 64:
        raise Malformed(f"{name}: not a short text")
    return value
