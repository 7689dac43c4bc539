"""The peers wing: links, who is there, what each may run, who else may be, and the group."""

from contextlib import suppress
from typing import Any

from offload.affairs import GroupAffairs, Running
from offload.config import DEFAULT_PORT
from offload.enablement import Enablement
from offload.node.house.work import WorkWing
from offload.peers.fellowship import Fellowship
from offload.peers.membership import Membership
from offload.peers.names import Names
from offload.peers.topology import Announcement, Topology
from offload.peers.transport import VERSIONS, Hello, TwinFound
from offload.version import VERSION
from offload.work.jobs import Delivery

STRICTER = Delivery.AT_MOST_ONCE, Delivery.EXCLUSIVE  # than what is usual; the first comes first


class PeersWing(WorkWing):
    """The rooms that know of other instances, and of no job."""

    def _build_peers(self) -> None:
        self.names = Names(lambda: self.membership.view)
        self._build_links()
        self._build_enablement()
        self._build_membership()
        self._build_discovery()
        self._build_fellowship()

    def _build_links(self) -> None:
        """The links to others; who handles their frames is added by whoever does."""
        self._handlers: dict[str, Any] = {}
        self._bus.listen(TwinFound, self._twin_found)
        self.transport = self._parts.network(
            hello=self._hello,
            handlers=self._handlers,
            blobs=self.blobs,
            bus=self._bus,
            listen=self.standing.listen,
            port=self._rules.config.node.port,
            port_hint=self._port_hint(),
            credentials=self.standing.credentials,
        )

    def _build_enablement(self) -> None:
        """Build the switches of topics; what they allow is part of the announcement."""
        self.enablement = Enablement(
            store=self.store,
            links=self.transport,
            bus=self._bus,
            clock=self.clock,
            view=lambda: self.membership.view,
            way=lambda to, but: self.membership.way_to(to, but=but),
            find=self.names.meant,
            limits=lambda: self._rules.config.capabilities,
            consumers=self.executors.patterns,
            announce=self._announce,
        )
        self._exit.push_async_callback(self.enablement.close)

    def _build_membership(self) -> None:
        """Build the view of who is there, with our own announcement in it."""
        node, timing = self._rules.config.node, self._rules.config.timing
        own = Announcement(
            self.id,
            self.name,
            self.store.boot,
            **self._run_here(),
            properties={**node.properties, **node.labels},
            version=VERSION,
        )
        topology = Topology(
            own, self.clock.now(), heartbeat_s=timing.heartbeat_s, lease_s=timing.lease_s
        )
        self.membership = Membership(
            topology,
            self.transport,
            self._bus,
            self.clock,
            heartbeat_s=timing.heartbeat_s,
            event_delay_s=timing.event_delay_s,
        )

    def _build_discovery(self) -> None:
        """Build the search for those who may be there."""
        settings = self._rules.discovery(
            self._data_dir.peers_file, self.standing.listen, self.standing.hint
        )
        self.discovery = self._parts.discovery(
            self.membership, self.transport, self._bus, self.clock, settings
        )

    def _build_fellowship(self) -> None:
        """The part in the group, and what a person may do about it."""
        credentials, running = self.standing.credentials, None
        if credentials is not None:
            fellowship = Fellowship(credentials, self.transport, self._bus)
            running = Running(credentials, fellowship)
            self._handlers.update(fellowship.handlers())
            self._rooms.append(fellowship)
            self.standing.on_other_group(self.discovery.show_again)
        self.affairs = GroupAffairs(self._rules.config, self.standing.identity, running)
        self._exit.push_async_callback(self.affairs.close)

    def _hello(self) -> Hello:
        return Hello(
            versions=VERSIONS,
            id=self.id,
            name=self.name,
            store_id=self.store.store_id,
            boot=self.membership.own.boot,  # may be raised, see ``Topology.outdo``
            realm=self._rules.config.node.realm,
            port=self.transport.port,
            uptime_s=self.clock.now() - self._opened_at,
            life=self._life,
        )

    def _port_hint(self) -> int:
        with suppress(OSError, ValueError):
            return int(self._data_dir.port_file.read_text("ascii"))
        return DEFAULT_PORT

    def _declared_elsewhere(self, topic: str) -> str | None:
        said = {instance.delivery_of(topic) for instance in self.membership.view.instances}
        return next((kind for kind in STRICTER if kind in said), None)

    def _announce(self) -> None:
        self.membership.announce(**self._run_here())

    def _run_here(self) -> dict[str, Any]:
        """Return what is announced of the topics that can be run here."""
        offer = self.enablement.offer()
        runners = self.executors
        versions = {p: v for p in offer.enabled if (v := runners.version(p))}
        deliveries = {p: d for p in offer.enabled if (d := runners.delivery(p))}
        return {
            "capabilities": self._rules.capabilities(offer.enabled),
            "disabled": offer.disabled,
            "versions": versions,
            "deliveries": deliveries,
        }
