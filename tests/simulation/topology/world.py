"""
Virtual time and a network: what a seed decides, and nothing else, happens.

Links behave as TCP does. What is sent arrives whole and in order; a lost packet costs a while that
doubles; what cannot pass gets stuck, and arrives when the way is free again, unless one side has
given the link up. Whoever crashes resets its links and refuses new ones; whoever is asleep, paused
or cut off does not answer at all.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.simulation.topology.station import Station

RESEND_S: Final = 0.2
GIVE_UP_S: Final = 10.0  # TCP_USER_TIMEOUT
Frame = tuple[str, dict[str, Any]]


@dataclass(eq=False)
class Wire:
    """One link: which of its ends hold it for up, and what is on its way to each."""

    ends: tuple[str, str]
    up: set[str]
    waiting: dict[str, list[Frame]] = field(default_factory=dict)  # by sender: not yet sent
    stuck: dict[str, list[list[Frame]]] = field(default_factory=dict)  # by sender: cannot pass
    arrives_at: dict[str, float] = field(default_factory=dict)  # by sender: its latest message

    def other(self, end: str) -> str:
        return self.ends[1] if end == self.ends[0] else self.ends[0]


class World:
    """
    All stations, and what lies between them.

    Args:
        seed: What all chances follow from.
        delay_s: The least and the most that a message takes.
        loss: How many of the packets are lost.
    """

    def __init__(
        self, seed: int = 0, *, delay_s: tuple[float, float] = (0.0003, 0.002), loss: float = 0.0
    ) -> None:
        self.chance = random.Random(seed)
        self.delay_s = delay_s
        self.loss = loss
        self.now = 0.0
        self.stations: dict[str, Station] = {}
        self.parts: list[frozenset[str]] = []  # of a partition; none: all reach all
        self.messages: Counter[str] = Counter()  # by sender
        self.frames: Counter[str] = Counter()  # by kind
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()

    # --- time ----------------------------------------------------------------------------------

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._number), what))

    def pass_s(self, seconds: float) -> None:
        """Let so much time pass."""
        self.pass_until(lambda: False, seconds)

    def pass_until(
        self, holds: Callable[[], bool], within_s: float, every_s: float = 0.05
    ) -> float | None:
        """Let time pass until ``holds``; return how long that took, None if it never did."""
        began, ends_at = self.now, self.now + within_s
        while not holds():
            if self.now >= ends_at:
                return None
            asked_at = min(self.now + every_s, ends_at)
            while self._events and self._events[0][0] <= asked_at:
                self.now, _, what = heapq.heappop(self._events)
                what()
            self.now = asked_at
        return self.now - began

    # --- who is there --------------------------------------------------------------------------

    def living(self) -> list["Station"]:
        return [s for s in self.stations.values() if s.alive and not s.paused]

    def reach(self, one: str, other: str) -> bool:
        """Say whether packets pass between two hosts."""
        if self.stations[one].asleep or self.stations[other].asleep:
            return False
        if frozenset((one, other)) in self.shunned:
            return False
        if not self.parts:
            return True
        return any(one in part and other in part for part in self.parts)

    shunned: set[frozenset[str]] = set()  # noqa: RUF012 - replaced, never changed

    def divide(self, *parts: Iterable[str]) -> None:
        """Cut the network into these parts."""
        self.parts = [frozenset(part) for part in parts]

    def heal(self) -> None:
        """End every cut; what got stuck arrives."""
        self.parts, self.shunned = [], set()
        self.unstick()

    def unstick(self) -> None:
        """Let arrive what may pass by now."""
        for station in list(self.stations.values()):
            for wire in list(station.wires.values()):
                if self.reach(*wire.ends):
                    for sender in wire.ends:
                        for frames in wire.stuck.pop(sender, []):
                            self._carry(wire, sender, frames)

    # --- messages ------------------------------------------------------------------------------

    def latency_s(self) -> float:
        """Return how long a message takes; a lost packet is sent again after a while."""
        taken_s, wait_s = self.chance.uniform(*self.delay_s), RESEND_S
        while self.chance.random() < self.loss:
            taken_s, wait_s = taken_s + wait_s, wait_s * 2
        return taken_s

    def send(self, wire: Wire, sender: str, kind: str, fields: dict[str, Any]) -> None:
        """Put a frame on a wire; what is sent at one moment is one message."""
        self.frames[kind] += 1
        if sender not in wire.waiting:
            wire.waiting[sender] = []
            self.after(0.0, lambda: self._flush(wire, sender))
        wire.waiting[sender].append((kind, fields))

    def _flush(self, wire: Wire, sender: str) -> None:
        frames = wire.waiting.pop(sender)
        if sender in wire.up:
            self.messages[sender] += 1
            self._carry(wire, sender, frames)

    def _carry(self, wire: Wire, sender: str, frames: list[Frame]) -> None:
        if not self.reach(*wire.ends):
            stuck = wire.stuck.setdefault(sender, [])
            stuck.append(frames)
            if len(stuck) == 1:
                self.after(GIVE_UP_S, lambda: self._give_up(wire, sender, stuck))
            return
        at = max(self.now + self.latency_s(), wire.arrives_at.get(sender, 0.0))
        wire.arrives_at[sender] = at
        self.after(at - self.now, lambda: self._arrive(wire, sender, frames))

    def _give_up(self, wire: Wire, sender: str, stuck: list[list[Frame]]) -> None:
        if wire.stuck.get(sender) is stuck:
            self.lose(wire, sender, "nothing is confirmed")

    def _arrive(self, wire: Wire, sender: str, frames: list[Frame]) -> None:
        target = self.stations[wire.other(sender)]
        if not self.reach(*wire.ends):
            wire.stuck.setdefault(sender, []).append(frames)
        elif target.id in wire.up and target.alive:
            target.hear(wire, frames)
        else:
            self.lose(wire, sender, "reset")

    # --- links ---------------------------------------------------------------------------------

    def link(self, dialler: str, acceptor: str) -> None:
        """Make a link; nothing happens if there is one."""
        one, other = self.stations[dialler], self.stations[acceptor]
        former = one.wires.get(acceptor)
        if former is not None and former.up == set(former.ends):
            return
        for station, peer in ((one, acceptor), (other, dialler)):
            if peer in station.wires:
                self.lose(station.wires[peer], station.id, "replaced")
        wire = Wire((dialler, acceptor), {dialler, acceptor})
        other.take_up(wire, one, dialled=False)
        one.take_up(wire, other, dialled=True)

    def lose(self, wire: Wire, end: str, reason: str, *, goodbye: bool = False) -> None:
        """Let one end hold the link for lost; the other one learns of that if it can be told."""
        if end not in wire.up:
            return
        wire.up.discard(end)
        station, peer = self.stations[end], wire.other(end)
        station.lose(wire, reason, goodbye=goodbye)
        if self.reach(*wire.ends):
            self.after(self.latency_s(), lambda: self._reset(wire, peer, goodbye=False))

    def release(self, wire: Wire) -> None:
        """Let both ends give the link up."""
        for end in tuple(wire.up):
            wire.up.discard(end)
            self.stations[end].lose(wire, "not needed", spare=True)

    def _reset(self, wire: Wire, end: str, *, goodbye: bool) -> None:
        if self.reach(*wire.ends):
            self.lose(wire, end, "it leaves" if goodbye else "reset", goodbye=goodbye)

    def unplug(self, station: "Station", *, goodbye: bool) -> None:
        """End all links of a station that ended: by a goodbye, or as the system does it."""
        for wire in list(station.wires.values()):
            wire.up.discard(station.id)
            peer = wire.other(station.id)
            if self.reach(*wire.ends):
                self.after(
                    self.latency_s(),
                    lambda wire=wire, peer=peer: self._reset(wire, peer, goodbye=goodbye),
                )
        station.wires.clear()


def pairs(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each pair once."""
    listed = list(names)
    for place, one in enumerate(listed):
        for other in listed[place + 1 :]:
            yield one, other
