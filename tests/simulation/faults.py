"""What befalls a world: everything that machines, disks and networks do to honest programs."""

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from offload.errors import DiskFull
from tests.simulation.station import Life, Station

if TYPE_CHECKING:
    from tests.simulation.world import World

FAULTS: Final = (
    *("kill", "kill", "power", "pause", "pause", "freeze", "cut", "cut", "one_way", "split"),
    *("disk", "back_up", "drain", "close_gate", "reserve", "set_wall"),
)
LASTS_S: Final = (0.3, 2.0, 5.0, 9.0, 20.0)
STEPS_S: Final = (-3600.0, -300.0, 300.0, 30 * 86400.0)


class Faults:
    """
    The trouble of one world; it ends with ``heal``.

    Attributes:
        lost: The stations that never come back.
        refusing: Which part of the offers is refused.
        over: Whether all trouble has ended.
    """

    def __init__(self, world: "World", until_s: float) -> None:
        self._world = world
        self._network = world.network
        self._later = world.loop.call_later
        self._chance = chance = world.dice["faults"]
        self.lost: set[str] = set()
        self.over = False
        aim, refusing = chance.choice([0.0, 0.0, 0.003, 0.01]), chance.choice([0.0, 0.0, 0.1, 0.3])
        self._aim = aim if world.focus.aim is None else world.focus.aim
        self.refusing = refusing if world.focus.refusing is None else world.focus.refusing
        names = world.focus.faults or FAULTS
        for _ in range(chance.choice([8, 16] if world.focus.faults else [0, 3, 8, 16])):
            fault = getattr(self, f"_{chance.choice(names)}")
            world.loop.call_at(chance.uniform(0.5, until_s * 0.95), fault)
        if chance.random() < 0.1:
            lost = chance.choice([name for name in world.stations if name not in world.origins])
            world.loop.call_at(chance.uniform(5.0, until_s), self._lose, world.stations[lost])

    def refuses(self) -> bool:
        """Say whether somebody changes its mind about what it runs, just now."""
        return self.refusing > 0 and self._chance.random() < self.refusing

    def aims(self) -> str:
        """Say whether a crash hits this very commit: "before" it, "after" it, or ""."""
        if self.over or not self._aim or self._chance.random() >= self._aim:
            return ""
        return self._chance.choice(["before", "after"])

    def crash(self, station: Station) -> None:
        """End a station's daemon, and start it again after a while."""
        self._down(station, self._chance.choice(LASTS_S[:3]), power=self._chance.random() < 0.3)

    def heal(self) -> None:
        """End all trouble; who is not lost comes back."""
        self._world.note("all faults end")
        self.over = True
        self._network.calm()
        self.refusing = 0.0
        for station in self._world.stations.values():
            self._set_disk(station, "room")
            station.reserved = ""
            station.go_on()
            self._up(station)
            self._open_gate(station)

    # --- lives --------------------------------------------------------------------------------

    def _any(self) -> Station:
        origins, hits = self._world.origins, self._world.focus.hits
        names = [
            name
            for name in self._world.stations
            if name not in self.lost and (not hits or (name in origins) == (hits == "origins"))
        ]
        return self._world.stations[self._chance.choice(names)]

    def _while(self) -> float:
        return self._chance.choice(LASTS_S)

    def _down(self, station: Station, for_s: float, *, power: bool = False) -> None:
        station.kill(power=power)
        self._later(for_s, self._up, station)

    def _up(self, station: Station) -> None:
        if station.id not in self.lost:
            station.start()

    def _kill(self) -> None:
        self._down(self._any(), self._while())

    def _power(self) -> None:
        self._down(self._any(), self._while(), power=True)

    def _pause(self, *, machine: bool = False) -> None:
        station = self._any()
        station.pause(machine=machine)
        self._later(self._while(), station.go_on)

    def _freeze(self) -> None:
        self._pause(machine=True)

    def _lose(self, station: Station) -> None:
        station.kill(power=self._chance.random() < 0.5)
        self.lost.add(station.id)
        self._world.note("{} is gone for ever", station.id)

    def _back_up(self) -> None:
        station = self._any()
        station.keep_backup()
        if self._chance.random() < 0.8:
            self._later(self._chance.uniform(1.0, 15.0), self._restore, station)

    def _restore(self, station: Station) -> None:
        if station.id not in self.lost:
            station.restore()
            self._later(1.0, self._up, station)

    def _drain(self) -> None:
        life = self._any().life
        if life is not None and not life.paused and not life.draining:
            life.draining = True
            life.start(self._drained(life, self._chance.choice([0.0, 2.0, 10.0])))

    async def _drained(self, life: Life, timeout_s: float) -> None:
        self._world.note("{} drains", life.station.id)
        with suppress(DiskFull):
            await life.distributor.drain(timeout_s)
        self._world.loop.call_soon(self._leave, life)

    def _leave(self, life: Life) -> None:
        if life.alive:
            self._down(life.station, self._while())
            self._network.farewell(life.station)

    # --- network ------------------------------------------------------------------------------

    def _cut(self, *, one_way: bool = False) -> None:
        one, other = self._chance.sample(list(self._world.stations), 2)
        ways = self._network.cut(one, other, one_way=one_way)
        self._world.note("cut: {}", ways)
        self._later(self._while(), self._network.heal, ways)

    def _one_way(self) -> None:
        self._cut(one_way=True)

    def _split(self) -> None:
        names = list(self._world.stations)
        part = self._chance.sample(names, self._chance.randint(1, len(names) - 1))
        rest = [name for name in names if name not in part]
        ways = [way for a in part for b in rest for way in self._network.cut(a, b)]
        self._world.note("split: {}", part)
        self._later(self._while(), self._network.heal, ways)

    # --- disks, queues, clocks ----------------------------------------------------------------

    def _disk(self) -> None:
        station = self._any()
        self._set_disk(station, self._chance.choice(["no-new", "full"]))
        self._later(self._while(), self._set_disk, station, "room")

    def _set_disk(self, station: Station, how: str) -> None:
        if station.disk != how:
            self._world.note("disk of {}: {}", station.id, how)
            station.disk = how

    def _close_gate(self) -> None:
        life = self._any().life
        if life is not None and not life.paused:
            life.start(self._gate(life, enabled=False))
            self._later(self._while(), self._open_gate, life.station)

    def _open_gate(self, station: Station) -> None:
        if station.life is not None:
            station.life.start(self._gate(station.life, enabled=True))

    async def _gate(self, life: Life, *, enabled: bool) -> None:
        with suppress(DiskFull):
            await life.manager.gates.set_processing(enabled=enabled)

    def _reserve(self) -> None:
        """Somebody wants the machine back for a while."""
        station = self._any()
        station.reserved = "its owner is back"
        self._later(self._while(), setattr, station, "reserved", "")
        if station.life is not None and not station.life.paused:
            own = self._chance.random() < 0.5
            station.life.start(station.life.distributor.hand_back(station.reserved, own))

    def _set_wall(self) -> None:
        self._any().wall_offset += self._chance.choice(STEPS_S)
