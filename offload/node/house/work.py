"""The work wing: a store, blobs, executors, the manager above them, and the schedules' book."""

import asyncio
from collections.abc import Awaitable

from offload.adoption import check_not_adopted
from offload.blobs import Blobs, Shares
from offload.machine import resources
from offload.node.house.ground import Ground
from offload.payload import Encoded
from offload.scheduler import Book, declared, local_zone
from offload.work.executors import Executors
from offload.work.jobs import Delivery, Job, Options
from offload.work.manager import Manager


class WorkWing(Ground):
    """The rooms that know of no other instance."""

    def add(self, topic: str, encoded: Encoded, options: Options) -> Awaitable[Job]:
        """Store a job, with the topic's rules where the submitter says nothing."""
        runner = self.executors.consumer(topic)
        declared = runner.delivery if runner else self._declared_elsewhere(topic)
        return self.manager.add(topic, encoded, self._rules.completed(topic, options, declared))

    def _declared_elsewhere(self, topic: str) -> str | None:  # noqa: ARG002 - nobody is known yet
        """Return how often consumers of others say that a job of ``topic`` may be started."""
        return None

    async def _build_work(self) -> None:
        """The work wing: a store, blobs, executors, and the manager above them."""
        place, rules = self._data_dir, self._rules
        self.store = await asyncio.to_thread(self._parts.store, place.store)
        self._exit.push_async_callback(self.store.close)
        check_not_adopted(self.store, place.path)
        self.store.on_fault = self._fail
        self.clock = self._parts.clock(self.store.mark)
        self._opened_at = self.clock.now()
        self.blobs = Blobs(place.blobs)
        self.shares = Shares(lambda: rules.config.shared)
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
            shares=self.shares,
        )
        self._exit.push_async_callback(self.manager.close)
        self.book = Book(self.store, self.clock.wall, local_zone())
        await self.book.open(declared(rules.config.schedules, self.clock.wall()))

    def _scarce(self, wanted: float) -> bool:
        return self._rules.scarce(self._free_bytes(), self.blobs.used, wanted)

    def _lease_of(self, topic: str, delivery: Delivery) -> float | None:
        return self._rules.lease_of(topic, delivery, self.executors.consumer(topic))
