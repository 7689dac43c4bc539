"""Who is examined, and how its linked peers are asked."""

import asyncio
import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from offload.config import Config
from offload.datadir import DataDir
from offload.doctor.facts import Answer, Instance, Peer
from offload.peers.discovery import make_plan
from offload.peers.discovery.addresses import DEFAULT_PORT, Plan
from offload.peers.identity import Credentials
from offload.peers.transport import LinkRefused


class Asking(Protocol):
    """How a linked peer is asked to sound."""

    async def __call__(self, peer: str, hear: str, say: str) -> Answer:
        """Have ``peer`` listen for ``hear``, send ``say``, and knock here."""
        ...


async def nobody(peer: str, hear: str, say: str) -> Answer:
    """Stand for the peers of an instance that does not run."""
    return Answer(f"{peer} was not asked for {hear} and {say}: there is no link")


@dataclass(frozen=True, slots=True)
class Subject:
    """
    Who is examined.

    Attributes:
        instance: What is known of it.
        listen: The addresses to be reached at.
        port: The port there; 0: it does not run, and would take any.
        credentials: What it shows when it visits others.
        greets: Whether it can be anybody to others: it is insecure, or has credentials.
        peers: The other members of its topology.
        refused: Who was reached and not linked with.
        ask: How they are asked.
    """

    config: Config
    data_dir: DataDir
    instance: Instance
    listen: tuple[str, ...]
    port: int
    credentials: Credentials | None = None
    greets: bool = True
    peers: tuple[Peer, ...] = ()
    refused: tuple[LinkRefused, ...] = ()
    ask: Asking = nobody

    async def plan(self) -> Plan:
        """Return how it shows itself, or would."""
        return await asyncio.to_thread(
            make_plan,
            self.listen,
            port=self.port or DEFAULT_PORT,
            interfaces=self.config.discovery.interfaces,
        )


def is_in(host: str, networks: Iterable[str]) -> bool:
    """Say whether an address lies in one of these networks."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host.partition("%")[0])
        return any(address in ipaddress.ip_interface(network).network for network in networks)
    return False
