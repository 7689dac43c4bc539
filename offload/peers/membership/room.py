"""
Keeps the topology true: tells the peers of this instance and of others, and hears them.

Over each link go announcements, in full when it comes up and as changes later, whoever they are
of: so chains, hubs and rings work, and a link is told each version of an announcement at most
once, so loops are harmless. Every heartbeat a beat goes over each link, with the load that is
meant for that peer. What follows is published on the bus: raw facts at once, topology events in
the order of CONFORMANCE C050-C054.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn, Protocol

from offload.clock import Clock
from offload.errors import Malformed
from offload.events import Bus
from offload.peers.membership.listeners import Listener, Listeners
from offload.peers.membership.pulses import Pulse, Pulses
from offload.peers.topology import (
    Address,
    Announcement,
    Fact,
    Gone,
    Heard,
    LoadChanged,
    Property,
    Silent,
    Topology,
    TopologyEvent,
    TopologyView,
    Version,
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
REASON_LIMIT: Final = 200
CLOCKS_APART_S: Final = 300.0  # people should see that; the protocol does not mind


class Links(Protocol):
    """What is asked of the transport."""

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """Queue a frame for the peer; False if that can't be."""
        ...

    def drop(self, peer: str, reason: str) -> None:
        """Cut the link to the peer, if there is one."""
        ...


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
        self._told: dict[str, dict[str, Version]] = {}  # linked peer -> what it knows of whom
        self._told_links: dict[str, frozenset[str]] = {}
        self._load_for: Callable[[str], dict[str, Any]] | None = None
        self._number = 0
        self._beat_at = clock.now()
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
        nothing. A listener must not block; ``events`` is for those who take their time.
        """
        return self._listeners.add(listener)

    def events(self) -> AsyncIterator[TopologyEvent]:
        """Yield the topology events from the first ``anext`` on, INIT first."""
        return self._listeners.stream()

    # --- for the node --------------------------------------------------------------------------

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of the frames that belong here, for the transport."""
        return {"announce": self._announced, "beat": self._beaten, "forget": self._told_to_forget}

    async def run(self) -> NoReturn:
        """Beat and watch until cancelled."""
        while True:
            self.tick()
            await self._clock.sleep(self._heartbeat_s / TICKS_PER_BEAT)

    def tick(self) -> None:
        """Do what it is time for."""
        now = self._clock.now()
        self._tell(self._topology.tick(now))
        self._listeners.tick(self._look, now)
        if now >= self._beat_at:
            # from now, not from when it was due: after a sleep one beat is enough
            self._beat_at = now + self._heartbeat_s
            self._number += 1
            for peer in self._told:
                self._beat(peer, timed=True)
                self._spread(peer)

    # --- links ---------------------------------------------------------------------------------

    def _link_up(self, event: LinkUp) -> None:
        self._told[event.peer] = {}
        self._told_links.pop(event.peer, None)
        now = self._clock.now()
        facts = self._topology.linked(event.peer, now, uptime_s=event.hello.uptime_s)
        self._spread(event.peer)  # all that we know in one message: our part meets theirs
        self._tell(facts)
        self._beat_all()

    def _link_down(self, event: LinkDown) -> None:
        self._told.pop(event.peer, None)
        self._told_links.pop(event.peer, None)
        self._pulses.forget(event.peer)
        facts = self._topology.left(event.peer) if event.goodbye else []
        self._tell(facts + self._topology.unlinked(event.peer, self._clock.now()))
        self._beat_all()

    # --- frames --------------------------------------------------------------------------------

    def _announced(self, peer: str, frames: list[dict[str, Any]]) -> None:
        told = self._told.setdefault(peer, {})
        parted = peer not in told and any(fields.get("knows") is False for fields in frames)
        heard: list[Announcement] = []
        numbers: dict[str, int] = {}
        wrong: Malformed | None = None
        facts: list[Fact] = []
        for fields in frames:
            try:
                announcement = Announcement.from_wire(fields.get("announcement"))
                number = count(fields, "number")
                if "knew" in fields:
                    facts += self._topology.outdo(*_version(fields["knew"]), self._number)
            except Malformed as error:
                wrong = error
                continue
            heard.append(announcement)
            numbers[announcement.id] = number
            known = told.get(announcement.id)
            if known is None or known < announcement.state:
                told[announcement.id] = announcement.state
        now = self._clock.now()
        facts += self._topology.hear(heard, peer, now, numbers=numbers, parted=parted)
        self._tell(facts)
        if wrong is not None:
            raise wrong

    def _beaten(self, peer: str, frames: list[dict[str, Any]]) -> None:
        now = self._clock.now()
        for fields in frames:
            load = fields.get("load", {})
            if not isinstance(load, dict):
                raise Malformed("beat: load is not a map")
            facts = self._topology.beat(peer, count(fields, "number"), load, now)
            facts += self._topology.pass_on(peer, _numbers(fields.get("others", {})), now)
            if "links" in fields:
                facts += self._topology.neighbours(peer, _ids(fields["links"]), now)
                self._spread(peer)
            self._tell(facts)
            self._measure(peer, fields, now)

    def _measure(self, peer: str, fields: dict[str, Any], now: float) -> None:
        before = self._pulses.of(peer)
        self._pulses.hear(peer, fields, now, self._clock.wall())
        pulse = self._pulses.of(peer)
        if before is None and pulse is not None and abs(pulse.ahead_s) > CLOCKS_APART_S:
            how = "ahead of" if pulse.ahead_s > 0 else "behind"
            known = self._topology.view.get(peer)
            name = known.name if known else peer
            log.warning("the clock of %s is %.0f s %s ours", name, abs(pulse.ahead_s), how)

    def _told_to_forget(self, peer: str, frames: list[dict[str, Any]]) -> None:
        for fields in frames:
            reason = fields.get("reason", "")
            if not isinstance(reason, str):
                raise Malformed("forget: reason is not a text")
            facts = self._topology.forget(
                check_id(fields.get("id")),
                count(fields, "boot"),
                count(fields, "number"),
                via=peer,
                reason=reason[:REASON_LIMIT],
            )
            self._tell(facts)

    def _spread(self, peer: str) -> None:
        """Tell ``peer`` the announcements that it does not know and will not hear first-hand."""
        told = self._told.get(peer)
        if told is None:
            return
        for announcement in self._topology.announcements():
            known = told.get(announcement.id)
            if announcement.id == peer or (known is not None and known >= announcement.state):
                continue
            if self._topology.linked_to(peer, announcement.id):
                continue
            own = announcement.id == self._topology.own.id
            fields: dict[str, Any] = {
                "announcement": announcement.to_wire(),
                "number": self._number if own else self._topology.number_of(announcement.id),
            }
            if own:
                fields["knows"] = self._topology.knows(peer)
                former = self._topology.known_of(peer)
                if former is not None:
                    fields["knew"] = [*former[0], former[1]]
            if not self._links.send(peer, "announce", fields):
                return  # the next heartbeat tries again
            told[announcement.id] = announcement.state

    def _beat_all(self) -> None:
        for peer in self._told:
            self._beat(peer)

    def _beat_hasty(self) -> None:
        hasty, self._hasty = self._hasty, set()
        for peer in hasty & self._told.keys():
            self._beat(peer)

    def _beat(self, peer: str, *, timed: bool = False) -> None:
        topology = self._topology
        fields: dict[str, Any] = {
            "number": self._number,
            "generation": topology.own.generation,
            "load": topology.own_load if self._load_for is None else self._load_for(peer),
        }
        others = topology.numbers_for(peer)
        if others:
            fields["others"] = {i: list(numbers) for i, numbers in others.items()}
        if timed:
            fields |= self._pulses.said(peer, self._clock.now(), self._clock.wall())
        links = topology.live_links() - {peer}
        if links != self._told_links.get(peer):
            fields["links"] = sorted(links)
        if self._links.send(peer, "beat", fields):
            self._told_links[peer] = links

    # --- what follows --------------------------------------------------------------------------

    def _tell(self, facts: list[Fact]) -> None:
        """Publish ``facts``, and do what they ask for."""
        for fact in facts:
            self._bus.publish(fact)
            match fact:
                case Gone():
                    self._pass_on_end(fact)
                case Silent() if fact.id in self._told:
                    # A packet that the network lost is sent again after a while that doubles: a
                    # link made anew is faster than one that was cut.
                    self._links.drop(fact.id, "silent")
        if any(not isinstance(fact, LoadChanged | Silent | Heard) for fact in facts):
            self._listeners.feed(self._look, self._clock.now())
            for peer in list(self._told):
                self._spread(peer)

    def _pass_on_end(self, gone: Gone) -> None:
        """Tell an end that is confirmed; should it come back, all are told of it anew."""
        past = self._topology.past(gone.id)
        for peer, told in self._told.items():
            if told.pop(gone.id, None) is not None and past is not None and gone.confirmed:
                fields = {
                    "id": gone.id,
                    "boot": past.announcement.boot,
                    "number": past.number,
                    "reason": gone.reason,
                }
                self._links.send(peer, "forget", fields)

    def _look(self) -> TopologyView:
        return self._topology.view

    def _publish(self, event: TopologyEvent) -> None:
        if event.old is not None and event.new is not None:
            names = ", ".join(i.name for i in event.new.instances)
            log.info("topology %s: %s", event.kind, names)
        self._bus.publish(event)


def _numbers(value: object) -> dict[str, tuple[int, int]]:
    if not isinstance(value, dict):
        raise Malformed("beat: others is not a map")
    numbers: dict[str, tuple[int, int]] = {}
    for instance_id, entry in value.items():
        match entry:
            case [int(boot), int(number)] if boot >= 0 and number >= 0:
                numbers[check_id(instance_id)] = boot, number
            case _:
                raise Malformed("beat: others holds what is not [boot, number]")
    return numbers


def _version(value: object) -> tuple[Version, int]:
    match value:
        case [int(boot), int(incarnation), int(generation), int(number)]:
            return Version(boot, incarnation, generation), number
    raise Malformed("announce: knew is not [boot, incarnation, generation, number]")


def _ids(value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise Malformed("beat: links is not a list")
    return frozenset(check_id(entry) for entry in value)
