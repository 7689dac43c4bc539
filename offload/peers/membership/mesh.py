"""
Which links there should be: with all, or, in a crowd, with the few that this instance wants.

What is wanted in a crowd: the links of the mesh (``topology.mesh``), those that were asked for not
long ago because there is work for the peer, and those that were configured. A link that neither
end wants is given up by the one with the lower id, if it has others that live.
"""

import zlib
from collections.abc import Iterable
from typing import Final

from offload.peers.topology import Topology

REACH_S: Final = 30.0  # how long a link that was asked for is wanted
REACH_LIMIT: Final = 8  # that are only asked for, and not yet used
YOUNG_S: Final = 10.0  # a link is not given up before that
FEW: Final = 3  # links that are wanted and up, before others are given up


class Wishes:
    """The links that one instance wants; ``now`` is an argument."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._mesh: frozenset[str] | None = None
        self._asked: dict[str, float] = {}  # peer -> until when its link is wanted
        self._wished: set[str] = set()  # asked for since the last renewal
        self._held: set[str] = set()
        self._up: dict[str, float] = {}  # linked peer -> since when
        self._unwanted: set[str] = set()  # linked peers that do not want their link with us

    def renew(self, now: float) -> list[str]:
        """Look anew at who is there, once a beat; return the links that are wanted and missing."""
        self._mesh = self._topology.wanted()
        self._asked = {i: until for i, until in self._asked.items() if until > now}
        wished, self._wished = self._wished, set()
        if self._mesh is None:
            return []
        room = REACH_LIMIT - len(self._asked)
        if room > 0:
            # others for others, and others at another time: no few are to carry all
            salt = f"{self._topology.own.id} {int(now / REACH_S)}"
            by_lot = sorted(wished, key=lambda peer: zlib.crc32(f"{salt} {peer}".encode("ascii")))
            self._asked.update(dict.fromkeys(by_lot[:room], now + REACH_S))
        return sorted((self._mesh | self._asked.keys()) - self._up.keys())

    def wants(self, instance_id: str, now: float) -> bool:
        """Say whether there should be a link to it; to those that are no members, always."""
        if self._mesh is None or instance_id in self._mesh or instance_id in self._held:
            return True
        return self._asked.get(instance_id, now) > now or not self._topology.knows(instance_id)

    def reach(self, instance_id: str) -> None:
        """Note that a link could be of use; some of those that could be are wanted then."""
        self._wished.add(instance_id)

    def use(self, instance_id: str, now: float) -> None:
        """Note that the link is in use; it is wanted for some time."""
        self._asked[instance_id] = now + REACH_S

    def hold(self, instance_id: str) -> None:
        """Want a link for ever."""
        self._held.add(instance_id)

    def linked(self, peer: str, now: float) -> None:
        """Note a link."""
        self._up[peer] = now
        self._unwanted.discard(peer)

    def unlinked(self, peer: str) -> None:
        """Note that a link is no more."""
        self._up.pop(peer, None)
        self._unwanted.discard(peer)

    def heard(self, peer: str, *, wanted: bool) -> None:
        """Note whether the peer wants its link with us."""
        if wanted:
            self._unwanted.discard(peer)
        else:
            self._unwanted.add(peer)

    def spare(self, peers: Iterable[str], now: float) -> list[str]:
        """Return the links to give up."""
        if self._mesh is None or len(self._mesh & self._topology.live_links()) < FEW:
            return []
        own = self._topology.own.id
        return [
            peer
            for peer in peers
            if peer in self._unwanted
            and own < peer
            and now - self._up.get(peer, now) > YOUNG_S
            and not self.wants(peer, now)
        ]
