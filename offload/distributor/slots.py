"""What this instance tells each peer of its places, and reads of what a peer tells."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from offload.distributor.incoming import Incoming
from offload.peers.topology import Instance
from offload.placement import Share
from offload.work.manager import Manager

PREFETCH_S: Final = 0.2
PREFETCH_LIMIT: Final = 512
TEXT_LIMIT: Final = 200


class Slots:
    """
    The places and resources of this instance.

    Args:
        manager: Knows what runs here.
        incoming: Knows what is here of others.
        own: This instance as it has announced itself.
        closed: Why nothing of others is taken for now, or "".
        full: Why no more of others can be held at the moment, or "".
    """

    def __init__(
        self,
        manager: Manager,
        incoming: Incoming,
        own: Callable[[], Instance],
        closed: Callable[[], str],
        full: Callable[[], str],
    ) -> None:
        self._manager = manager
        self._incoming = incoming
        self._own = own
        self._closed = closed
        self._full = full

    def load_for(self, peer: str) -> dict[str, Any]:
        """
        Return what ``peer`` is told of our places.

        ``queues``: ``{queue: [window, busy, places]}``; the window is how many jobs of ``peer``
        may be here, done ones aside: what the others leave, and its fair share at least.
        ``resources``: ``{name: [window, taken, total]}``, in the same sense. ``closed``: why
        nothing is taken now.
        """
        seats, closed = self._incoming.seats(), self._closed()
        shut = bool(closed or self._full())
        queues = {}
        for name, (busy, places) in self._queues().items():
            lined_up = busy + self._incoming.waiting(name)
            of_peer = seats[peer, name]
            origins = len({o for (o, queue) in seats if queue == name} | {peer})
            window = max(places - (lined_up - of_peer), -(-places // origins))
            queues[name] = [0 if shut else window, lined_up, 0 if closed else places]
        return {
            "queues": queues,
            "mean_s": self._manager.runs.means(),
            "resources": {name: list(share) for name, share in self._shares_for(peer).items()},
            **({"closed": closed} if closed else {}),
        }

    def own_shares(self) -> dict[str, Share]:
        """Return what own jobs may still take of our resources."""
        stock = self._manager.runs.stock
        if not stock.totals:
            return {}
        used = defaultdict(float, stock.taken())
        for (_, name), amount in self._incoming.needs(lambda key: not stock.has(key)).items():
            used[name] += amount  # it is here, and waits for it
        return {
            name: Share(total - used[name], used[name], total)
            for name, total in stock.totals.items()
        }

    def _shares_for(self, peer: str) -> dict[str, Share]:
        """
        Return what jobs of ``peer`` may take here, those included that it has here.

        Who has none of a resource here may line up for it, whoever has it now: so all come to it.
        """
        held = self._incoming.needs(lambda _key: True)
        shares = {}
        for name, share in self.own_shares().items():
            of_peer = held.get((peer, name), 0.0)
            origins = {origin for origin, resource in held if resource == name}
            fair = share.total / len(origins) if of_peer else share.total
            shares[name] = share._replace(window=max(share.window + of_peer, fair))
        return shares

    def _queues(self) -> dict[str, tuple[int, int]]:
        """Return busy ones and places of every queue that we announce."""
        topics = {c.queue: c.pattern for c in self._own().capabilities}
        runs = self._manager.runs
        return {queue: (runs.busy_in(queue), runs.places(topic)) for queue, topic in topics.items()}


def prefetch(places: int, mean_s: float | None) -> int:
    """
    Return how many jobs of a topic may stand in line at a peer.

    They are what begins there within ``PREFETCH_S``: many short ones, of long ones few or none.
    """
    if mean_s is None:
        return 0
    return min(PREFETCH_LIMIT, int(places * PREFETCH_S / max(mean_s, 1e-6)))


def places_of(load: Mapping[str, Any], queue: str | None) -> tuple[int, int, int]:
    """Read ``[window, busy, places]`` of a queue from a peer's load; it may say anything."""
    match _entry(load, "queues", queue):
        case [int(window), int(busy), int(places)]:
            return window, busy, places
    return 0, 0, 0


def mean_s_of(load: Mapping[str, Any], topic: str) -> float | None:
    """Read the measured run time of ``topic`` from a peer's load."""
    value = _entry(load, "mean_s", topic)
    return float(value) if isinstance(value, int | float) and value >= 0 else None


def shares_of(load: Mapping[str, Any], ours: Mapping[str, float]) -> dict[str, Share]:
    """Read a peer's resources from its load, less what ``ours`` takes that are under way there."""
    told = load.get("resources")
    shares: dict[str, Share] = {}
    for name, entry in told.items() if isinstance(told, dict) else ():
        match entry:
            case [int() | float(), int() | float(), int() | float()] if all(
                map(math.isfinite, entry)
            ):
                (window, taken, total), used = entry, ours.get(name, 0.0)
                shares[name] = Share(window - used, max(taken, used), total)
    return shares


def closed_of(load: Mapping[str, Any]) -> str:
    """Read why a peer takes nothing now, or ""."""
    closed = load.get("closed", "")
    return closed[:TEXT_LIMIT] if isinstance(closed, str) else ""


def _entry(load: Mapping[str, Any], table: str, name: str | None) -> Any:
    entries = load.get(table)
    return entries.get(name) if isinstance(entries, dict) else None
