"""What the membership asks of links: of the transport to carry, of the search to make them."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class LinkWanted:
    """There should be a link to this member; told again at every beat until there is."""

    peer: str


class Links(Protocol):
    """What is asked of the transport."""

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """Queue a frame for the peer; False if that can't be."""
        ...

    def drop(self, peer: str, reason: str) -> None:
        """Cut the link to the peer, if there is one: it is thought to be dead."""
        ...

    def release(self, peer: str) -> None:
        """Close the link to the peer, if there is one: it is not needed any more."""
        ...
