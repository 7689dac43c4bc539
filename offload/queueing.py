"""What a person sees of the queues, and may do with them."""

import os
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final

from offload.config import Config, queue_named
from offload.errors import UsageError
from offload.moments import iso
from offload.work.jobs import Event, Job, State, ended
from offload.work.manager import Manager
from offload.work.store import Backlog, Step, Store

CLEARED: Final = "removed with all of its queue"
PAGE: Final = 500
RATES: Final = ("added_per_s", "ended_per_s")  # of the last minute


class Queueing:
    """
    The queues of one instance.

    Args:
        store: Where the jobs are.
        manager: What starts them.
        now: The time, in steady seconds.
        config: The configuration that is in force.
        counts: What is counted of jobs (``statistics``).
    """

    def __init__(
        self,
        store: Store,
        manager: Manager,
        now: Callable[[], float],
        config: Callable[[], Config],
        counts: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self._store = store
        self._manager = manager
        self._now = now
        self._config = config
        self._counts = counts

    async def all(self) -> list[dict[str, Any]]:
        """Return all queues by name: what waits in them, what runs, and whether they are open."""
        manager = self._manager
        backlog = await self._backlog()
        under_way = Counter(manager.rule(job.topic).name for job in await self._store.assigned())
        running = {
            name: running
            for name, (running, waiting) in manager.runs.counts().items()
            if running or waiting or queue_named(self._config(), name)
        }
        counted = (await self._counts())["queues"]
        plain = {name for name in self._config().queues if "{0}" not in name}
        names = plain.union(backlog, under_way, running, manager.gates.suspended)
        return [
            {
                "name": name,
                **self._rules(name),
                "state": self._state(name),
                "depth": sum(line.count for line in backlog.get(name, ())),
                "running": running.get(name, 0),
                "under_way": under_way[name],
                **{rate: counted.get(name, {}).get(rate, 0.0) for rate in RATES},
                **_oldest(backlog.get(name, ())),
            }
            for name in sorted(names)
        ]

    async def suspend(self, name: str) -> None:
        """
        Start no more jobs of the queue, over restarts too, until it is resumed (C018).

        Raises:
            UsageError: If there is no such queue.
        """
        self._check(name)
        await self._manager.gates.suspend(name)

    async def resume(self, name: str) -> None:
        """Start the jobs of the queue again; raise ``UsageError``."""
        self._check(name)
        await self._manager.gates.resume(name)

    async def clear(self, name: str) -> int:
        """Drop all jobs of the queue that wait here, and return how many; raise ``UsageError``."""
        self._check(name)
        dropped = 0
        for line in (await self._backlog()).get(name, ()):
            after = 0
            while page := await self._store.waiting_jobs(line.topic, PAGE, after):
                rule = partial(_cleared, self._now())
                answers = await self._manager.change([(job_id, rule) for _, job_id in page])
                dropped += sum(map(bool, answers))
                after = page[-1][0]
        return dropped

    # --- inside ----------------------------------------------------------------------------

    async def _backlog(self) -> dict[str, list[Backlog]]:
        """Return what waits, by the queue that takes it."""
        queues: dict[str, list[Backlog]] = defaultdict(list)
        for line in await self._store.backlog():
            queues[self._manager.rule(line.topic).name].append(line)
        return queues

    def _check(self, name: str) -> None:
        config = self._config()
        if name in self._manager.gates.suspended:  # also one that is no longer configured
            return
        if "{0}" in name and name in config.queues:
            example = name.replace("{0}", "NAME")
            raise UsageError(f"{name!r} stands for several queues; name one, such as {example}")
        if queue_named(config, name) is None:
            raise UsageError(f"no queue {name!r}; known are {', '.join(config.queues)}")

    def _state(self, name: str) -> str:
        gates = self._manager.gates
        if name in gates.suspended:
            return "suspended"
        return "open" if gates.processing else "disabled"

    def _rules(self, name: str) -> dict[str, Any]:
        rules = queue_named(self._config(), name)
        if rules is None:  # it was taken out of the configuration
            return {"type": None, "max_parallel": self._manager.runs.places_in(name), "rate": None}
        places = rules.slots(os.cpu_count() or 1)
        return {"type": rules.type, "max_parallel": places, "rate": rules.rate}


def _oldest(lines: Iterable[Backlog]) -> dict[str, Any]:
    first = min(lines, key=lambda line: line.created_wall, default=None)
    if first is None:
        return {"oldest": None, "oldest_job": None}
    return {"oldest": iso(first.created_wall), "oldest_job": first.job_id}


def _cleared(now: float, job: Job) -> Step[bool]:
    if job.state is not State.QUEUED:
        return Step(answer=False)
    return Step(answer=True, keep=ended(job, Event.DROP, now)._replace(reason=CLEARED))
