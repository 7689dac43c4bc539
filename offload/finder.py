"""Jobs found for people and programs: those added here, and those that others gave us."""

from typing import Any

from offload.clock import Clock
from offload.distributor import Distributor
from offload.errors import UsageError
from offload.peers.names import Names
from offload.report import Report
from offload.topics import matches
from offload.work.jobs import WORDS, Held, HeldState, Job, Query, State, query
from offload.work.store import Store

_AS_STATES = {
    HeldState.HAVE: State.ASSIGNED,
    HeldState.STARTED: State.ACTIVE,
    HeldState.DONE: State.SUCCEEDED,
}


class Finder:
    """
    Finds jobs by state, topic, payload, time, origin and worker.

    Every method takes the words of ``work.jobs.query``, and ``worker`` and ``origin``, names or ids
    of instances. Without an origin, or with the own one, those jobs are meant that were added here;
    with another, those of it that are here now, of which only state, topic and time are known.
    """

    def __init__(
        self,
        store: Store,
        distributor: Distributor,
        report: Report,
        names: Names,
        clock: Clock,
        own_id: str,
    ) -> None:
        self._store = store
        self._distributor = distributor
        self._report = report
        self._names = names
        self._clock = clock
        self._own_id = own_id

    async def jobs(
        self, *, limit: int = 100, before_seq: int | None = None, origin: str = "", **words: Any
    ) -> list[dict[str, Any]]:
        """Return jobs in short, newest first; ``before_seq``: those older than that one."""
        wanted = self._query(words)
        _check_page(limit, before_seq)
        other = self._other(origin)
        if other:
            if before_seq is not None:
                raise UsageError("before: others' jobs are all on one page; ask for more at once")
            return self._of(other, wanted)[:limit]
        found = await self._store.search(wanted, limit, before_seq)
        return [self._report.brief(entry) for entry in found]

    async def readable(
        self, *, limit: int, before_seq: int | None, origin: str = "", **words: Any
    ) -> list[Job]:
        """Return the records of jobs that were added here and can be read."""
        wanted = self._query(words)
        if self._other(origin):
            raise UsageError("origin: others' jobs have no handles here; ask for them by jobs()")
        _check_page(limit, before_seq)
        found = await self._store.search(wanted, limit, before_seq)
        return [job for job in found if isinstance(job, Job)]

    async def count(self, *, origin: str = "", **words: Any) -> int:
        """Return how many there are."""
        wanted = self._query(words)
        other = self._other(origin)
        return len(self._of(other, wanted)) if other else await self._store.count(wanted)

    # --- inside ----------------------------------------------------------------------------

    def _query(self, words: dict[str, Any]) -> Query:
        unknown = ", ".join(sorted(words.keys() - set(WORDS)))
        if unknown:
            raise UsageError(f"jobs are found by {', '.join(WORDS)}, origin; not by {unknown}")
        worker = self._names.meant(words.get("worker", ""))
        return query(self._clock.wall(), **{**words, "worker": worker})

    def _other(self, origin: str) -> str:
        """Return the id of ``origin``, or "" if that is the own instance."""
        found = self._names.meant(origin)
        return "" if found == self._own_id else found

    def _of(self, origin: str, wanted: Query) -> list[dict[str, Any]]:
        """Return the jobs of another that are here, the last one first."""
        if wanted.where or wanted.queue:
            raise UsageError(
                "of others' jobs only state, topic and time are known here; payloads stay closed"
            )
        here = [*self._distributor.held(), *self._distributor.outbox()]
        fits = [held for held in here if held.origin == origin and self._fits(held, wanted)]
        ordered = sorted(fits, key=lambda held: held.at, reverse=True)
        return [self._report.guest(held, _AS_STATES[held.state]) for held in ordered]

    def _fits(self, held: Held, wanted: Query) -> bool:
        since = self._clock.wall() - (self._clock.now() - held.at)
        if wanted.states and _AS_STATES[held.state] not in wanted.states:
            return False
        if wanted.worker not in ("", self._own_id) or (wanted.unreadable and not wanted.states):
            return False
        return matches(wanted.topic, held.topic) and wanted.since <= since < wanted.until


def _check_page(limit: int, before_seq: int | None) -> None:
    if type(limit) is not int or not 0 <= limit < 2**31:
        raise UsageError(f"limit: {limit!r} is no number of jobs")
    if before_seq is not None and (type(before_seq) is not int or not 0 <= before_seq < 2**63):
        raise UsageError(f"before_seq: {before_seq!r} is no seq of a job")
