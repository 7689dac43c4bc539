"""The floor that joins the wings: jobs go to other instances, and come from them."""

from offload.distributor import Allowed, Distributor, Doors
from offload.doctor import Doctor
from offload.node.demand import OnDemand
from offload.node.house.peers import PeersWing
from offload.node.sharing import Sharing
from offload.owner import Owner
from offload.properties import Properties
from offload.scheduler import Scheduler
from offload.work.manager import GateMoved


class Joints(PeersWing):
    """The rooms that know of jobs and of other instances."""

    def _join(self) -> None:
        self._build_owner()
        self._build_distributor()
        self._build_scheduler()
        self._build_properties()
        self._build_sharing()
        self._build_doctor()
        self.membership.set_load(self.distributor.load_for)
        for room in (
            self.membership,
            self.distributor,
            self.scheduler,
            self.enablement,
            self.doctor,
        ):
            self._handlers.update(room.handlers())
        if self._app is not None:
            self._exit.callback(self._app.listen(self._app_changed))

    def _build_owner(self) -> None:
        """Build the owner's word on when this machine works for others."""
        self.owner = Owner(
            store=self.store,
            bus=self._bus,
            clock=self.clock,
            policy=lambda: self._rules.config.policy,
            machine=self._parts.machine(),
            hand_back=self._hand_back,
        )
        self._bus.listen(GateMoved, self._gate_moved)

    def _build_distributor(self) -> None:
        """Build the hand-over of jobs."""
        links = OnDemand(self.transport, self.membership)
        self.distributor = Distributor(
            manager=self.manager,
            store=self.store,
            blobs=self.blobs,
            network=links,
            bus=self._bus,
            clock=self.clock,
            own_id=self.id,
            lease_s=self._rules.config.timing.lease_s,
            view=lambda: self.membership.view,
            linked=links.linked,
            doors=Doors(
                consumes=lambda topic: self.executors.consumer(topic) is not None,
                enabled=self.enablement.allows,
                gate=self.manager.gates.closed,
                resting=lambda: self.manager.gates.shut() or self.owner.resting(),
                reserved=self.owner.reserved,
            ),
            policy_of=self._rules.policy_of,
            demands_of=self._rules.demands_of,
            bounds=self._rules.bounds,
            free_bytes=self._free_bytes,
            retry_of=self._rules.retry_of,
            allowed=Allowed(
                lambda: self._rules.permissions,
                lambda peer: self.standing.who(peer, self.membership.view),
            ),
        )

    def _build_scheduler(self) -> None:
        """Build what makes jobs when it is time."""
        self.scheduler = Scheduler(
            book=self.book,
            links=self.transport,
            bus=self._bus,
            clock=self.clock,
            own_id=self.id,
            view=lambda: self.membership.view,
            add=self.add,
            lease_s=self._rules.config.timing.lease_s,
        )

    def _build_properties(self) -> None:
        """Build the values that the configuration and the program show of this instance."""
        static = self._rules.config.node
        self.properties = Properties(
            static={**static.properties, **static.labels},
            providers=lambda: (*(self._app.providers if self._app else ()), *self._providers),
            announce=lambda properties: self.membership.announce(properties=properties),
            clock=self.clock,
        )

    def _build_sharing(self) -> None:
        """Build what announces the shared folders that are there."""

        def announce(names: tuple[str, ...]) -> None:
            self.membership.announce(shared=names)

        self.sharing = Sharing(self.shares, self.clock, announce)

    def _build_doctor(self) -> None:
        """Build what tells why two instances do not see each other."""
        self.doctor = Doctor(
            config=lambda: self._rules.config,
            data_dir=self._data_dir,
            hello=self._hello,
            listen=self.standing.listen,
            credentials=self.standing.credentials,
            links=self.transport,
            view=lambda: self.membership.view,
            pulse=self.membership.pulse,
            bus=self._bus,
            clock=self.clock,
        )
        self._exit.push_async_callback(self.doctor.close)

    async def _hand_back(self, reason: str, own: bool) -> None:
        await self.distributor.hand_back(reason, own)

    def _gate_moved(self, _: GateMoved) -> None:
        """Tell peers at once how many places there are now."""
        for peer in self.transport.peers():
            self.membership.beat_now(peer)

    def _app_changed(self) -> None:
        """Tell everybody what can be run here now, whichever thread has changed the app."""
        self._loop.call_soon_threadsafe(self._announce)
        self._loop.call_soon_threadsafe(self.properties.look_again)
