"""
The object that runs the own instance.

It builds the rooms from one ``Config``, opens them upward and closes them downward. No rule lives
here.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import lru_cache
from inspect import signature
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from offload.app import App, is_context, loading
from offload.blobs import Blobs
from offload.config import DEFAULT_PORT, Config, queue_of, topic_config
from offload.datadir import DataDir, locate
from offload.distributor import Distributor
from offload.errors import JobNotFound, Refused, StoreFault, UsageError
from offload.events import Bus
from offload.housekeeping import Housekeeping
from offload.job import Desk, Job, Options
from offload.parts import REAL, Parts
from offload.payload import Encoded, encode
from offload.peers.discovery import Settings
from offload.peers.identity import Identity
from offload.peers.membership import Membership
from offload.peers.topology import Announcement, Capability, Topology, TopologyEvent, TopologyView
from offload.peers.transport import Hello
from offload.placement import Policy
from offload.report import Report
from offload.version import VERSION
from offload.work.executors import Executors
from offload.work.jobs import Job as Record
from offload.work.jobs import RetryRule, State
from offload.work.manager import JobChanged, JobNews, Manager
from offload.work.queues import QueueRule, delays

log = logging.getLogger(__name__)
PROTOCOL: Final = (1, 1)
TOPICS_REMEMBERED: Final = 4096


class Node:
    """
    The own instance, while it is open.

    Open it with ``async with``; jobs run and are handed out from then on.

    Args:
        config: What governs it.
        app: Its consumers; without one it only hands out jobs.
        data_dir: Its folder; by default the one that ``config`` names.
        parts: What it is built of; tests have others.
    """

    def __init__(
        self, config: Config, app: App | None, data_dir: DataDir, parts: Parts = REAL
    ) -> None:
        self.config = config
        self.app = app
        self.data_dir = data_dir
        self._parts = parts
        self.name = config.node.name
        self.id = ""
        self.bus = Bus()
        self._fault: asyncio.Future[None] | None = None
        self._rooms: list[asyncio.Task[Any]] = []
        self._exit = AsyncExitStack()

    @classmethod
    def from_config(
        cls, config: str | Path | Config | None = None, app: App | None = None
    ) -> "Node":
        """
        Return the node that ``config`` describes, to be opened with ``async with``.

        Args:
            config: A file, a ``Config``, or None: what a command would find here.
            app: The program's consumers.

        Raises:
            ConfigError: If the configuration is wrong; it names the key.
        """
        if isinstance(config, Config):
            place, loaded = locate(config.node.data_dir)[0], config
        else:
            place, path = locate(None, config)
            loaded = Config.load(path, flags={"node.data_dir": str(place.path)})
        return cls(loaded, app, place)

    # --- opening and closing -----------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if loading():
            raise UsageError(
                "the program starts a node while it is imported for its consumers;"
                ' put that under: if __name__ == "__main__":'
            )
        try:
            await self._open()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._exit.aclose()

    async def serve(self, stop: asyncio.Event) -> None:
        """
        Run until ``stop`` is set, then drain; raise what a room or the store fails with.

        Raises:
            StoreFault: If the store can no longer be trusted.
        """
        assert self._fault is not None  # noqa: S101 -- an open node has it
        asked: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        ends: list[asyncio.Future[Any]] = [self._fault, *self._rooms]
        await asyncio.wait([*ends, asked], return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        for end in ends:
            if end.done():
                end.result()
        await self.drain()

    async def drain(self) -> None:
        """Take no new work, let what runs finish within ``drain_timeout``, hand back the rest."""
        self._membership.announce(draining=True)
        await self._distributor.drain(self.config.node.drain_timeout_s)

    async def _open(self) -> None:
        self.data_dir.lock()
        self._exit.callback(self.data_dir.unlock)
        self.id = (await asyncio.to_thread(Identity.load, self.data_dir.identity)).id
        await self._open_work()
        await self._open_peers()
        await self._distributor.recover()
        self._start_rooms()
        self.data_dir.write_run(
            {
                "pid": os.getpid(),
                "boot": self._store.boot,
                "id": self.id,
                "port": self._transport.port,
                "socket": str(self.data_dir.socket),
            }
        )

    async def _open_work(self) -> None:
        """The work wing: a store, blobs, executors, and the manager above them."""
        place, loop = self.data_dir, asyncio.get_running_loop()
        self._store = await asyncio.to_thread(self._parts.store, place.store)
        self._exit.push_async_callback(self._store.close)
        self._fault = loop.create_future()
        self._store.on_fault = self._store_failed
        self._clock = self._parts.clock(self._store.mark)
        self._opened_at = self._clock.now()
        self._blobs = Blobs(place.blobs)
        self._executors = Executors(self.app, run_file=place.children_file)
        await self._executors.open()
        self._exit.push_async_callback(self._executors.close)
        self._queue_of = lru_cache(TOPICS_REMEMBERED)(self._queue_rule)
        self._policy_of = lru_cache(TOPICS_REMEMBERED)(self._policy_rule)
        self._manager = Manager(
            store=self._store,
            blobs=self._blobs,
            executors=self._executors,
            bus=self.bus,
            clock=self._clock,
            own_id=self.id,
            queue_of=self._queue_of,
            work_folder=place.work,
            results_folder=place.results,
        )
        self._exit.push_async_callback(self._manager.close)

    async def _open_peers(self) -> None:
        """The peers wing, and the rooms that join it to the work wing."""
        config, timing = self.config, self.config.timing
        handlers: dict[str, Any] = {}
        self._transport = self._parts.network(
            hello=self._hello,
            handlers=handlers,
            blobs=self._blobs,
            bus=self.bus,
            listen=config.node.listen,
            port=config.node.port,
            port_hint=self._port_hint(),
        )
        await self._transport.open()
        self._exit.push_async_callback(self._transport.close)
        self._remember_port(self._transport.port)
        own = Announcement(
            self.id,
            self.name,
            self._store.boot,
            capabilities=self._capabilities(),
            properties={**config.node.properties, **config.node.labels},
            version=VERSION,
        )
        now = self._clock.now()
        topology = Topology(own, now, heartbeat_s=timing.heartbeat_s, lease_s=timing.lease_s)
        self._membership = Membership(
            topology,
            self._transport,
            self.bus,
            self._clock,
            heartbeat_s=timing.heartbeat_s,
            event_delay_s=timing.event_delay_s,
        )
        self._discovery = self._parts.discovery(
            self._membership, self._transport, self.bus, self._clock, self._discovery_settings()
        )
        self._distributor = self._make_distributor()
        self._membership.set_load(self._distributor.load_for)
        handlers.update(self._membership.handlers())
        handlers.update(self._distributor.handlers())
        self._make_faces()

    def _make_distributor(self) -> Distributor:
        return Distributor(
            manager=self._manager,
            store=self._store,
            blobs=self._blobs,
            network=self._transport,
            bus=self.bus,
            clock=self._clock,
            own_id=self.id,
            lease_s=self.config.timing.lease_s,
            view=lambda: self._membership.view,
            linked=lambda peer: peer in self._transport.peers(),
            takes=self._takes,
            policy_of=self._policy_of,
            retry_of=lambda topic: self._queue_of(topic).retry,
        )

    def _make_faces(self) -> None:
        self._report = Report(
            data_dir=self.data_dir,
            store=self._store,
            blobs=self._blobs,
            manager=self._manager,
            distributor=self._distributor,
            view=lambda: self._membership.view,
            links=self._transport.peers,
            facts=self._facts,
        )
        self._desk = Desk(
            self._store,
            self._blobs,
            self.bus,
            stop=self._distributor.stop,
            describe=self._report.job,
        )
        self._housekeeping = Housekeeping(self._store, self._blobs, self._clock)

    def _start_rooms(self) -> None:
        """Start what runs in the background; it ends in the opposite order."""
        for room in (
            self._housekeeping,
            self._transport,
            self._membership,
            self._discovery,
            self._distributor,
        ):
            task = asyncio.get_running_loop().create_task(room.run())
            task.add_done_callback(_room_ended)
            self._rooms.append(task)
            self._exit.push_async_callback(_end, task)

    # --- jobs --------------------------------------------------------------------------------

    async def submit(self, what: str | Callable[..., Any], /, *args: Any, **arguments: Any) -> Job:
        """
        Add a job for a topic or a consumer function; it is on disk when this returns.

        Raises:
            InvalidTopic, UsageError, PayloadError, UnsafeName: If it cannot be; nothing is stored.
            DiskFull: If there is no room; nothing is stored.
        """
        return await self.options().submit(what, *args, **arguments)

    async def offload(self, what: str | Callable[..., Any], /, *args: Any, **arguments: Any) -> Any:
        """Add a job and return its value; raise ``JobFailed`` if it does not succeed."""
        return await self.options().offload(what, *args, **arguments)

    def options(self, **options: Any) -> "Submitter":
        """Return ``submit`` and ``offload`` with these ``Options``."""
        return Submitter(self, Options(**options))

    async def submit_encoded(self, topic: str, encoded: Encoded, options: Options) -> Job:
        """Add a job whose arguments are packed already."""
        if options.policy and options.policy not in list(Policy):
            raise UsageError(f"policy: must be one of {', '.join(Policy)}")
        return self._desk.handle(
            await self._manager.add(topic, encoded, self._completed(topic, options))
        )

    async def job(self, id_or_prefix: str) -> Job:
        """Return the job whose id starts so; raise ``JobNotFound`` or ``AmbiguousId``."""
        return self._desk.handle(await self._record(id_or_prefix))

    async def jobs(
        self,
        *,
        states: Collection[State] = (),
        topic: str = "**",
        limit: int = 100,
        before_seq: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return jobs that were added here, in short, newest first."""
        return await self._report.jobs(
            states=states, topic=topic, limit=limit, before_seq=before_seq
        )

    async def describe(self, job_id: str) -> dict[str, Any]:
        """Return all about one job."""
        return await self._report.job(await self._store.resolve(job_id))

    async def logs(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return the lines of its log that follow number ``after``."""
        return await self._report.logs(await self._store.resolve(job_id), after)

    async def stop(self, job_id: str) -> bool:
        """Stop the job wherever it is; True once no outcome of it will be applied."""
        return await self._distributor.stop(await self._store.resolve(job_id))

    async def retry(self, job_id: str) -> Job:
        """Add a finished job anew: same topic, arguments and files (C042)."""
        job = await self._record(job_id)
        if not job.finished:
            raise Refused(f"job {job.id} is {job.state}; only a finished one can be added anew")
        again = await self._manager.add_again(job)
        return self._desk.handle(again)

    async def remove(self, job_id: str) -> bool:
        """Drop a job that waits, or delete a finished one for good; False: stop it first."""
        job = await self._record(job_id)
        return await self._manager.drop(job.id)

    # --- the instance ------------------------------------------------------------------------

    @property
    def topology(self) -> TopologyView:
        """Who is there, as this instance sees it now."""
        return self._membership.view

    def topology_events(self) -> AsyncIterator[TopologyEvent]:
        """Return the topology events from now on, INIT first (C050)."""
        return self._membership.events()

    def events(self) -> AsyncIterator[JobChanged | JobNews]:
        """Return what happens to own jobs from now on."""
        return self.bus.stream((JobChanged, JobNews))

    def topology_json(self) -> dict[str, Any]:
        """Return who is there as plain values."""
        return self._report.topology()

    async def explain(self, job_or_topic: str) -> dict[str, Any]:
        """Say why a job is where it is, or who would run a topic, and why."""
        return await self._report.explain(job_or_topic)

    async def status(self) -> dict[str, Any]:
        """Return how this instance is doing."""
        return await self._report.status()

    # --- what the rooms are told -------------------------------------------------------------

    def topic_of(self, what: str | Callable[..., Any]) -> str:
        """Return the topic that a string or a consumer function names."""
        if isinstance(what, str):
            return what
        if self.app is None:
            raise UsageError("this node has no app; name the topic instead of a function")
        return self.app.topic_of(what)

    async def _record(self, id_or_prefix: str) -> Record:
        job = await self._store.job(await self._store.resolve(id_or_prefix))
        if job is None:
            raise JobNotFound(id_or_prefix)
        return job

    def _completed(self, topic: str, options: Options) -> Options:
        """Return ``options`` with what the topic says where the submitter says nothing."""
        ruled = topic_config(self.config, topic)
        consumer = self._executors.consumer(topic)
        return replace(
            options,
            delivery=options.delivery
            or ruled.delivery
            or (consumer.delivery if consumer else None),
            timeout_s=ruled.timeout_s if options.timeout_s is None else options.timeout_s,
        )

    def _takes(self, topic: str) -> bool:
        allowed = self.config.capabilities.allows(topic)
        return allowed and self._executors.consumer(topic) is not None

    def _capabilities(self) -> tuple[Capability, ...]:
        patterns = [c.pattern for c in self.app.consumers] if self.app else []
        allowed = sorted({p for p in patterns if self.config.capabilities.allows(p)})
        return tuple(Capability(p, queue_of(self.config, p.replace("*", "x"))[0]) for p in allowed)

    def _queue_rule(self, topic: str) -> QueueRule:
        name, rules = queue_of(self.config, topic)
        retry = RetryRule(
            rules.retries,
            delays(rules.retry_delay_s, rules.retry_delay_max_s, rules.backoff),
            rules.max_crashes,
        )
        return QueueRule(name, rules.slots(os.cpu_count() or 1), retry)

    def _policy_rule(self, topic: str) -> Policy:
        return Policy(topic_config(self.config, topic).policy or self.config.offloading.policy)

    def _hello(self) -> Hello:
        return Hello(
            versions=PROTOCOL,
            id=self.id,
            name=self.name,
            store_id=self._store.store_id,
            boot=self._store.boot,
            realm=self.config.node.realm,
            port=self._transport.port,
            uptime_s=self._clock.now() - self._opened_at,
        )

    def _discovery_settings(self) -> Settings:
        config = self.config
        return Settings(
            realm=config.node.realm,
            listen=config.node.listen,
            mdns=config.discovery.mdns,
            interfaces=config.discovery.interfaces,
            peers=config.discovery.peers,
            advertise=config.node.advertise,
            memory=self.data_dir.peers_file,
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "version": VERSION,
            "port": self._transport.port,
            "realm": self.config.node.realm,
            "insecure": self.config.node.insecure,
        }

    def _port_hint(self) -> int:
        with suppress(OSError, ValueError):
            return int(self.data_dir.port_file.read_text("ascii"))
        return DEFAULT_PORT

    def _remember_port(self, port: int) -> None:
        self.data_dir.port_file.write_text(f"{port}\n", "ascii")

    def _store_failed(self, fault: StoreFault) -> None:
        if self._fault is not None and not self._fault.done():
            self._fault.set_exception(fault)


class Submitter:
    """``submit`` and ``offload`` of a node, with options."""

    def __init__(self, node: Node, options: Options) -> None:
        self._node = node
        self._options = options

    async def submit(self, what: str | Callable[..., Any], /, *args: Any, **arguments: Any) -> Job:
        """Add a job; see ``Node.submit``."""
        value = _named(what, args, arguments)
        return await self._node.submit_encoded(
            self._node.topic_of(what), encode(value), self._options
        )

    async def offload(self, what: str | Callable[..., Any], /, *args: Any, **arguments: Any) -> Any:
        """Add a job and return its value; see ``Node.offload``."""
        job = await self.submit(what, *args, **arguments)
        return await job.result()


def _named(
    what: str | Callable[..., Any], args: tuple[Any, ...], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all arguments by name: positional ones by the signature, or else by their number."""
    if not args:
        return dict(arguments)
    if isinstance(what, str):
        return {**{str(index): value for index, value in enumerate(args)}, **arguments}
    asked = signature(what)
    given = [p for p in asked.parameters.values() if not is_context(p.annotation)]
    try:
        return dict(asked.replace(parameters=given).bind(*args, **arguments).arguments)
    except TypeError as error:
        raise UsageError(f"{getattr(what, '__qualname__', what)}: {error}") from None


async def _end(task: asyncio.Task[Any]) -> None:
    """End a room; what it failed with was told when it did."""
    task.cancel()
    await asyncio.wait([task])


def _room_ended(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a room of this instance failed: %s", error, exc_info=error)
