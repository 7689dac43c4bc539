"""
The rooms of one instance: built, opened upward, closed downward.

The work wing and the peers wing are built apart; the rooms above join them, and the faces above
those answer for all. No rule lives here.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from offload.adoption import Adoption, check_not_adopted
from offload.app import App, Provider
from offload.blobs import Blobs
from offload.config import DEFAULT_PORT, Config
from offload.datadir import DataDir
from offload.distributor import Allowed, Distributor, Doors
from offload.doctor import Doctor
from offload.enablement import Enablement
from offload.errors import FULL, DiskFull, OffloadError, StoreFault, TwinRuns
from offload.events import Bus
from offload.feed import Feed
from offload.finder import Finder
from offload.history import History
from offload.housekeeping import Housekeeping
from offload.job import Desk
from offload.leases import watch_s
from offload.machine import free_bytes, resources
from offload.node.affairs import affairs_of
from offload.node.demand import OnDemand
from offload.node.rules import Rules
from offload.node.standing import Standing
from offload.owner import Owner
from offload.parts import Parts, Room
from offload.payload import Encoded
from offload.peers.membership import Membership
from offload.peers.topology import Announcement, Topology
from offload.peers.transport import VERSIONS, Hello, LinkUp, TwinFound
from offload.properties import Properties
from offload.queueing import Queueing
from offload.report import Report
from offload.scheduler import Book, Scheduler, declared, local_zone
from offload.sightings import Sightings
from offload.statistics import Statistics
from offload.version import VERSION
from offload.work.executors import Executors
from offload.work.jobs import Delivery, Job, Options
from offload.work.manager import GateMoved, Manager

log = logging.getLogger(__name__)


class House:
    """
    One instance's rooms, each under its own name once ``open`` has built it.

    Attributes:
        id: The instance id.
        fault: Fails when the store can no longer be trusted, or a twin of this instance runs.
        running: The rooms' background work.
    """

    def __init__(
        self, rules: Rules, app: App | None, data_dir: DataDir, parts: Parts, bus: Bus
    ) -> None:
        self._rules = rules
        self._app = app
        self._data_dir = data_dir
        self._parts = parts
        self._bus = bus
        self._exit = AsyncExitStack()
        self.name = rules.config.node.name
        self.id = ""
        self._life = secrets.token_hex(8)
        self._providers: list[Provider] = []
        self.running: list[asyncio.Task[Any]] = []
        self._rooms: list[Room] = []  # those that only some instances have

    async def open(self) -> None:
        """
        Build all rooms and start them; what was opened is closed again if that fails.

        Raises:
            DiskFull: If there is no room even for what every start writes.
        """
        try:
            await self._open()
        except OSError as error:
            await self.close()
            if error.errno in FULL:
                raise DiskFull from None
            raise
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close what is open, the last one first."""
        await self._exit.aclose()

    def add(self, topic: str, encoded: Encoded, options: Options) -> Awaitable[Job]:
        """Store a job, with the topic's rules where the submitter says nothing."""
        runner = self.executors.consumer(topic)
        return self.manager.add(topic, encoded, self._rules.completed(topic, options, runner))

    async def follow(self, config: Config) -> None:
        """Let every room follow ``config``; raise ``ConfigError``, and nothing has changed."""
        self.executors.govern(Rules(config).topic_rules())
        self._rules.follow(config)
        self.manager.runs.look_again()  # before anything can start under the new rules
        await self.store.line_up_anew(self._rules.place_of)
        self._announce()
        self._bus.publish(GateMoved())

    def add_properties(self, provider: Provider) -> Callable[[], None]:
        """Ask ``provider`` too from now on; return what ends that."""
        self._providers.append(provider)
        self._look_at_properties()

        def stop() -> None:
            with suppress(ValueError):
                self._providers.remove(provider)
            self._look_at_properties()

        return stop

    # --- building ----------------------------------------------------------------------------

    async def _open(self) -> None:
        self._data_dir.lock()
        self._exit.callback(self._data_dir.unlock)
        self.standing = await asyncio.to_thread(
            Standing.take, self._rules.config, self._data_dir, self._parts
        )
        self.id = self.standing.identity.id
        await self._build_work()
        self._build_peers()
        self._build_fellowship()
        self._join()
        self._build_faces()
        await self.distributor.recover()  # before a peer can say anything
        await self._open_links()
        self._start()
        self._data_dir.write_run(
            {
                "pid": os.getpid(),
                "boot": self.store.boot,
                "id": self.id,
                "port": self.transport.port,
                "socket": str(self._data_dir.socket),
            }
        )

    async def _build_work(self) -> None:
        """The work wing: a store, blobs, executors, and the manager above them."""
        place, rules = self._data_dir, self._rules
        self._loop = asyncio.get_running_loop()
        self.fault: asyncio.Future[None] = self._loop.create_future()
        self.store = await asyncio.to_thread(self._parts.store, place.store)
        self._exit.push_async_callback(self.store.close)
        check_not_adopted(self.store, place.path)
        self.store.on_fault = self._store_failed
        self.clock = self._parts.clock(self.store.mark)
        self._opened_at = self.clock.now()
        self.blobs = Blobs(place.blobs)
        self.executors = Executors(
            self._app, run_file=place.children_file, rules=rules.topic_rules()
        )
        await self.executors.open()
        self._exit.push_async_callback(self.executors.close)
        await self.store.line_up_anew(rules.place_of)
        self.manager = Manager(
            store=self.store,
            blobs=self.blobs,
            executors=self.executors,
            bus=self._bus,
            clock=self.clock,
            own_id=self.id,
            queue_of=rules.queue_of,
            work_folder=place.work,
            results_folder=place.results,
            lines_of=rules.lines_of,
            lease_of=self._lease_of,
            resources=resources(rules.config.node.resources),
            most_queued=lambda: rules.config.limits.queued,
            most_of=rules.most_of,
            most_blobs=lambda: rules.config.limits.blobs_bytes,
        )
        self._exit.push_async_callback(self.manager.close)
        self.book = Book(self.store, self.clock.wall, local_zone())
        await self.book.open(declared(rules.config.schedules, self.clock.wall()))

    def _build_peers(self) -> None:
        """The peers wing: links, who is there, who else may be."""
        node, timing = self._rules.config.node, self._rules.config.timing
        self._handlers: dict[str, Any] = {}
        self._bus.listen(TwinFound, self._twin_found)
        self.transport = self._parts.network(
            hello=self._hello,
            handlers=self._handlers,
            blobs=self.blobs,
            bus=self._bus,
            listen=self.standing.listen,
            port=node.port,
            port_hint=self._port_hint(),
            credentials=self.standing.credentials,
        )
        self.enablement = Enablement(
            store=self.store,
            links=self.transport,
            bus=self._bus,
            clock=self.clock,
            view=lambda: self.membership.view,
            find=self._find,
            limits=lambda: self._rules.config.capabilities,
            consumers=self.executors.patterns,
            announce=self._announce,
        )
        self._exit.push_async_callback(self.enablement.close)
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
        settings = self._rules.discovery(
            self._data_dir.peers_file, self.standing.listen, self.standing.hint
        )
        self.discovery = self._parts.discovery(
            self.membership, self.transport, self._bus, self.clock, settings
        )

    def _build_fellowship(self) -> None:
        """The part in the group, and what a person may do about it."""
        self.affairs, fellowship = affairs_of(
            self._rules.config, self.standing, self.transport, self._bus
        )
        self._exit.push_async_callback(self.affairs.close)
        if fellowship is not None:
            self._handlers.update(fellowship.handlers())
            self._rooms.append(fellowship)
            self.standing.on_other_group(self.discovery.show_again)

    def _join(self) -> None:
        """The rooms that join the wings."""
        lease_s = self._rules.config.timing.lease_s
        self.owner = Owner(
            store=self.store,
            bus=self._bus,
            clock=self.clock,
            policy=lambda: self._rules.config.policy,
            machine=self._parts.machine(),
            hand_back=self._hand_back,
        )
        self._bus.listen(GateMoved, self._gate_moved)
        links = OnDemand(self.transport, self.membership)
        self.distributor = Distributor(
            manager=self.manager,
            store=self.store,
            blobs=self.blobs,
            network=links,
            bus=self._bus,
            clock=self.clock,
            own_id=self.id,
            lease_s=lease_s,
            view=lambda: self.membership.view,
            linked=links.linked,
            doors=Doors(
                consumes=lambda topic: self.executors.consumer(topic) is not None,
                enabled=self.enablement.allows,
                gate=self.manager.gates.closed,
                resting=self.owner.resting,
                reserved=self.owner.reserved,
            ),
            policy_of=self._rules.policy_of,
            demands_of=self._rules.demands_of,
            bounds=self._rules.bounds,
            free_bytes=lambda: free_bytes(self._data_dir.path),
            retry_of=self._rules.retry_of,
            allowed=Allowed(
                lambda: self._rules.permissions,
                lambda peer: self.standing.who(peer, self.membership.view),
            ),
        )
        self.scheduler = Scheduler(
            book=self.book,
            links=self.transport,
            bus=self._bus,
            clock=self.clock,
            own_id=self.id,
            view=lambda: self.membership.view,
            add=self.add,
            lease_s=lease_s,
        )
        static = self._rules.config.node
        self.properties = Properties(
            static={**static.properties, **static.labels},
            providers=lambda: (*(self._app.providers if self._app else ()), *self._providers),
            announce=lambda properties: self.membership.announce(properties=properties),
            clock=self.clock,
        )
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

    def _build_faces(self) -> None:
        """What answers questions, and what keeps order."""
        self.report = Report(
            data_dir=self._data_dir,
            store=self.store,
            blobs=self.blobs,
            manager=self.manager,
            distributor=self.distributor,
            view=lambda: self.membership.view,
            links=self.transport.peers,
            refusals=self.transport.refusals,
            facts=self._facts,
            trust=self.standing.trust,
            policy=self.owner.as_json,
            pulse=self.membership.pulse,
            links_of=self.membership.links_of,
            clock=self.clock,
        )
        self.feed = Feed(self._bus, self.store)
        self.sightings = Sightings(self._bus, self.clock, lambda: self.membership.view)
        self.statistics = Statistics(self._bus, self.clock, self.store)
        self.finder = Finder(self.store, self.distributor, self.report, self.clock, self.id)
        self.desk = Desk(
            self.store,
            self.blobs,
            self._bus,
            stop=self.distributor.stop,
            describe=self.report.job,
        )
        self.queueing = Queueing(
            self.store,
            self.manager,
            self.clock.now,
            lambda: self._rules.config,
            self.statistics.as_json,
        )
        rules, forget = self._rules, self.manager.leftovers.forget
        self.adoption = Adoption(
            self.store,
            self.blobs,
            self.manager,
            self.clock,
            own=(self.id, self.name),
            lease_over_s=watch_s(self._rules.config.timing.lease_s),
        )
        self._bus.listen(LinkUp, self._back_from_the_dead)
        history = History(self.store, self.clock, forget, rules.retention, rules.keeps)
        self.housekeeping = Housekeeping(
            self.store, self.blobs, self.clock, history, self._rules.keeping, self._tight
        )

    def _tight(self) -> bool:
        return self._rules.tight(free_bytes(self._data_dir.path), self.blobs.used)

    async def _open_links(self) -> None:
        self._exit.push_async_callback(self.transport.close)
        await self.transport.open()
        self._data_dir.port_file.write_text(f"{self.transport.port}\n", "ascii")

    def _start(self) -> None:
        """Start what runs in the background; it ends in the opposite order."""
        for room in (
            self.housekeeping,
            self.discovery,  # before the links: its goodbye by mDNS takes longer than theirs
            self.transport,
            self.membership,
            self.distributor,
            self.scheduler,
            self.owner,
            self.properties,
            *self._rooms,
        ):
            task = self._loop.create_task(room.run())
            task.add_done_callback(_room_ended)
            self.running.append(task)
            self._exit.push_async_callback(_end, task)

    # --- what the rooms ask ------------------------------------------------------------------

    def _look_at_properties(self) -> None:
        if self.running:
            self.properties.look_again()

    def _find(self, word: str) -> str:
        return self.report.instance_id(word)

    def _lease_of(self, topic: str, delivery: Delivery) -> float | None:
        return self._rules.lease_of(topic, delivery, self.executors.consumer(topic))

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

    def _facts(self) -> dict[str, Any]:
        node = self._rules.config.node
        return {
            "id": self.id,
            "name": self.name,
            "version": VERSION,
            "port": self.transport.port,
            "realm": node.realm,
            "insecure": node.insecure,
            "listen": list(self.standing.listen),
            **self.standing.facts(),
        }

    def _port_hint(self) -> int:
        with suppress(OSError, ValueError):
            return int(self._data_dir.port_file.read_text("ascii"))
        return DEFAULT_PORT

    def _app_changed(self) -> None:
        """Tell everybody what can be run here now, whichever thread has changed the app."""
        self._loop.call_soon_threadsafe(self._announce)
        self._loop.call_soon_threadsafe(self.properties.look_again)

    def _announce(self) -> None:
        self.membership.announce(**self._run_here())

    def _run_here(self) -> dict[str, Any]:
        """Return what is announced of the topics that can be run here."""
        offer = self.enablement.offer()
        versions = {p: v for p in offer.enabled if (v := self.executors.version(p))}
        return {
            "capabilities": self._rules.capabilities(offer.enabled),
            "disabled": offer.disabled,
            "versions": versions,
        }

    async def _hand_back(self, reason: str, own: bool) -> None:
        await self.distributor.hand_back(reason, own)

    def _gate_moved(self, _: GateMoved) -> None:
        """Tell peers at once how many places there are now."""
        for peer in self.transport.peers():
            self.membership.beat_now(peer)

    def _store_failed(self, fault: StoreFault) -> None:
        self._fail(fault)

    def _back_from_the_dead(self, link: LinkUp) -> None:
        if link.hello.store_id in self.adoption.stores:
            log.warning(
                "%s is back, though its jobs were adopted here: they may run twice;"
                " give it a new data directory",
                link.hello.name,
            )

    def _twin_found(self, twin: TwinFound) -> None:
        """Take no part any more if we are the copy: the other one goes on under our id (C057)."""
        if not twin.younger or self.fault.done():
            return
        fault = TwinRuns(str(self._data_dir.path), twin.reason)
        log.critical("this instance takes no part any more: its id is in use elsewhere")
        self._fail(fault)
        for task in self.running:
            task.cancel()

    def _fail(self, fault: OffloadError) -> None:
        if not self.fault.done():
            self.fault.set_exception(fault)
            self.fault.exception()  # it is in the log, for programs that do not wait for it


async def _end(task: asyncio.Task[Any]) -> None:
    """End a room; what it failed with was told when it did."""
    task.cancel()
    await asyncio.wait([task])


def _room_ended(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a room of this instance failed: %s", error, exc_info=error)
