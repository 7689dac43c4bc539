"""
Keeps the topology true: tells the peers of this instance and of others, and hears them.

Over each link go announcements (``spread``), whoever they are of: so chains, hubs and rings work.
Every heartbeat a beat goes over each link, with the load that is meant for that peer; about those
that are silent others are asked. What follows is published on the bus: raw facts at once, topology
events in the order of CONFORMANCE C050-C054.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

from offload.clock import Clock
from offload.errors import Malformed
from offload.events import Bus
from offload.peers.membership import wire
from offload.peers.membership.cadence import Cadence
from offload.peers.membership.doubts import Doubts
from offload.peers.membership.links import Links, LinkWanted
from offload.peers.membership.listeners import Listener, Listeners
from offload.peers.membership.mesh import Wishes
from offload.peers.membership.pulses import Pulse, Pulses
from offload.peers.membership.spread import Spread
from offload.peers.membership.ways import way_to
from offload.peers.topology import (
    Address,
    Announcement,
    Fact,
    Gone,
    Heard,
    LoadChanged,
    Part,
    Property,
    Silent,
    Topology,
    TopologyEvent,
    TopologyView,
    check_capabilities,
    check_disabled,
    check_id,
    check_properties,
    count,
)
from offload.peers.transport import LinkDown, LinkUp

log = logging.getLogger(__name__)
Handler = Callable[[str, list[dict[str, Any]]], Awaitable[None] | None]

TICKS_PER_BEAT: Final = 4
MEASURED_BEATS: Final = 10  # between two beats that measure a round trip, once one is known
COMPARED_BEATS: Final = 2  # between two comparisons of what is known, where that is little
FULL_BEATS: Final = 10  # between two beats that tell a load that has not changed
CLOCKS_APART_S: Final = 300.0  # people should see that; the protocol does not mind


class Membership:
    """The part of one instance in the topology."""

    def __init__(
        self,
        topology: Topology,
        links: Links,
        bus: Bus,
        clock: Clock,
        *,
        heartbeat_s: float = 1.0,
        event_delay_s: float = 1.0,
    ) -> None:
        self._topology = topology
        self._links = links
        self._bus = bus
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._listeners = Listeners(topology.view, clock.now(), delay_s=event_delay_s)
        self._listeners.add(self._publish)
        self._spread = Spread(topology, links)
        self._wishes = Wishes(topology)
        self._told_links: dict[str, frozenset[str]] = {}
        self._told_loads: dict[str, dict[str, Any]] = {}
        self._doubts = Doubts(topology, links, clock, self._tell, lambda: self._spread.peers)
        self._load_for: Callable[[str], dict[str, Any]] | None = None
        self._number = 0
        self._beat_at = clock.now()
        self._cadence = Cadence(topology.own.id, heartbeat_s)
        self._comparing: str | None = None  # whom our sums are to go to by the next beat
        self._pulses = Pulses()
        self._hasty: set[str] = set()  # peers that a beat goes to before the loop turns
        bus.listen(LinkUp, self._link_up)
        bus.listen(LinkDown, self._link_down)

    # --- for the rooms above -------------------------------------------------------------------

    @property
    def view(self) -> TopologyView:
        """Return the members as they are seen now; not current while a change is under way."""
        view = self._topology.view
        return view.outdated() if self._listeners.changing else view

    def knows(self, instance_id: str) -> bool:
        """Say whether it is a member other than us."""
        return self._topology.knows(instance_id)

    def pulse(self, peer: str) -> Pulse | None:
        """Return how long the way to a linked peer is, once that is measured."""
        return self._pulses.of(peer)

    def links_of(self, peer: str) -> frozenset[str]:
        """Return the members that a linked peer says it is linked to."""
        others = (instance.id for instance in self._topology.view.instances)
        return frozenset(other for other in others if self._topology.linked_to(peer, other))

    def way_to(self, instance_id: str, but: str = "") -> str:
        """Return the linked peer by which a member is reached, itself if it is linked; or ""."""
        return way_to(self._topology, instance_id, but)

    def addresses_of(self, instance_id: str) -> tuple[Address, ...]:
        """Return where another member says that it can be reached."""
        announcement = self._topology.announcement(instance_id)
        return () if announcement is None else announcement.addresses

    def wants(self, instance_id: str) -> bool:
        """Say whether there should be a link to it."""
        return self._wishes.wants(instance_id, self._clock.now())

    def reach(self, instance_id: str) -> None:
        """Say that a link to a member could be of use, where there are too many for all links."""
        self._wishes.reach(instance_id)

    def use(self, instance_id: str) -> None:
        """Say that the link to a member is in use: it stays for some time, or is made again."""
        self._wishes.use(instance_id, self._clock.now())

    def hold(self, instance_id: str) -> None:
        """Keep the link to a peer, which was configured, whatever the others are."""
        self._wishes.hold(instance_id)

    @property
    def own(self) -> Announcement:
        """Return what this instance says of itself now."""
        return self._topology.own

    def announce(
        self,
        *,
        addresses: Sequence[Address] | None = None,
        capabilities: Iterable[tuple[str, str]] | None = None,
        properties: Mapping[str, Property] | None = None,
        draining: bool | None = None,
        disabled: Iterable[str] | None = None,
        versions: Mapping[str, str] | None = None,
        shared: Sequence[str] | None = None,
        deliveries: Mapping[str, str] | None = None,
        load: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Change what this instance says of itself, and tell all; what is None stays.

        Raises:
            ConfigError: If a property has a bad name or value, or there is too much to say.
            InvalidTopic: If a capability is no topic pattern.
        """
        facts = self._topology.announce(
            addresses=addresses,
            capabilities=None if capabilities is None else check_capabilities(capabilities),
            properties=None if properties is None else check_properties(properties),
            draining=draining,
            disabled=None if disabled is None else check_disabled(disabled),
            versions=versions,
            shared=shared,
            deliveries=deliveries,
        )
        if load is not None:
            facts += self._topology.carry(load)
        self._tell(facts)

    def set_load(self, load_for: Callable[[str], dict[str, Any]]) -> None:
        """Ask ``load_for(peer)`` for the load that travels in each beat to that peer."""
        self._load_for = load_for

    def beat_now(self, peer: str) -> None:
        """Send a beat to ``peer`` when the loop turns; many calls make one beat."""
        if not self._hasty:
            asyncio.get_running_loop().call_soon(self._beat_hasty)
        self._hasty.add(peer)

    def refused(self, peer: str) -> None:
        """Note that the host of ``peer`` refuses connections where it was reached before."""
        self._tell(self._topology.refused(peer, self._clock.now()))

    def listen(self, listener: Listener) -> Callable[[], None]:
        """
        Call ``listener`` with each topology event, INIT first; return what ends that.

        INIT comes at once, or, while a change is under way, at its end. Listening twice changes
        nothing. A listener must not block, unless it is ``async``: that delays no other.
        """
        return self._listeners.add(listener)

    def events(self) -> AsyncIterator[TopologyEvent]:
        """Yield the topology events from the first ``anext`` on, INIT first."""
        return self._listeners.stream()

    # --- for the node --------------------------------------------------------------------------

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the frames that belong here, for the transport."""
        return {
            "announce": self._announced,
            "beat": self._beaten,
            "forget": self._told_to_forget,
            "digest": self._compared,
            "pull": self._pulled,
            **self._doubts.handlers(),
        }

    async def run(self) -> NoReturn:
        """Beat and watch until cancelled."""
        try:
            while True:
                self.tick()
                await self._clock.sleep(self._heartbeat_s / TICKS_PER_BEAT)
        finally:
            await self._listeners.close()

    def tick(self) -> None:
        """Do what it is time for."""
        now = self._clock.now()
        self._tell(self._topology.tick(now))
        self._listeners.tick(self._look, now)
        self._spread.flush(self._number, late=True)
        heartbeat = now >= self._beat_at
        if heartbeat:
            self._beat_at = now + self._heartbeat_s  # after a sleep one beat is enough
            self._number += 1
            for peer in self._wishes.renew(now):
                self._bus.publish(LinkWanted(peer))
            comparing = not self._spread.is_short or self._number % COMPARED_BEATS == 0
            self._comparing = self._spread.next_peer() if comparing else None
        for peer in self._spread.peers:
            if self._cadence.is_due(peer, now, heartbeat=heartbeat):
                self._beat(peer, timed=True)
        if heartbeat:
            self._doubts.ask()
            for peer in self._wishes.spare(self._spread.peers, now):
                self._links.release(peer)

    # --- links ---------------------------------------------------------------------------------

    def _link_up(self, event: LinkUp) -> None:
        self._spread.begin(event.peer)
        self._told_links.pop(event.peer, None)
        self._told_loads.pop(event.peer, None)
        now = self._clock.now()
        self._wishes.linked(event.peer, now)
        facts = self._topology.linked(event.peer, now, uptime_s=event.hello.uptime_s)
        self._spread.flush(self._number)  # all that we know in one message: our part meets theirs
        self._tell(facts)
        self._beat(event.peer, compare=not self._spread.is_short)
        self._cadence.hurry()  # the others are to learn of the link soon

    def _link_down(self, event: LinkDown) -> None:
        self._spread.end(event.peer)
        self._told_links.pop(event.peer, None)
        self._told_loads.pop(event.peer, None)
        self._pulses.forget(event.peer)
        self._cadence.forget(event.peer)
        self._wishes.unlinked(event.peer)
        facts = self._topology.left(event.peer) if event.goodbye else []
        now = self._clock.now()
        facts += self._topology.unlinked(event.peer, now, spare=event.spare)
        self._tell(facts)
        for peer in () if event.spare else self._spread.peers:
            self._beat(peer)

    # --- frames --------------------------------------------------------------------------------

    def _announced(self, peer: str, frames: list[dict[str, Any]]) -> None:
        parted = not self._spread.met(peer) and any(f.get("knows") is False for f in frames)
        heard: list[Announcement] = []
        numbers: dict[str, int] = {}
        parts: dict[str, Part] = {}
        wrong: Malformed | None = None
        facts: list[Fact] = []
        for fields in frames:
            try:
                said = wire.announcement(fields.get("announcement"), self._topology.announcement)
                number, part = count(fields, "number"), wire.part(fields.get("part"))
                if "knew" in fields:
                    facts += self._topology.outdo(*wire.version(fields["knew"]), self._number)
            except Malformed as error:
                wrong = error
                continue
            heard.append(said)
            numbers[said.id], parts[said.id] = number, part
            self._spread.knows(peer, said)
        facts += self._topology.hear(
            heard, peer, self._clock.now(), numbers=numbers, parted=parted, parts=parts
        )
        self._tell(facts)
        if wrong is not None:
            raise wrong

    def _beaten(self, peer: str, frames: list[dict[str, Any]]) -> None:
        now = self._clock.now()
        for fields in frames:
            load = fields.get("load")
            if not isinstance(load, dict | None):
                raise Malformed("beat: load is not a map")
            facts = self._topology.beat(peer, count(fields, "number"), load, now)
            facts += self._topology.pass_on(peer, wire.numbers(fields.get("others", {})), now)
            if "links" in fields:
                facts += self._neighbours(peer, wire.ids(fields["links"]), now)
            self._wishes.heard(peer, wanted=fields.get("wants") is not False)
            self._tell(facts)
            self._measure(peer, fields, now)
            if "sums" in fields:
                self._spread.compare(peer, wire.sums(fields["sums"]), self._number)
        if self._cadence.answers(peer, now):
            self._beat(peer, timed=True)

    def _measure(self, peer: str, fields: dict[str, Any], now: float) -> None:
        before = self._pulses.of(peer)
        self._pulses.hear(peer, fields, now, self._clock.wall())
        pulse = self._pulses.of(peer)
        if before is None and pulse is not None and abs(pulse.ahead_s) > CLOCKS_APART_S:
            how = "ahead of" if pulse.ahead_s > 0 else "behind"
            known = self._topology.view.get(peer)
            name = known.name if known else peer
            log.warning("the clock of %s is %.0f s %s ours", name, abs(pulse.ahead_s), how)

    def _neighbours(self, peer: str, links: frozenset[str], now: float) -> list[Fact]:
        """Note to whom a peer is linked; of those that it lost it is told by us again."""
        lost = self._topology.near.near(peer) - links
        facts = self._topology.neighbours(peer, links, now)
        self._spread.linked_with(peer, len(links) + 1)
        if lost:
            self._spread.remind(peer, lost)
            self._spread.flush(self._number)
        return facts

    def _told_to_forget(self, peer: str, frames: list[dict[str, Any]]) -> None:
        for fields in frames:
            facts = self._topology.forget(
                check_id(fields.get("id")),
                count(fields, "boot"),
                count(fields, "number"),
                via=peer,
                reason=wire.reason(fields),
                confirmed=fields.get("confirmed") is not False,
            )
            self._tell(facts)

    def _compared(self, peer: str, frames: list[dict[str, Any]]) -> None:
        now = self._clock.now()
        for fields in frames:
            theirs = wire.known(fields.get("known"))
            numbers = {i: (version.boot, number) for i, (version, number) in theirs.items()}
            facts = self._topology.pass_on(peer, numbers, now)
            buckets = wire.buckets(fields.get("buckets"))
            for ended in self._spread.settle(peer, buckets, theirs, self._number):
                self._tell_end(peer, ended, "ended before")
            self._tell(facts)

    def _pulled(self, peer: str, frames: list[dict[str, Any]]) -> None:
        for fields in frames:
            self._spread.answer_pull(peer, wire.ids(fields.get("ids")), self._number)

    # --- beats and questions -------------------------------------------------------------------

    def _beat_hasty(self) -> None:
        hasty, self._hasty = self._hasty, set()
        for peer in (peer for peer in self._spread.peers if peer in hasty):
            self._beat(peer)

    def _beat(self, peer: str, *, timed: bool = False, compare: bool = False) -> None:
        topology = self._topology
        fields: dict[str, Any] = {"number": self._number}
        load = dict(topology.table.load) if self._load_for is None else self._load_for(peer)
        if load != self._told_loads.get(peer) or (timed and self._number % FULL_BEATS == 0):
            fields["load"] = load
        others = topology.numbers_for(peer)
        if others:
            fields["others"] = {i: list(numbers) for i, numbers in others.items()}
        if timed and (self._number % MEASURED_BEATS == 0 or self._pulses.is_due(peer)):
            fields |= self._pulses.said(peer, self._clock.now(), self._clock.wall())
        links = topology.live_links() - {peer}
        if links != self._told_links.get(peer):
            fields["links"] = sorted(links)
        if not self._wishes.wants(peer, self._clock.now()):
            fields["wants"] = False
        if compare or (timed and peer == self._comparing):
            fields["sums"] = list(topology.table.sums)
        if timed:
            self._cadence.beaten(peer, self._clock.now())
        if self._links.send(peer, "beat", fields):
            self._told_links[peer], self._told_loads[peer] = links, load

    # --- what follows --------------------------------------------------------------------------

    def _tell(self, facts: list[Fact]) -> None:
        """Publish ``facts``, and do what they ask for."""
        changed: list[str] = []
        for fact in facts:
            self._bus.publish(fact)
            match fact:
                case Gone():
                    self._pass_on_end(fact)
                    changed.append(fact.id)
                case Silent():
                    # A packet that the network lost is sent again after a while that doubles: a
                    # link made anew is faster than one that was cut.
                    self._links.drop(fact.id, "silent")
                case LoadChanged() | Heard():
                    pass
                case _:
                    changed.append(fact.id)
        if any(isinstance(fact, Silent) for fact in facts):
            self._doubts.ask()
        if changed:
            self._listeners.feed(self._look, self._clock.now())
            self._spread.stir(changed)
            self._spread.flush(self._number)

    def _pass_on_end(self, gone: Gone) -> None:
        """Tell an end; should it come back, all are told of it anew."""
        for peer in self._spread.gone(gone.id):
            if gone.confirmed or self._topology.sparse:
                self._tell_end(peer, gone.id, gone.reason)

    def _tell_end(self, peer: str, instance_id: str, reason: str) -> None:
        past = self._topology.past(instance_id)
        if past is None:
            return
        fields: dict[str, Any] = {
            "id": instance_id,
            "boot": past.announcement.boot,
            "number": past.number,
            "reason": reason,
        }
        if not past.confirmed:
            fields["confirmed"] = False
        self._links.send(peer, "forget", fields)

    def _look(self) -> TopologyView:
        return self._topology.view

    def _publish(self, event: TopologyEvent) -> None:
        if event.old is not None and event.new is not None:
            names = ", ".join(i.name for i in event.new.instances)
            log.info("topology %s: %s", event.kind, names)
        self._bus.publish(event)
