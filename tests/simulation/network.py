"""The network between the stations, and all that networks do to frames."""

import itertools
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.simulation.neighbours import Neighbours
    from tests.simulation.station import Life, Station
    from tests.simulation.world import World

LOOK_S: Final = 0.5  # how soon a dial is tried again, and a dead link found out about
SILENT_S: Final = 3.0  # without a sign a link is given up
GONE_S: Final = 15.0  # without a sign a member is gone, unconfirmed
HONEST: Final = ("beat", "offer")  # whoever offers, is believed: members may give work
LATE_S: Final = (3.0, 12.0, 60.0)  # a frame, or a copy of it, may be so late

Frames = list[tuple[str, dict[str, Any]]]


class Network:
    """
    Carries frames between stations: late, twice, in another order, or not at all.

    Attributes:
        cuts: ``(from, to)`` of those whose frames are lost.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self._chance = world.dice["network"]
        choice = self._chance.choice
        self.loss = choice([0.0, 0.0, 0.05, 0.2, 0.4])
        self.doubling = choice([0.0, 0.05, 0.3])
        self.late = choice([0.0, 0.0, 0.05, 0.2])
        self.delay_s = choice([0.002, 0.05, 0.5])
        self.forging = choice([0.0, 0.0, 0.05])
        self.cuts: set[tuple[str, str]] = set()
        self._cables = itertools.count(1)
        self._bad_since: dict[tuple[str, str], float] = {}

    def calm(self) -> None:
        """End all trouble."""
        self.loss = self.doubling = self.late = self.forging = 0.0
        self.cuts.clear()

    def cut(self, one: str, other: str, *, one_way: bool = False) -> list[tuple[str, str]]:
        """Lose all that is sent from one to the other, and back; return what ``heal`` takes."""
        ways = [(one, other)] if one_way else [(one, other), (other, one)]
        self.cuts.update(ways)
        return ways

    def heal(self, ways: list[tuple[str, str]]) -> None:
        """End a cut."""
        self.cuts.difference_update(ways)

    def is_cut(self, near: "Neighbours", there: "Station") -> bool:
        """Say whether nothing can be fetched from there."""
        apart = (near.id, there.id) in self.cuts or (there.id, near.id) in self.cuts
        return apart or there.life is None or there.life.paused

    # --- frames -------------------------------------------------------------------------------

    def carry(self, source: "Station", target: str, frames: Frames) -> None:
        """Take what was sent in one moment to its target, each kind as one batch, or one by one."""
        batches: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for kind, fields in frames:
            for _ in range(self._fate(source.id, target)):
                batches[kind].append(fields)
        together = self._chance.random() < 0.5
        delay_s = self._delay_s()
        for kind, batch in batches.items():
            parts = [batch] if together else [[fields] for fields in batch]
            for part in parts:
                self._send(delay_s if together else self._delay_s(), source.id, target, kind, part)
            self._forge(source.id, target, kind, batch)

    def _send(
        self, delay_s: float, source: str, target: str, kind: str, batch: list[dict[str, Any]]
    ) -> None:
        """Deliver a batch, or a copy of it much later, or both."""
        chance = self._chance.random()
        if chance < self.late:
            late_s = self._chance.uniform(0.1, self._chance.choice(LATE_S))
            self._deliver(late_s, source, target, kind, batch)
        if chance >= self.late / 2:
            self._deliver(delay_s, source, target, kind, batch)

    def _fate(self, source: str, target: str) -> int:
        if (source, target) in self.cuts or self._chance.random() < self.loss:
            return 0
        return 2 if self._chance.random() < self.doubling else 1

    def _delay_s(self) -> float:
        return self.delay_s * self._chance.uniform(0.2, 3.0)

    def _deliver(
        self, delay_s: float, source: str, target: str, kind: str, batch: list[dict[str, Any]]
    ) -> None:
        self._world.loop.call_later(delay_s, self._arrive, source, target, kind, batch)

    def _arrive(self, source: str, target: str, kind: str, batch: list[dict[str, Any]]) -> None:
        life = self._world.stations[target].life
        if life is not None and life.neighbours.open_:
            if kind != "beat":
                self._world.note("{} -> {} {} {}", source, target, kind, batch)
            self._world.loop.call_soon(
                life.fire, life.neighbours.hear, (source, kind, batch), context=life.context
            )

    def _forge(self, source: str, target: str, kind: str, batch: list[dict[str, Any]]) -> None:
        """Let another member say now and then what this one said."""
        if self.forging and kind not in HONEST and self._chance.random() < self.forging:
            others = [i for i in self._world.stations if i not in (source, target)]
            another = self._chance.choice(others)
            self._deliver(self._delay_s(), another, target, kind, batch)

    # --- links --------------------------------------------------------------------------------

    def look(self) -> None:
        """See which links come up and which are given up; comes again by itself."""
        for one, other in self._world.pairs:
            self._look_at(self._world.stations[one], self._world.stations[other])
        self._world.loop.call_later(LOOK_S, self.look)

    def died(self, station: "Station", *, refuses: bool) -> None:
        """The daemon of a station has ended; its machine tells that if it is up."""
        if not refuses:
            return
        for other in self._others(station):
            if other.life is not None and not self._apart(station, other):
                delay_s = self._delay_s()
                other.life.later(delay_s, other.life.neighbours.unlinked, station.id, "reset")

    def farewell(self, station: "Station") -> None:
        """The daemon of a station has said goodbye and ended."""
        for other in self._others(station):
            if other.life is not None and not self._apart(station, other):
                near = other.life.neighbours
                other.life.later(self._delay_s(), near.unlinked, station.id, "goodbye")
                other.life.later(self._delay_s(), self._gone, near, station, "it left")

    def _others(self, station: "Station") -> list["Station"]:
        pairs = [pair for pair in self._world.pairs if station.id in pair]
        return [self._world.stations[a if b == station.id else b] for a, b in pairs]

    def _apart(self, one: "Station", other: "Station") -> bool:
        return (one.id, other.id) in self.cuts or (other.id, one.id) in self.cuts

    def _look_at(self, one: "Station", other: "Station") -> None:
        apart = self._apart(one, other)
        if apart or not (_awake(one) and _awake(other)):
            self._without_sign(one, other, apart=apart)
            return
        self._bad_since.pop((one.id, other.id), None)
        if one.life is not None and other.life is not None:
            self._link(one.life, other.life)

    def _link(self, one: "Life", other: "Life") -> None:
        here, there = one.neighbours, other.neighbours
        cable = here.links.get(there.id)
        if cable is None or there.links.get(here.id) != cable:
            cable = next(self._cables)
            for life, near, far in ((one, here, there), (other, there, here)):
                life.later(0.0, near.unlinked, far.id, "replaced")
                life.later(self._chance.uniform(0.01, 0.1), near.linked_with, far, cable)

    def _without_sign(self, one: "Station", other: "Station", *, apart: bool) -> None:
        now = self._world.now()
        since = self._bad_since.setdefault((one.id, other.id), now)
        for near, far in ((one, other), (other, one)):
            if near.life is None or not _awake(near):
                continue
            neighbours = near.life.neighbours
            if not apart and far.life is None and far.up:
                near.life.later(self._delay_s(), self._gone, neighbours, far, "refused")
            elif now - since > SILENT_S:
                near.life.later(0.0, neighbours.unlinked, far.id, "silent")
                if now - since > GONE_S:
                    near.life.later(
                        0.0, partial(neighbours.gone, confirmed=False), far.id, "silent"
                    )

    def _gone(self, near: "Neighbours", far: "Station", reason: str) -> None:
        if far.life is None:
            near.unlinked(far.id, reason)
            near.gone(far.id, reason, confirmed=True)


def _awake(station: "Station") -> bool:
    life = station.life
    return life is not None and not life.paused and life.neighbours.open_
