"""
Finds instances and dials them, whatever tells of them: mDNS, configuration, memory, other peers.

Who is linked is left alone. When a link breaks without a goodbye, its peer is dialled at once:
if its host refuses the connection, the membership is told that it is gone.
"""

import asyncio
import enum
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from offload.clock import Clock
from offload.errors import PeerRefused, PeerStranger, PeerUnreachable
from offload.events import Bus
from offload.peers.discovery import remembered
from offload.peers.discovery.addresses import (
    DEFAULT_PORT,
    Plan,
    check_interfaces,
    is_loopback,
    make_plan,
    parse_address,
)
from offload.peers.discovery.candidates import Candidate, Candidates
from offload.peers.discovery.mdns import Callbacks, Mdns
from offload.peers.discovery.remembered import Remembered
from offload.peers.membership import LinkWanted, Membership
from offload.peers.topology import Address, Appeared, Fact, Restarted, Updated
from offload.peers.transport import LinkDown, LinkUp

log = logging.getLogger(__name__)

DIAL_TIMEOUT_S: Final = 4.0
NEXT_ADDRESS_S: Final = 0.25  # how long an address may take before the next one is tried as well
IDLE_S: Final = 5.0
WATCH_S: Final = 2.0
SAVE_S: Final = 2.0
REFRESH_S: Final = 3600.0  # how exactly it is remembered when a peer was seen last

_Tried = enum.Enum("_Tried", ["REACHED", "REFUSED", "FAILED"])


class Dialler(Protocol):
    """What is asked of the transport."""

    @property
    def port(self) -> int:
        """Return the port that it listens on, once it does."""
        ...

    def peers(self) -> Mapping[str, Any]:
        """Return the linked peers by id."""
        ...

    async def dial(self, host: str, port: int, want: str | None = None) -> str:
        """Link to the instance there, and return its id; raise ``PeerUnreachable``."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """
    Where to look, and how to show ourselves.

    Attributes:
        realm: Instances of different realms do not meet.
        group: What the group is known by on the network, "" for none: so that those of other
            groups are left alone.
        listen: The hosts that the transport listens on.
        mdns: Whether to use multicast DNS.
        interfaces: The interfaces for it, by name or address; none: all but bridges and tunnels.
        peers: Configured peers, ``host`` or ``host:port``.
        advertise: Addresses to be announced beside the own ones.
        memory: The file where peers are remembered; None: they are not.
    """

    realm: str = "default"
    group: Callable[[], str] = str
    listen: tuple[str, ...] = ("127.0.0.1",)
    mdns: bool = True
    interfaces: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    advertise: tuple[str, ...] = ()
    memory: Path | None = None


class Discovery:
    """
    The search of one instance for others.

    Raises:
        ConfigError: If a configured peer is no address, or an interface is not here.
    """

    def __init__(
        self, membership: Membership, dialler: Dialler, bus: Bus, clock: Clock, settings: Settings
    ) -> None:
        self._membership = membership
        self._dialler = dialler
        self._clock = clock
        self._settings = settings
        self._candidates = Candidates(membership.own.id)
        self._memory: dict[str, Remembered] = {}
        self._mdns: Mdns | None = None
        self._plan = Plan((), (), ())
        self._wake = asyncio.Event()
        self._met = asyncio.Event()  # there is something new to remember
        now = clock.now()
        check_interfaces(settings.interfaces)
        for text in settings.peers:
            address = parse_address(text, DEFAULT_PORT, key="discovery.peers")
            self._candidates.fix(address, now)
        bus.listen(LinkUp, self._link_up)
        bus.listen(LinkDown, self._link_down)
        bus.listen(LinkWanted, self._wanted)
        for kind in (Appeared, Updated, Restarted):
            bus.listen(kind, self._told_of)

    def retry_now(self, peer: str) -> None:
        """Dial ``peer`` at once, if it is known and not linked."""
        self._candidates.hurry(peer, self._clock.now())
        self._wake.set()

    def show_again(self) -> None:
        """Show ourselves at once as we are now: the group is another."""
        if self._mdns is not None:
            self._mdns.show_again()

    async def run(self) -> NoReturn:
        """Search until cancelled; the transport must be open."""
        self._plan = await self._make_plan()
        self._membership.announce(addresses=self._plan.addresses)
        await self._remember()
        mdns = Mdns(
            lambda: self._membership.own,
            realm=self._settings.realm,
            group=self._settings.group,
            port=self._dialler.port,
            callbacks=Callbacks(self._found, self._candidates.lost, self._alone),
        )
        self._mdns = mdns
        mdns.move(self._plan)
        async with asyncio.TaskGroup() as group:
            if self._settings.mdns:
                group.create_task(mdns.run())
            if not all(is_loopback(host) for host in self._settings.listen):
                group.create_task(self._follow(mdns))
            if self._settings.memory is not None:
                group.create_task(self._keep_memory(self._settings.memory))
            await self._dial_all(group)

    # --- what it is told -----------------------------------------------------------------------

    def _found(self, instance_id: str, addresses: list[Address]) -> None:
        now = self._clock.now()
        if instance_id == self._membership.own.id:
            self._candidates.suspect(addresses, now)
        else:
            self._candidates.find(instance_id, addresses, now, stranger=True)
        self._wake.set()

    def _alone(self) -> bool:
        return not self._dialler.peers()

    def _told_of(self, fact: Fact) -> None:
        if self._membership.wants(fact.id):
            self._find_member(fact.id)

    def _wanted(self, wanted: LinkWanted) -> None:
        self._find_member(wanted.peer)

    def _find_member(self, instance_id: str) -> None:
        addresses = self._plan.ways(self._membership.addresses_of(instance_id))
        if addresses and instance_id != self._membership.own.id:
            self._candidates.find(instance_id, addresses, self._clock.now(), stranger=False)
            self._wake.set()

    def _link_up(self, event: LinkUp) -> None:
        host, _, port = event.address.rpartition(":")
        address = host.strip("[]"), int(port) if event.dialled else event.hello.port
        self._candidates.linked(event.peer, address, self._clock.now(), dialled=event.dialled)
        candidate = self._candidates.get(event.peer)
        if candidate is not None:
            self._memory[event.peer] = Remembered(tuple(candidate.addresses), self._clock.wall())
            self._met.set()

    def _link_down(self, event: LinkDown) -> None:
        if not event.goodbye and not event.spare:
            self.retry_now(event.peer)

    # --- dialling ------------------------------------------------------------------------------

    async def _dial_all(self, group: asyncio.TaskGroup) -> NoReturn:
        while True:
            self._wake.clear()
            linked, wants = self._dialler.peers().keys(), self._membership.wants
            for candidate in self._candidates.due(self._clock.now(), linked, wants):
                group.create_task(self._try(candidate))
            wait_s = self._candidates.next_due_s(self._clock.now(), linked, wants)
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S if wait_s is None else min(wait_s, IDLE_S)):
                    await self._wake.wait()

    async def _try(self, candidate: Candidate) -> None:
        reached = False
        try:
            reached = await self._race(candidate)
        finally:
            # it was linked and is still a member: whatever cut us off may be over soon
            urgent = candidate.near and self._membership.knows(candidate.id)
            self._candidates.tried(candidate, self._clock.now(), reached=reached, urgent=urgent)
            self._wake.set()

    async def _race(self, candidate: Candidate) -> bool:
        """Try its addresses, each a little after the one before; say whether one answered."""
        likely = sorted(  # and among equals the latest known first
            candidate.addresses,
            key=lambda a: (a not in candidate.reached, not self._plan.is_near(a[0])),
        )
        tries = [
            asyncio.create_task(self._try_one(candidate, address, place * NEXT_ADDRESS_S))
            for place, address in enumerate(likely)
        ]
        try:
            for attempt in asyncio.as_completed(tries):
                match await attempt:
                    case _Tried.REACHED:
                        return True
                    case _Tried.REFUSED:
                        self._membership.refused(candidate.id)
        finally:
            for attempt in tries:
                attempt.cancel()
            await asyncio.gather(*tries, return_exceptions=True)
        return False

    async def _try_one(self, candidate: Candidate, address: Address, delay_s: float) -> _Tried:
        host, port = address
        await asyncio.sleep(delay_s)
        try:
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                want = candidate.id or None  # who was reached at a fixed address is pinned to it
                reached = await self._dialler.dial(host, port, want)
        except PeerRefused as error:
            log.debug("%s:%d refuses: %s", host, port, error)
            return _Tried.REFUSED if self._counts(candidate, address) else _Tried.FAILED
        except PeerStranger as error:
            level = logging.INFO if candidate.fixed else logging.DEBUG  # anybody can be hinted at
            log.log(level, "%s:%d is not who was wanted: %s", host, port, error)
            if candidate.fixed:
                candidate.id = ""  # next time whoever answers will do, if it is of our group
            return _Tried.FAILED
        except (PeerUnreachable, TimeoutError) as error:  # machines sleep; we try again
            log.debug("%s:%d not reached: %s", host, port, error)
            return _Tried.FAILED
        if candidate.fixed:
            candidate.id = reached  # so that we know that we are linked to it
            self._membership.hold(reached)
        return _Tried.REACHED

    def _counts(self, candidate: Candidate, address: Address) -> bool:
        """
        Say whether a refusal at ``address`` tells that the instance is gone.

        It does where the latest link was made; and where we reached it or it came from, if it says
        that it listens there: the address that a router shows of an instance behind it tells
        nothing, nor does one that it had in an earlier life, or that another has now.
        """
        if address == candidate.latest:
            return True
        says = self._plan.ways(self._membership.addresses_of(candidate.id))
        return (address in candidate.reached or address == candidate.came) and address in says

    # --- addresses and memory ------------------------------------------------------------------

    async def _make_plan(self) -> Plan:
        settings = self._settings
        return await asyncio.to_thread(
            make_plan,
            settings.listen,
            port=self._dialler.port,
            interfaces=settings.interfaces,
            advertise=settings.advertise,
        )

    async def _follow(self, mdns: Mdns) -> NoReturn:
        """Show ourselves and search anew when our addresses have changed and stay so."""
        seen = self._plan
        while True:
            await self._clock.sleep(WATCH_S)
            former, seen = seen, await self._make_plan()
            if seen == former != self._plan:
                self._plan = seen
                log.info("addresses are now %s", ", ".join(seen.hosts) or "none")
                self._membership.announce(addresses=seen.addresses)
                mdns.move(seen)
                self._candidates.afresh(self._clock.now())
                self._wake.set()

    async def _remember(self) -> None:
        if self._settings.memory is None:
            return
        wall, now = self._clock.wall(), self._clock.now()
        former = await asyncio.to_thread(remembered.load, self._settings.memory, wall)
        for instance_id, peer in former.items():
            self._candidates.find(instance_id, peer.addresses, now, stranger=False)
        self._memory = {**former, **self._memory}

    async def _keep_memory(self, path: Path) -> NoReturn:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._met.wait()
            self._met.clear()
            for peer in self._dialler.peers().keys() & self._memory.keys():
                self._memory[peer] = replace(self._memory[peer], seen=self._clock.wall())
            try:
                await asyncio.to_thread(remembered.save, path, dict(self._memory))
            except OSError as error:  # a convenience: its loss costs a search
                log.warning("%s cannot be written: %s", path, error)
            await self._clock.sleep(SAVE_S)
