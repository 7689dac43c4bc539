"""What happens in the simulation, and what must hold whatever happens."""

from collections.abc import Iterable
from dataclasses import dataclass

from offload.peers.topology import Fact, Gone, Kind, Silent
from tests.simulation.topology.station import Station
from tests.simulation.topology.world import World


@dataclass(frozen=True)
class Figures:
    """What a run cost: seconds, and per instance and second."""

    took_s: float
    messages: float
    links: float
    most_links: int

    def __str__(self) -> str:
        return (
            f"{self.took_s:.2f} s, {self.messages:.1f} messages per instance and second,"
            f" {self.links:.1f} links each, {self.most_links} at most"
        )


def start(world: World, names: Iterable[str], within_s: float = 0.0, **how: float) -> list[str]:
    """Start instances at random moments; all hear of each other by mDNS."""
    listed = list(names)
    for name in listed:
        world.after(world.chance.uniform(0, within_s), lambda name=name: appear(world, name, **how))
    world.pass_s(within_s + 0.001)
    return listed


def appear(world: World, name: str, boot: int = 1, **how: float) -> Station:
    """Start one instance; it and the others hear of each other."""
    station = Station(world, name, boot, **how)
    for other in list(world.stations.values()):
        if other is not station:
            other.hears_of(name)
            station.hears_of(other.id)
    return station


def assemble(world: World, names: Iterable[str]) -> None:
    """
    Start instances that know of each other from the first moment, as after many common hours.

    So a crowd need not come together first, which takes the simulation long.
    """
    stations = [Station(world, name, rank=rank) for rank, name in enumerate(names)]
    for station in stations:
        station.acquaint([other.membership.own for other in stations if other is not station])


def restart(world: World, name: str) -> Station:
    """Start an instance that ended, in its next boot."""
    former = world.stations[name]
    assert not former.alive
    return appear(world, name, former.boot + 1)


def named(count: int) -> list[str]:
    return [f"i{number:03}" for number in range(count)]


def agree(world: World, names: Iterable[str] | None = None) -> bool:
    """Say whether these see exactly themselves, in one order (so with one leader)."""
    stations = world.living() if names is None else [world.stations[name] for name in names]
    wanted = {station.id for station in stations}
    first = stations[0].order
    return set(first) == wanted and all(station.order == first for station in stations)


def settle(world: World, within_s: float, *parts: Iterable[str]) -> float:
    """Let time pass until each part agrees; return how long it took."""
    took_s = world.pass_until(
        lambda: all(agree(world, part) for part in parts) if parts else agree(world), within_s
    )
    assert took_s is not None, f"not at one within {within_s} s: {_views(world)}"
    return took_s


def cost(world: World, over_s: float, took_s: float = 0.0) -> Figures:
    """Let time pass in peace, and return what that costs."""
    world.messages.clear()
    world.pass_s(over_s)
    links = [len(station.wires) for station in world.living()]
    per_s = sum(world.messages.values()) / len(links) / over_s
    return Figures(took_s, per_s, sum(links) / len(links), max(links))


def blamed(world: World, *kinds: type[Fact], innocent: Iterable[str]) -> list[str]:
    """Return what innocent ones have said of innocent ones."""
    names = set(innocent)
    return [
        f"{station.id} at {at:.1f}: {fact}"
        for station in world.stations.values()
        if station.id in names
        for at, fact in station.facts
        if isinstance(fact, kinds or (Gone, Silent)) and fact.id in names
    ]


def disordered(world: World) -> list[str]:
    """Return the stations whose events came in a wrong order (C050)."""
    return [s.id for s in world.stations.values() if not in_order([e.kind for e in s.events])]


def in_order(kinds: list[Kind]) -> bool:
    """Say whether it is INIT, then (CHANGING CHANGED | PROPERTIES_CHANGED)*."""
    if not kinds or kinds[0] is not Kind.INIT:
        return False
    changing = False
    for kind in kinds[1:]:
        if kind is Kind.INIT or changing is not (kind is Kind.CHANGED):
            return False
        changing = kind is Kind.CHANGING
    return True


def _views(world: World) -> str:
    views: dict[tuple[str, ...], list[str]] = {}
    for station in world.living():
        views.setdefault(station.order, []).append(station.id)
    told = [f"{', '.join(who[:5])} see {len(view)}: {view[:60]}" for view, who in views.items()]
    return "; ".join(told[:6])
