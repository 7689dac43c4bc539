"""A look around by mDNS: who shows itself, of whatever realm and group, from nothing known."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from offload.peers.discovery.addresses import Plan
from offload.peers.discovery.mdns import GOODBYE_TIMEOUT_S, SERVICE, TROUBLE, id_of
from offload.peers.topology import Address

FOUND_LIMIT: Final = 64
LEAST_S: Final = 0.5  # for one that is seen at the last moment


@dataclass(frozen=True, slots=True)
class Shown:
    """
    An instance as mDNS shows it; a hint, which nobody has to believe.

    Attributes:
        id: Its id.
        addresses: Where it says that it listens.
        realm: Its realm.
        group: What its group is known by; "" if it is insecure.
    """

    id: str
    addresses: tuple[Address, ...]
    realm: str
    group: str


async def look(plan: Plan, within_s: float) -> tuple[list[Shown], str]:
    """Return who answers by way of the plan's interfaces; and why nobody can, or ""."""
    if not plan.interfaces:
        return [], "no interface to look on"
    try:
        zeroconf = AsyncZeroconf(interfaces=list(plan.interfaces))
    except TROUBLE as error:
        return [], str(error)
    watch = _Watch(zeroconf.zeroconf, within_s)
    try:
        AsyncServiceBrowser(zeroconf.zeroconf, [SERVICE], handlers=[watch.seen])
        await asyncio.sleep(within_s)
        return await watch.found(), ""
    except TROUBLE as error:
        return [], str(error)
    finally:
        with suppress(TimeoutError, *TROUBLE):
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await zeroconf.async_close()


class _Watch:
    """Finds out, of each name as soon as it is seen, what is behind it."""

    def __init__(self, zeroconf: Zeroconf, within_s: float) -> None:
        self._zeroconf = zeroconf
        self._until = asyncio.get_running_loop().time() + within_s
        self._names: dict[str, asyncio.Task[Shown | None]] = {}

    def seen(
        self,
        zeroconf: Zeroconf,  # noqa: ARG002 (the library passes all four by keyword)
        service_type: str,  # noqa: ARG002
        name: str,
        state_change: ServiceStateChange,  # noqa: ARG002
    ) -> None:
        if name not in self._names and len(self._names) < FOUND_LIMIT:
            self._names[name] = asyncio.get_running_loop().create_task(self._resolved(name))

    async def found(self) -> list[Shown]:
        """Return who was found; raise what the library does."""
        found = await asyncio.gather(*self._names.values())
        return [shown for shown in found if shown is not None]

    async def _resolved(self, name: str) -> Shown | None:
        left_s = max(self._until - asyncio.get_running_loop().time(), LEAST_S)
        instance_id = id_of(name)
        info = AsyncServiceInfo(SERVICE, name)
        if instance_id is None or not await info.async_request(self._zeroconf, left_s * 1000):
            return None
        said, port = info.decoded_properties, info.port or 0
        addresses = tuple((host, port) for host in info.parsed_scoped_addresses() if port)
        return Shown(instance_id, addresses, said.get("realm") or "", said.get("group") or "")
