"""What a node is built of that reaches beyond it: a disk, time, the network, and how to find."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from offload.clock import Clock, Mark, SystemClock
from offload.distributor import Network
from offload.events import Bus
from offload.owner import Looks, Machine
from offload.peers.discovery import Discovery, Settings
from offload.peers.identity import Credentials, GroupFolder, Identity
from offload.peers.membership import Membership
from offload.peers.transport import LinkInfo, LinkRefused, Transport
from offload.work.store import Store


class Room(Protocol):
    """A room with work in the background."""

    async def run(self) -> NoReturn:
        """Work until cancelled."""
        ...


class Search(Room, Protocol):
    """The search for other instances."""

    def show_again(self) -> None:
        """Show ourselves at once as we are now."""
        ...


class Links(Network, Room, Protocol):
    """The links of an instance, as ``Transport`` makes them."""

    @property
    def port(self) -> int:
        """Return the port that it listens on, once it is open."""
        ...

    async def open(self) -> None:
        """Listen; from here on peers may link."""
        ...

    async def close(self) -> None:
        """Say goodbye to all peers; may be called again."""
        ...

    def peers(self) -> Mapping[str, LinkInfo]:
        """Return the linked peers, by instance id."""
        ...

    def refusals(self) -> Sequence[LinkRefused]:
        """Return those that could be reached and were refused because of their version."""
        ...

    async def dial(self, host: str, port: int, want: str | None = None) -> str:
        """Link with who listens there, and return its id; raise ``PeerUnreachable``."""
        ...

    def drop(self, peer: str, reason: str) -> None:
        """Cut the link to ``peer``, if there is one."""
        ...

    def release(self, peer: str) -> None:
        """Close the link to ``peer``, if there is one: it is not needed any more."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """
    Makers of what a node is built of; ``offload.testing`` has others, for a LAN in memory.

    Attributes:
        store: Opens the store in a folder; called in a thread.
        clock: Makes the clock, which goes on from the mark that the store has.
        network: Makes the links; takes what ``Transport`` takes.
        discovery: Makes the search for others, which dials them.
        machine: Makes what tells how the machine is.
        credentials: Makes what links are opened with; None: they need nothing.
    """

    store: Callable[[Path], Store] = Store.open
    clock: Callable[[Mark | None], Clock] = SystemClock
    network: Callable[..., Links] = Transport
    discovery: Callable[[Membership, Any, Bus, Clock, Settings], Search] = Discovery
    machine: Callable[[], Looks] = Machine
    credentials: Callable[[Identity, GroupFolder, str], Credentials | None] = Credentials.load


REAL: Final = Parts()
