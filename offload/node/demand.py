"""Links on demand: whoever has to do with a peer for a job keeps the link to it."""

from typing import Any

from offload.parts import Links
from offload.peers.membership import Membership


class OnDemand:
    """The links as the distributor sees them; to use one is to want it for a while."""

    def __init__(self, links: Links, membership: Membership) -> None:
        self._links = links
        self._membership = membership

    def linked(self, peer: str) -> bool:
        """Say whether ``peer``, who could do some work, is linked; if not, it may soon be."""
        if peer in self._links.peers():
            return True
        self._membership.reach(peer)
        return False

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """Queue a frame for ``peer``; False if there is no link."""
        self._membership.use(peer)
        return self._links.send(peer, kind, fields)

    def complain(self, peer: str, reason: str) -> None:
        """Note that a frame of ``peer`` was malformed; after a few, its link is closed."""
        self._links.complain(peer, reason)

    async def fetch(self, peer: str, sha256: str, size: int) -> None:
        """Bring a blob of ``peer`` here."""
        self._membership.use(peer)
        await self._links.fetch(peer, sha256, size)
