"""What a station sees of the others: its links, and a topology that is kept by them."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from offload.errors import BlobMissing, PeerUnreachable
from offload.peers.topology import (
    Appeared,
    Capability,
    Gone,
    Instance,
    LoadChanged,
    TopologyView,
)
from offload.peers.transport import Hello, LinkDown, LinkUp
from offload.tasks import Tasks

if TYPE_CHECKING:
    from tests.simulation.station import Life

BEAT_S: Final = 1.0
BEATS_WITHOUT_CHANGE: Final = 5


class Neighbours:
    """The links of one life (``distributor.Network``), and who it believes is there."""

    def __init__(self, life: "Life") -> None:
        self._life = life
        self._station = life.station
        self._handlers: Mapping[str, Callable[..., Any]] = {}
        self.links: dict[str, int] = {}  # peer -> number of the cable
        self._known: dict[str, Instance] = {self._station.id: self._instance(own=True)}
        self._view: TopologyView | None = None
        self._told: dict[str, tuple[Any, int]] = {}
        self._out: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self._tasks = Tasks()
        self.open_ = False

    def open(self, handlers: Mapping[str, Callable[..., Any]]) -> None:
        """Take links from now on."""
        self._handlers, self.open_ = handlers, True

    async def run(self) -> None:
        """Tell the peers of our places, as heartbeats do."""
        for beat in itertools.count():
            if self._station.works:
                for peer in self.links:
                    self._beat(peer, beat)
            await self._life.clock.sleep(BEAT_S)

    # --- what the distributor asks ------------------------------------------------------------

    def view(self) -> TopologyView:
        """Return who is there."""
        if self._view is None:
            self._view = TopologyView(tuple(self._known.values()))
        return self._view

    def linked(self, peer: str) -> bool:
        """Say whether there is a link."""
        return peer in self.links

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """Send a frame with all others of this moment."""
        if peer not in self.links or not self._life.alive:
            return False
        if kind == "cancelled":
            truth = self._station.world.truth
            truth.said_cancelled(self._station, fields["job"][1], fields["attempt"])
        frames = self._out.get(peer)
        if frames is None:
            frames = self._out[peer] = []
            self._life.loop.call_soon(self._write, peer)
        frames.append((kind, fields))
        return True

    def complain(self, peer: str, reason: str) -> None:
        """Nobody sends malformed frames here."""
        self._station.world.truth.broken(f"{self._station.id} hears nonsense of {peer}: {reason}")

    async def fetch(self, peer: str, sha256: str, size: int) -> None:
        """Bring a blob here; it takes a while, in which the link may break."""
        world, there = self._station.world, self._station.world.stations[peer]
        cable = self.links.get(peer)
        await self._life.clock.sleep(self._station.dice["bulk"].uniform(0.01, 1.0))
        if cable is None or self.links.get(peer) != cable or world.network.is_cut(self, there):
            raise PeerUnreachable(peer, "there is no link")
        if there.blobs.size(sha256) != size:
            raise BlobMissing(sha256)
        self._station.blobs.copy(sha256, there.blobs)

    # --- what the network does to it ----------------------------------------------------------

    @property
    def id(self) -> str:
        """Return whose they are."""
        return self._station.id

    def linked_with(self, other: "Neighbours", cable: int) -> None:
        """A link is up."""
        if not other._life.alive:
            return
        there = other._station
        self.links[there.id] = cable
        self._told.pop(there.id, None)
        known = self._known.get(there.id)
        boot = other._life.store.boot
        if known is None or known.boot != boot:
            self._set(other._instance(own=False))
            self._life.bus.publish(Appeared(there.id))
        hello = Hello((1, 1), there.id, there.id, other._life.store.store_id, boot, "", 1, 0.0)
        self._life.bus.publish(LinkUp(there.id, hello, "", dialled=True))

    def unlinked(self, peer: str, reason: str) -> None:
        """The link is down."""
        if self.links.pop(peer, None) is not None:
            self._life.bus.publish(LinkDown(peer, reason, goodbye=False))

    def gone(self, peer: str, reason: str, *, confirmed: bool) -> None:
        """That life of it is over, or it was silent for too long."""
        if self._known.pop(peer, None) is not None:
            self._view = None
            self._life.bus.publish(Gone(peer, reason, confirmed))

    def hear(self, peer: str, kind: str, batch: list[dict[str, Any]]) -> None:
        """Hand frames to their handler."""
        if kind == "offer":
            self._life.cleared.update(fields["job"][1] for fields in batch)
        elif kind == "answer":
            said = (job for fields in batch for job in fields["jobs"].items())
            self._life.cleared.update(job_id for job_id, verdict in said if verdict == "ok")
        if kind == "beat":
            self._loaded(peer, batch[-1])
        elif (handler := self._handlers.get(kind)) is not None:
            working = handler(peer, batch)
            if working is not None:
                self._tasks.start(working)

    # --- inside -------------------------------------------------------------------------------

    def _write(self, peer: str) -> None:
        frames = self._out.pop(peer, [])
        if self._life.alive:
            self._station.world.network.carry(self._station, peer, frames)

    def _beat(self, peer: str, beat: int) -> None:
        load = self._life.distributor.load_for(peer)
        said, at = self._told.get(peer, (None, 0))
        if said != load or beat - at >= BEATS_WITHOUT_CHANGE:
            self._told[peer] = load, beat
            self.send(peer, "beat", load)

    def _loaded(self, peer: str, load: dict[str, Any]) -> None:
        known = self._known.get(peer)
        if known is not None:
            self._set(replace(known, load=load))
            self._life.bus.publish(LoadChanged(peer))

    def _set(self, instance: Instance) -> None:
        self._known[instance.id] = instance
        self._view = None

    def _instance(self, *, own: bool) -> Instance:
        station = self._station
        return Instance(
            id=station.id,
            name=station.id,
            boot=self._life.store.boot,
            rank=0,
            addresses=(),
            capabilities=(Capability("**", "work"),) if station.works else (),
            properties={},
            version="",
            draining=False,
            load={},
            silent=False,
            leader=False,
            own=own,
            since=0.0,
        )
