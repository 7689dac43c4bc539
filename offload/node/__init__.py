"""
The object that runs the own instance.

It builds the rooms from one ``Config``, opens them upward and closes them downward. No rule lives
here: ``rules`` puts the configuration as the rooms understand it, ``house`` builds them.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from offload.app import App, Provider, loading
from offload.config import LIVE_SECTIONS, Config, changed_sections
from offload.datadir import DataDir, locate
from offload.enablement import Enablement
from offload.errors import JobNotFound, LetterNotFound, Refused, UsageError
from offload.events import Bus
from offload.job import Job, Options, wished
from offload.mapping import Maps
from offload.node.house import House
from offload.node.questions import Questions
from offload.node.rules import Rules
from offload.node.submitter import Submitter
from offload.parts import REAL, Parts
from offload.payload import Encoded
from offload.work.jobs import Job as Record

__all__ = ["Node", "Submitter"]
log = logging.getLogger(__name__)


class Node(Questions, Maps):
    """
    The own instance, while it is open.

    Open it with ``async with``; jobs run and are handed out from then on.

    Args:
        config: What governs it.
        app: Its consumers; without one it only hands out jobs.
        data_dir: Its folder; by default the one that ``config`` names.
        parts: What it is built of; tests have others.
        again: Loads the configuration once more.
    """

    def __init__(
        self,
        config: Config,
        app: App | None,
        data_dir: DataDir,
        parts: Parts = REAL,
        again: Callable[[], Config] | None = None,
    ) -> None:
        self._again = again
        self.app = app
        self.data_dir = data_dir
        self.bus = Bus()
        self._rules = Rules(config)
        self._house = House(self._rules, app, data_dir, parts, self.bus)
        self._plain = self.options()

    @property
    def config(self) -> Config:
        """What governs it now; ``reload`` may change parts of it."""
        return self._rules.config

    @property
    def name(self) -> str:
        """What people call it."""
        return self._house.name

    @property
    def id(self) -> str:
        """Its instance id; "" before it is opened for the first time."""
        return self._house.id

    @classmethod
    def from_config(
        cls,
        config: str | Path | Config | None = None,
        app: App | None = None,
        *,
        again: Callable[[], Config] | None = None,
    ) -> "Node":
        """
        Return the node that ``config`` describes, to be opened with ``async with``.

        Args:
            config: A file, a ``Config``, or None: what a command would find here.
            app: The program's consumers.
            again: What loads a given ``Config`` once more, for ``reload``; a file needs none.

        Raises:
            ConfigError: If the configuration is wrong; it names the key.
        """
        if isinstance(config, Config):
            place, loaded = locate(config.node.data_dir)[0], config
        else:
            place, path = locate(None, config)
            again = partial(Config.load, path, flags={"node.data_dir": str(place.path)})
            loaded = again()
        return cls(loaded, app, place, again=again)

    # --- opening and closing -----------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if loading():
            raise UsageError(
                "the program starts a node while it is imported for its consumers;"
                ' put that under: if __name__ == "__main__":'
            )
        await self._house.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._house.close()

    async def serve(self, stop: asyncio.Event) -> None:
        """
        Run until ``stop`` is set, then drain; raise what a room or the store fails with.

        Raises:
            StoreFault: If the store can no longer be trusted.
        """
        asked: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        ends: list[asyncio.Future[Any]] = [self._house.fault, *self._house.running]
        await asyncio.wait([*ends, asked], return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        for end in ends:
            if end.done():
                end.result()
        await self.drain()

    async def drain(self) -> None:
        """Take no new work, let what runs finish within ``drain_timeout``, hand back the rest."""
        self._house.membership.announce(draining=True)
        await self._house.distributor.drain(self.config.node.drain_timeout_s)

    def hurry(self) -> None:
        """Let a drain, now or to come, hand back at once what still runs."""
        self._house.distributor.hurry()

    # --- jobs --------------------------------------------------------------------------------

    async def submit(self, what: str | Callable[..., Any], /, *args: Any, **arguments: Any) -> Job:
        """
        Add a job for a topic or a consumer function; it is on disk when this returns.

        Raises:
            InvalidTopic, UsageError, PayloadError, UnsafeName: If it cannot be; nothing is stored.
            QueueFull: If as many jobs wait here as may, and ``if_full`` is not "wait".
            DiskFull: If there is no room; nothing is stored.
        """
        return await self._plain.submit(what, *args, **arguments)

    async def offload(self, what: str | Callable[..., Any], /, *args: Any, **arguments: Any) -> Any:
        """Add a job and return its value; raise ``JobFailed`` if it does not succeed."""
        return await self._plain.offload(what, *args, **arguments)

    def options(self, **options: Any) -> Submitter:
        """Return ``submit``, ``offload`` and ``map`` with these ``Options``."""
        return Submitter(self, wished(options))

    async def submit_encoded(self, topic: str, encoded: Encoded, options: Options) -> Job:
        """Add a job whose arguments are packed already."""
        return self._house.desk.handle(await self._house.add(topic, encoded, options))

    async def schedule(
        self, what: str | Callable[..., Any], /, *args: Any, **when: Any
    ) -> dict[str, Any]:
        """
        Make jobs when it is time.

        One of ``every``, ``hourly``, ``daily``, ``weekly``, ``monthly``, ``yearly``, ``at`` and
        ``cron`` says when (see ``offload.calendar.Times.of``), ``zone``, ``misfire`` and ``scope``
        are as in ``[[schedules]]``, all else are the arguments of the jobs.

        The same topic, arguments, times and scope are the same schedule, added once (C043).

        Raises:
            UsageError, InvalidTopic, PayloadError: If it cannot be; nothing is stored.
            Refused: If its only moment has passed.
        """
        return await self.options().schedule(what, *args, **when)

    async def schedule_encoded(
        self, topic: str, encoded: Encoded, when: Mapping[str, Any], options: Options, **how: str
    ) -> dict[str, Any]:
        """Add a schedule whose arguments are packed already; ``how``: zone, misfire, scope."""
        return await self._house.scheduler.plan(topic, encoded, when, options, **how)

    async def schedules(self) -> list[dict[str, Any]]:
        """Return the schedules that this instance knows, the next to fire first."""
        return await self._house.scheduler.all()

    async def schedule_info(self, schedule_id: str) -> dict[str, Any]:
        """Return all about a schedule; raise ``ScheduleNotFound``."""
        return self._house.scheduler.describe(schedule_id)

    async def suspend_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let a schedule fire no more until it is resumed; raise ``ScheduleNotFound``."""
        return await self._house.scheduler.suspend(schedule_id)

    async def resume_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let a suspended schedule fire from now on; raise ``ScheduleNotFound``."""
        return await self._house.scheduler.resume(schedule_id)

    async def remove_schedule(self, schedule_id: str) -> None:
        """Remove a schedule; raise ``ScheduleNotFound``, or ``Refused`` if it is configured."""
        await self._house.scheduler.remove(schedule_id)

    async def job(self, id_or_prefix: str) -> Job:
        """Return the job whose id starts so; raise ``JobNotFound`` or ``AmbiguousId``."""
        return self._house.desk.handle(await self._record(id_or_prefix))

    async def jobs(
        self,
        *,
        limit: int = 100,
        before_seq: int | None = None,
        **query: Any,
    ) -> list[dict[str, Any]]:
        """
        Return jobs in short, newest first.

        Without more words those that were added here. ``states`` (or ``live``, ``history``,
        ``unreadable``), ``topic`` (a pattern), ``where`` (``["size>=256"]``), ``match`` (``all``
        or ``any`` of them), ``since``, ``until`` (a moment, or ``"2h"`` ago), ``worker``,
        ``origin`` (another's jobs that are here) and ``queue`` say which (``work.jobs.query``).

        Raises:
            UsageError, InvalidTopic: If a word cannot be understood.
        """
        return await self._house.finder.jobs(limit=limit, before_seq=before_seq, **query)

    async def find(
        self, *, limit: int = 100, before_seq: int | None = None, **query: Any
    ) -> list[Job]:
        """Return the handles of jobs that were added here, newest first; words as in ``jobs``."""
        found = await self._house.finder.readable(limit=limit, before_seq=before_seq, **query)
        return [self._house.desk.handle(job) for job in found]

    async def count(self, **query: Any) -> int:
        """Return how many jobs there are; words as in ``jobs``."""
        return await self._house.finder.count(**query)

    async def describe(self, job_id: str) -> dict[str, Any]:
        """Return all about one job."""
        return await self._house.report.job(await self._house.store.resolve(job_id))

    async def logs(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return the lines of its log that follow number ``after``."""
        return await self._house.report.logs(await self._house.store.resolve(job_id), after)

    async def stop(self, job_id: str) -> bool:
        """Stop the job wherever it is; True once no outcome of it will be applied."""
        job_id = await self._house.store.resolve(job_id)
        stopped = await self._house.distributor.stop(job_id)
        if not stopped:
            await self._record(job_id)  # of one that cannot be read, nobody knows whether it ended
        return stopped

    async def retry(self, job_id: str) -> Job:
        """Add a finished job anew: same topic, arguments and files (C042)."""
        job = await self._record(job_id)
        if not job.finished:
            raise Refused(f"job {job.id} is {job.state}; only a finished one can be added anew")
        again = await self._house.manager.add_again(job)
        return self._house.desk.handle(again)

    async def remove(self, job_id: str) -> bool:
        """
        Drop a job that waits, or delete one for good that has ended or cannot be read.

        Returns:
            Whether that was done; False: it is under way, stop it first.
        """
        return await self._house.manager.control.drop(await self._house.store.resolve(job_id))

    async def requeue(self, job_id: str) -> Job:
        """
        Let a job that failed, or waits for a retry or a time, go again now, under its id.

        Raises:
            Refused: If it is under way, has succeeded, or its input files are gone.
        """
        job = await self._record(job_id)
        return self._house.desk.handle(await self._house.manager.control.requeue(job.id))

    async def set_priority(self, job_id: str, priority: int) -> Job:
        """Give a job that waits another priority; raise ``Refused`` if it does not wait."""
        job = await self._record(job_id)
        return self._house.desk.handle(
            await self._house.manager.control.set_priority(job.id, priority)
        )

    async def adopt(self, data_dir: str | Path) -> dict[str, Any]:
        """
        Take over the jobs of a data directory whose instance will not come back.

        See ``offload.adoption.Adoption.adopt``: what is returned, and what is raised.
        """
        return await self._house.adoption.adopt(data_dir)

    async def dead_letters(self) -> list[dict[str, Any]]:
        """Return the outcomes that nobody took, or that came too late, the newest first."""
        return await self._house.report.letters()

    async def dead_letter(self, number: int) -> dict[str, Any]:
        """Return one of them, also an unreadable one; raise ``LetterNotFound``."""
        [found] = await self._house.report.letters(number)
        return found

    async def remove_dead_letter(self, number: int) -> None:
        """Remove one of them for good, with its files; raise ``LetterNotFound``."""
        if not await self._house.store.remove_letters([number]):
            raise LetterNotFound(number)

    # --- topics ------------------------------------------------------------------------------

    @property
    def topics(self) -> Enablement:
        """Which instance runs which topics, and the switches of that, for every instance."""
        return self._house.enablement

    # --- properties --------------------------------------------------------------------------

    def add_properties(self, provider: Provider) -> Callable[[], None]:
        """
        Show all others what ``provider`` returns, beside what the configuration says (C058).

        It is called without arguments twice a second, in a thread, or awaited if it is async. A bad
        name or value, or an error, is told in the log and changes nothing.

        Returns:
            What ends that.
        """
        return self._house.add_properties(provider)

    async def refresh_properties(self) -> None:
        """Ask all providers now; raise ``ConfigError`` if one gives what cannot be announced."""
        await self._house.properties.refresh()

    # --- the owner's word --------------------------------------------------------------------

    async def snooze(self, duration: str | float) -> dict[str, Any]:
        """
        Start nothing here for so long (``"1h"``), over restarts too; raise ``UsageError``.

        What runs finishes, or is handed back, as ``[policy] on_return`` says.
        """
        return await self._house.owner.snooze(duration)

    async def wake(self) -> dict[str, Any]:
        """End a snooze."""
        return await self._house.owner.wake()

    # --- queues ------------------------------------------------------------------------------

    async def queues(self) -> list[dict[str, Any]]:
        """Return all queues by name: what waits in them, what runs, and whether they are open."""
        return await self._house.queueing.all()

    async def suspend_queue(self, name: str) -> None:
        """Start no more jobs of a queue, over restarts too (C018); raise ``UsageError``."""
        await self._house.queueing.suspend(name)

    async def resume_queue(self, name: str) -> None:
        """Start the jobs of a queue again; raise ``UsageError``."""
        await self._house.queueing.resume(name)

    async def clear_queue(self, name: str) -> int:
        """Drop all jobs of a queue that wait here, and return how many; raise ``UsageError``."""
        return await self._house.queueing.clear(name)

    async def set_processing(self, *, enabled: bool) -> None:
        """Start jobs on this instance, or none, over restarts too; what runs goes on (C015)."""
        await self._house.manager.gates.set_processing(enabled=enabled)

    async def reload(self, config: Config | None = None) -> dict[str, list[str]]:
        """
        Follow ``config``, or what the file says now, without a restart.

        What runs finishes under the former limits; old and new together never exceed the new ones.

        Returns:
            ``applied`` and ``restart``: the sections that have changed and are in force, and those
            that wait for a restart.

        Raises:
            ConfigError: If it is wrong; nothing has changed.
            Refused: If there is nothing to be loaded again.
        """
        if config is None:
            if self._again is None:
                raise Refused("this instance was not given a file that could be loaded again")
            config = await asyncio.to_thread(self._again)
        changed = changed_sections(self.config, config)
        applied = [name for name in changed if name in LIVE_SECTIONS]
        if applied:
            news = {name: getattr(config, name) for name in applied}
            await self._house.follow(self.config.model_copy(update=news))
        log.info("configuration loaded again: %s changed", ", ".join(changed) or "nothing")
        return {"applied": applied, "restart": [name for name in changed if name not in applied]}

    # --- the instance ------------------------------------------------------------------------

    def topic_of(self, what: str | Callable[..., Any]) -> str:
        """Return the topic that a string or a consumer function names."""
        if isinstance(what, str):
            return what
        if self.app is None:
            raise UsageError("this node has no app; name the topic instead of a function")
        return self.app.topic_of(what)

    async def _record(self, id_or_prefix: str) -> Record:
        job_id = await self._house.store.resolve(id_or_prefix)
        broken = await self._house.store.unreadable_job(job_id)
        if broken is not None:
            raise Refused(f"job {job_id} cannot be read: {broken.reason}; it can only be removed")
        job = await self._house.store.job(job_id)
        if job is None:
            raise JobNotFound(id_or_prefix)
        return job
