"""One instance of the simulation: the real membership and the real choice of whom to dial."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from offload.events import Bus
from offload.peers.discovery.candidates import Candidate, Candidates
from offload.peers.membership import LinkWanted, Membership
from offload.peers.topology import (
    NO_PART,
    Announcement,
    Appeared,
    Fact,
    Restarted,
    Topology,
    TopologyEvent,
    Updated,
)
from offload.peers.transport import Hello, LinkDown, LinkUp
from tests.simulation.topology.world import Frame, Wire, World

TICK_S: Final = 0.25
DIAL_TIMEOUT_S: Final = 4.0
DIAL_SOON_S: Final = 0.001
PORT: Final = 4711
HEARD_OF_S: Final = (0.05, 1.0)  # how long mDNS takes


class Clock:
    """The clock of one host, which may be wrong and run fast."""

    def __init__(self, world: World, *, offset_s: float, rate: float) -> None:
        self._world = world
        self._offset_s = offset_s
        self._rate = rate

    def now(self) -> float:
        return self._offset_s + self._world.now * self._rate

    def wall(self) -> float:
        return self.now()

    def jump(self, seconds: float) -> None:
        """Let the time pass that its host has slept."""
        self._offset_s += seconds

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError("the simulation ticks")


class Station:
    """
    A host with an instance on it; ``finds`` says whether it looks for others by itself.

    Attributes:
        events: The topology events that it told.
        facts: Each with the time at which it was told.
    """

    def __init__(
        self,
        world: World,
        name: str,
        boot: int = 1,
        *,
        heartbeat_s: float = 1.0,
        lease_s: float = 15.0,
        rate: float = 1.0,
        rank: int = 0,
    ) -> None:
        self.world, self.id, self.boot = world, name, boot
        self.clock = Clock(world, offset_s=world.chance.uniform(0, 1e6), rate=rate)
        self.born_at = self.clock.now()
        self.alive = True
        self.paused = False
        self.asleep = False
        self.wires: dict[str, Wire] = {}
        self.events: list[TopologyEvent] = []
        self.facts: list[tuple[float, Fact]] = []
        self._about_to_dial = False
        self._late: list[Callable[[], None]] = []
        bus = Bus()
        own = Announcement(name, name, boot, rank=rank, addresses=((name, PORT),))
        self._topology = Topology(own, self.born_at, heartbeat_s=heartbeat_s, lease_s=lease_s)
        self.membership = Membership(self._topology, self, bus, self.clock, heartbeat_s=heartbeat_s)
        self.membership.listen(self.events.append)
        self.candidates = Candidates(name)
        self._bus = bus
        self._handlers = self.membership.handlers()
        bus.listen(Fact, self._note)
        for kind in (Appeared, Updated, Restarted):
            bus.listen(kind, self._told_of)
        bus.listen(LinkWanted, self._wanted)
        self._tick_s = TICK_S * heartbeat_s
        world.stations[name] = self
        world.after(world.chance.uniform(0, self._tick_s), self._tick)

    # --- what it sees --------------------------------------------------------------------------

    @property
    def order(self) -> tuple[str, ...]:
        return tuple(i.id for i in self.membership.view.instances)

    @property
    def leader(self) -> str:
        return self.membership.view.leader.id

    def sees(self) -> frozenset[str]:
        return frozenset(i.id for i in self.membership.view.instances)

    def told(self, *kinds: type[Fact], since: float = 0.0) -> list[Fact]:
        return [fact for at, fact in self.facts if at >= since and isinstance(fact, kinds)]

    # --- what happens to it --------------------------------------------------------------------

    def acquaint(self, others: Iterable[Announcement]) -> None:
        """Know these as members."""
        for said in others:
            self._topology._admit(said, said.id, self.clock.now(), NO_PART)
        for member in self._topology.table.members.values():  # so many of them are a crowd
            self._topology._vigil.watch(member, self.clock.now())

    def hears_of(self, *names: str) -> None:
        """Let mDNS tell of others, each after a while."""
        for name in names:
            self.world.after(
                self.world.chance.uniform(*HEARD_OF_S), lambda name=name: self._found(name)
            )

    def crash(self) -> None:
        self.alive = False
        self.world.unplug(self, goodbye=False)

    def leave(self) -> None:
        self.alive = False
        self.world.unplug(self, goodbye=True)

    def pause(self) -> None:
        """Stop as SIGSTOP does: the system still takes what arrives."""
        self.paused = True

    def sleep(self) -> None:
        """Close the lid: neither runs nor takes anything."""
        self.paused = self.asleep = True

    def wake(self, slept_s: float = 0.0) -> None:
        """Go on; ``slept_s`` is what the clock shows beyond the time of the simulation."""
        self.clock.jump(slept_s)
        self.paused = self.asleep = False
        late, self._late = self._late, []
        for what in late:
            self.world.after(self.world.chance.uniform(0, 0.01), what)
        self.world.unstick()

    # --- links, for the membership -------------------------------------------------------------

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        wire = self.wires.get(peer)
        if wire is None:
            return False
        self.world.send(wire, self.id, kind, fields)
        return True

    def drop(self, peer: str, reason: str) -> None:
        wire = self.wires.get(peer)
        if wire is not None:
            self.world.after(0.0, lambda: self.world.lose(wire, self.id, reason))

    def release(self, peer: str) -> None:
        wire = self.wires.get(peer)
        if wire is not None:
            self.world.after(0.0, lambda: self.world.release(wire))

    # --- links, for the world ------------------------------------------------------------------

    def take_up(self, wire: Wire, peer: "Station", *, dialled: bool) -> None:
        if not self._awake(lambda: self.take_up(wire, peer, dialled=dialled)):
            return
        if self.id not in wire.up:
            return
        self.wires[peer.id] = wire
        self.candidates.linked(peer.id, (peer.id, PORT), self.clock.now(), dialled=dialled)
        uptime_s = peer.clock.now() - peer.born_at
        hello = Hello((1, 1), peer.id, peer.id, "s", peer.boot, "r", PORT, uptime_s)
        self._bus.publish(LinkUp(peer.id, hello, f"{peer.id}:{PORT}", dialled))

    def lose(self, wire: Wire, reason: str, *, goodbye: bool = False, spare: bool = False) -> None:
        if not self._awake(lambda: self.lose(wire, reason, goodbye=goodbye, spare=spare)):
            return
        peer = wire.other(self.id)
        if self.wires.get(peer) is not wire:
            return
        del self.wires[peer]
        self._bus.publish(LinkDown(peer, reason, goodbye, spare))
        if not goodbye and not spare:
            self.candidates.hurry(peer, self.clock.now())
            self._dial_soon()

    def hear(self, wire: Wire, frames: list[Frame]) -> None:
        if not self._awake(lambda: self.hear(wire, frames)):
            return
        peer = wire.other(self.id)
        if self.wires.get(peer) is not wire:
            return
        kinds: dict[str, list[dict[str, Any]]] = {}
        for kind, fields in frames:
            kinds.setdefault(kind, []).append(fields)
        for kind, fields_of_all in kinds.items():
            self._handlers[kind](peer, fields_of_all)

    # --- inside --------------------------------------------------------------------------------

    def _awake(self, what: Callable[[], None]) -> bool:
        if self.alive and self.paused:
            self._late.append(what)
        return self.alive and not self.paused

    def _tick(self) -> None:
        if not self.alive:
            return
        if self.paused:
            self._late.append(self._tick)
            return
        self.membership.tick()
        self._dial_soon()
        self.world.after(self._tick_s, self._tick)

    def _note(self, fact: Fact) -> None:
        self.facts.append((self.world.now, fact))

    def _found(self, name: str) -> None:
        if self.alive and not self.paused and self.world.reach(self.id, name):
            self.candidates.find(name, [(name, PORT)], self.clock.now(), stranger=True)
            self._dial_soon()

    def _told_of(self, fact: Fact) -> None:
        if self.membership.wants(fact.id):
            self._find_member(fact.id)

    def _wanted(self, wanted: LinkWanted) -> None:
        self._find_member(wanted.peer)

    def _find_member(self, name: str) -> None:
        addresses = self.membership.addresses_of(name)
        if addresses and name != self.id:
            self.candidates.find(name, addresses, self.clock.now(), stranger=False)
            self._dial_soon()

    def _dial_soon(self) -> None:
        if not self._about_to_dial:
            self._about_to_dial = True
            self.world.after(DIAL_SOON_S, self._dial_due)

    def _dial_due(self) -> None:
        self._about_to_dial = False
        if not self.alive or self.paused:
            return
        linked, wants = self.wires.keys(), self.membership.wants
        for candidate in self.candidates.due(self.clock.now(), linked, wants):
            self._dial(candidate)

    def _dial(self, candidate: Candidate) -> None:
        world, target = self.world, self.world.stations[candidate.id]
        if not world.reach(self.id, target.id) or (target.alive and target.paused):
            world.after(DIAL_TIMEOUT_S, lambda: self._tried(candidate, reached=False))
        elif target.alive:
            world.after(2 * world.latency_s(), lambda: self._reach(candidate))
        else:
            world.after(world.latency_s(), lambda: self._refused(candidate))

    def _reach(self, candidate: Candidate) -> None:
        target = self.world.stations[candidate.id]
        reached = (
            self.alive
            and target.alive
            and not self.paused
            and not target.paused
            and self.world.reach(self.id, target.id)
        )
        if reached:
            self.world.link(self.id, target.id)
        self._tried(candidate, reached=reached)

    def _refused(self, candidate: Candidate) -> None:
        if self.alive and not self.paused and candidate.near:
            self.membership.refused(candidate.id)
        self._tried(candidate, reached=False)

    def _tried(self, candidate: Candidate, *, reached: bool) -> None:
        urgent = candidate.near and self.membership.knows(candidate.id)
        self.candidates.tried(candidate, self.clock.now(), reached=reached, urgent=urgent)
