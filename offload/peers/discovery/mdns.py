"""
Instances of the LAN, by multicast DNS: this one shown to others, others found.

What is found is a hint, never a sign of life. The service is named by the instance id, which is
unique, so that registering needs no probing. Browser callbacks only queue names; tasks resolve
them, the newest first, so that a flood of phantoms starves neither the loop nor a newcomer.
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from zeroconf import Error, NotRunningException, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from offload.errors import Malformed
from offload.peers.discovery.addresses import Plan
from offload.peers.topology import Address, Announcement, check_id

log = logging.getLogger(__name__)

SERVICE: Final = "_offload._tcp.local."
PROTOCOL: Final = "1"
RESOLVERS: Final = 8
RESOLVE_TIMEOUT_MS: Final = 3000
WAITING_LIMIT: Final = 256
GOODBYE_TIMEOUT_S: Final = 1.0
FIRST_REFRESHES_S: Final = (1.0, 2.0, 4.0)
REFRESH_S: Final = 60.0
REFRESH_ALONE_S: Final = 4.0
RESTART_S: Final = 3.0
CROWD: Final = 1024  # names; of so many more at once the library is to forget all
CROWD_S: Final = 5.0
# What the library raises when an interface vanishes under it or it is already closed.
TROUBLE: Final = (OSError, RuntimeError, Error, NotRunningException)


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What mDNS tells, and asks; all on the loop's thread."""

    found: Callable[[str, list[Address]], None]
    lost: Callable[[str], None]
    alone: Callable[[], bool]


class Mdns:
    """Shows what ``own()`` announces, on ``port``, and finds others of the same realm and group."""

    def __init__(
        self,
        own: Callable[[], Announcement],
        *,
        realm: str,
        group: Callable[[], str],
        port: int,
        callbacks: Callbacks,
    ) -> None:
        self._own = own
        self._realm, self._group = realm, group
        self._port = port
        self._callbacks = callbacks
        self._plan: Plan | None = None
        self._moved = asyncio.Event()
        self._waiting: dict[str, None] = {}  # names to resolve, the newest last
        self._some = asyncio.Event()
        self._names = 0  # that the browser has shown us

    def move(self, plan: Plan) -> None:
        """Show the instance by ``plan`` from now on."""
        self._plan = plan
        self._moved.set()

    def show_again(self) -> None:
        """Show and find anew: what we say has changed."""
        self._moved.set()

    async def run(self) -> NoReturn:
        """Show and find until cancelled; trouble is told once and tried again."""
        told = ""
        while True:
            await self._moved.wait()
            self._moved.clear()
            plan = self._plan
            if plan is None or not plan.interfaces:
                continue
            try:
                await self._serve(plan)
                told = ""
            except* TROUBLE as group:
                trouble = str(group.exceptions[0])
                if trouble != told:
                    log.warning("mDNS does not work now, static peers still do: %s", trouble)
                told = trouble
                await asyncio.sleep(RESTART_S)
                self._moved.set()

    async def _serve(self, plan: Plan) -> None:
        """Show and find by ``plan`` until there is another one."""
        zeroconf = AsyncZeroconf(interfaces=list(plan.interfaces))
        info = self._info(plan)
        try:
            browser = self._browse(zeroconf)
            registering = await zeroconf.async_register_service(info, cooperating_responders=True)
            async with asyncio.TaskGroup() as group:
                resolvers = [
                    group.create_task(self._resolve_all(zeroconf.zeroconf))
                    for _ in range(RESOLVERS)
                ]
                await registering  # the first await has only begun it
                await self._refresh(zeroconf, browser, plan)
                for resolver in resolvers:
                    resolver.cancel()
        finally:
            await _close(zeroconf, info)

    async def _refresh(
        self, zeroconf: AsyncZeroconf, browser: AsyncServiceBrowser, plan: Plan
    ) -> None:
        """
        Announce anew and browse afresh now and then; return when the plan has changed.

        Who is not alone does one of them by turns: others hear of it by either.
        """
        first = iter(FIRST_REFRESHES_S)
        for turn in itertools.count():
            alone = self._callbacks.alone()
            young_s = next(first, None)
            if await self._moves(young_s or (REFRESH_ALONE_S if alone else REFRESH_S)):
                return
            crowded = self._names > CROWD
            both = alone or crowded or young_s is not None
            if both or turn % 2:
                await (await zeroconf.async_update_service(self._info(plan)))
            if both or not turn % 2:
                await browser.async_cancel()
                if crowded:
                    forget_all(zeroconf.zeroconf)
                # Only a fresh browser asks again on an interface that came up late.
                browser = self._browse(zeroconf)

    async def _moves(self, within_s: float) -> bool:
        """Say whether the plan changes within so long, or until a crowd has come."""
        left_s = within_s
        while left_s > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, CROWD_S)):
                    await self._moved.wait()
                    return True
            left_s -= CROWD_S
            if self._names > CROWD:
                break
        return False

    def _info(self, plan: Plan) -> AsyncServiceInfo:
        own = self._own()
        return AsyncServiceInfo(
            SERVICE,
            f"{own.id}.{SERVICE}",
            addresses=[packed(host) for host in plan.hosts],
            port=self._port,
            properties={
                "v": PROTOCOL,
                "realm": self._realm,
                "group": self._group(),
                "boot": str(own.boot),
                "gen": str(own.generation),
            },
            server=f"{own.id}.local.",
        )

    def _browse(self, zeroconf: AsyncZeroconf) -> AsyncServiceBrowser:
        self._names = 0
        return AsyncServiceBrowser(zeroconf.zeroconf, [SERVICE], handlers=[self._seen])

    def _seen(
        self,
        zeroconf: Zeroconf,  # noqa: ARG002 (the library passes all four by keyword)
        service_type: str,  # noqa: ARG002
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        instance_id = id_of(name)
        if instance_id is None:
            return
        own = instance_id == self._own().id
        if own and state_change is ServiceStateChange.Removed:
            return
        if state_change is ServiceStateChange.Removed:
            self._waiting.pop(name, None)
            self._callbacks.lost(instance_id)
            return
        self._names += state_change is ServiceStateChange.Added
        self._waiting.pop(name, None)
        self._waiting[name] = None
        if len(self._waiting) > WAITING_LIMIT:
            del self._waiting[next(iter(self._waiting))]
        self._some.set()

    async def _resolve_all(self, zeroconf: Zeroconf) -> NoReturn:
        while True:
            while not self._waiting:
                self._some.clear()
                await self._some.wait()
            name, _ = self._waiting.popitem()
            await self._resolve(zeroconf, name)

    async def _resolve(self, zeroconf: Zeroconf, name: str) -> None:
        info = AsyncServiceInfo(SERVICE, name)
        instance_id = id_of(name)
        if not await info.async_request(zeroconf, RESOLVE_TIMEOUT_MS) or instance_id is None:
            return
        said = info.decoded_properties
        if (said.get("realm"), said.get("group") or "") != (self._realm, self._group()):
            return
        if not info.port:
            return  # which versions we share is found out over the link
        # scoped: a link-local IPv6 address is of use only with the interface that leads there
        addresses = [(host, info.port) for host in info.parsed_scoped_addresses()]
        if instance_id == self._own().id:
            addresses = self._strange(addresses)
        if addresses:
            self._callbacks.found(instance_id, addresses)

    def _strange(self, addresses: list[Address]) -> list[Address]:
        """Return those of our name that are not ours: a copy of us may show itself there."""
        ours = set() if self._plan is None else {(host, self._port) for host in self._plan.hosts}
        return [address for address in addresses if address not in ours]


async def _close(zeroconf: AsyncZeroconf, info: AsyncServiceInfo) -> None:
    """Say goodbye and close, in bounded time."""
    with suppress(TimeoutError, *TROUBLE):
        async with asyncio.timeout(GOODBYE_TIMEOUT_S):
            # awaited twice, or no goodbye is sent: the first only begins it
            await (await zeroconf.async_unregister_service(info))
    with suppress(TimeoutError, *TROUBLE):
        async with asyncio.timeout(GOODBYE_TIMEOUT_S):
            await zeroconf.async_close()


def forget_all(zeroconf: Zeroconf) -> None:
    """
    Let the library forget what it has heard: it keeps 10 000 records, as long as their senders say.

    Nothing is lost: who is really there is heard again as soon as a browser asks.
    """
    heard = zeroconf.cache
    heard.async_remove_records([r for name in heard.names() for r in heard.entries_with_name(name)])


def id_of(name: str) -> str | None:
    """Return the id of the instance that shows itself by this name; None: it is none of ours."""
    label = name.removesuffix("." + SERVICE)
    try:
        return check_id(label)
    except Malformed:
        return None


def packed(host: str) -> bytes:
    """Return an address as a record has it."""
    if ":" in host:
        return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return socket.inet_aton(host)
