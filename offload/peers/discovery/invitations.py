"""
Open invitations of the LAN, by multicast DNS: one shown while it is open, others found.

Whoever may send packets here can show one: it is a hint where to try, and proves nothing.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from offload.peers.discovery.addresses import Plan
from offload.peers.discovery.mdns import GOODBYE_TIMEOUT_S, RESOLVE_TIMEOUT_MS, TROUBLE, packed
from offload.peers.topology import Address

SERVICE: Final = "_offload-join._tcp.local."
FOUND_LIMIT: Final = 32


@asynccontextmanager
async def shown(plan: Plan, inviter_id: str, port: int, realm: str) -> AsyncIterator[None]:
    """Show an open invitation; without a network that allows it, it is only not found."""
    zeroconf = AsyncZeroconf(interfaces=list(plan.interfaces))
    info = AsyncServiceInfo(
        SERVICE,
        f"{inviter_id}.{SERVICE}",
        addresses=[packed(host) for host in plan.hosts],
        port=port,
        properties={"v": "1", "realm": realm},
        server=f"{inviter_id}-join.local.",
    )
    try:
        with suppress(*TROUBLE):
            await (await zeroconf.async_register_service(info, cooperating_responders=True))
        yield
    finally:
        with suppress(TimeoutError, *TROUBLE):
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                # awaited twice, or no goodbye is sent: the first only begins it
                await (await zeroconf.async_unregister_service(info))
        with suppress(TimeoutError, *TROUBLE):
            async with asyncio.timeout(GOODBYE_TIMEOUT_S):
                await zeroconf.async_close()


async def found(plan: Plan, realm: str, within_s: float) -> AsyncGenerator[list[Address], None]:
    """Yield the addresses of each who shows an invitation, as they are found, for a while."""
    names: asyncio.Queue[str] = asyncio.Queue(FOUND_LIMIT)

    def seen(
        zeroconf: Zeroconf,  # noqa: ARG001 (the library passes all four by keyword)
        service_type: str,  # noqa: ARG001
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        if state_change is ServiceStateChange.Added:
            with suppress(asyncio.QueueFull):
                names.put_nowait(name)

    over_at = asyncio.get_running_loop().time() + within_s
    zeroconf = AsyncZeroconf(interfaces=list(plan.interfaces))
    browser = AsyncServiceBrowser(zeroconf.zeroconf, [SERVICE], handlers=[seen])
    try:
        while True:
            try:
                async with asyncio.timeout_at(over_at):
                    info = AsyncServiceInfo(SERVICE, await names.get())
                    known = await info.async_request(zeroconf.zeroconf, RESOLVE_TIMEOUT_MS)
            except TimeoutError:
                return
            if known and info.port and info.decoded_properties.get("realm") == realm:
                yield [(host, info.port) for host in info.parsed_scoped_addresses()]
    finally:
        await browser.async_cancel()
        await zeroconf.async_close()
