"""What can be asked of an open instance, about itself and those around it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from offload.affairs import GroupAffairs
from offload.node.house import House
from offload.peers.topology import TopologyEvent, TopologyView
from offload.work.manager import JobEvent


class Questions:
    """The part of a ``Node`` that answers."""

    _house: House

    @property
    def group(self) -> GroupAffairs:
        """What can be asked, and done, about the group; see ``offload group``."""
        return self._house.affairs

    @property
    def topology(self) -> TopologyView:
        """Who is there, as this instance sees it now."""
        return self._house.membership.view

    @property
    def running(self) -> list[str]:
        """Ids of the jobs that run here now, own ones and those of others."""
        return self._house.manager.runs.running()

    def topology_events(self) -> AsyncIterator[TopologyEvent]:
        """Return the topology events from now on, INIT first (C050)."""
        return self._house.membership.events()

    def on_topology(
        self, listener: Callable[[TopologyEvent], Awaitable[None] | None]
    ) -> Callable[[], None]:
        """
        Call ``listener`` with each topology event, INIT first (C050); return what ends that.

        It must not block, unless it is ``async``: then it has the events one after the other, and
        may take its time. What is different between the two views of an event,
        ``offload.peers.topology.changes`` tells.
        """
        return self._house.membership.listen(listener)

    def topology_json(self) -> dict[str, Any]:
        """Return who is there as plain values."""
        return self._house.report.topology()

    def topology_history(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the last changes of the topology since the start, with times and causes."""
        return self._house.sightings.as_json(limit)

    async def doctor(self, host: str = "") -> dict[str, Any]:
        """
        Say what keeps this instance and others from seeing each other; see docs/doctor.md.

        Args:
            host: ``host``, ``host:port``, or a member's name or id, to be looked at as well.

        Raises:
            UsageError: If ``host`` is neither an address nor a member.
        """
        return await self._house.doctor.examine(host)

    def events(self, topic: str = "**") -> AsyncIterator[JobEvent]:
        """Return what happens from now on to jobs that were added here, by topic pattern."""
        return self._house.feed.events(topic)

    def event_lines(self, topic: str = "**") -> AsyncIterator[dict[str, Any]]:
        """Return the same as plain values."""
        return self._house.feed.lines(topic)

    async def statistics(self) -> dict[str, Any]:
        """Return what was counted and measured, in total, by queue and by topic."""
        return await self._house.statistics.as_json()

    async def reset_statistics(self) -> None:
        """Count anew from now on; what waits and runs is still known."""
        self._house.statistics.reset()

    async def explain(self, job_or_topic: str) -> dict[str, Any]:
        """Say why a job is where it is, or who would run a topic, and why."""
        return await self._house.report.explain(job_or_topic)

    async def status(self) -> dict[str, Any]:
        """Return how this instance is doing."""
        return await self._house.report.status()
