"""Jobs that nobody can take as things are: found at once, told once."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from offload.distributor.places import Places
from offload.events import Bus
from offload.placement import Candidate, Policy, keeps, obstacles
from offload.work.jobs import Job, State, read_demands
from offload.work.store import Store

log = logging.getLogger(__name__)
MEETING_S: Final = 2.0  # for so long after the start the others may not be known yet
KINDS_LIMIT: Final = 1_000
TOLD_LIMIT: Final = 1_000
NAMED: Final = 3  # instances whose reasons are told
NO_CONSUMER: Final = "no instance has a consumer for it"
Kind = tuple[str, Policy, str]  # topic, policy, demands


@dataclass(frozen=True, slots=True)
class JobsStranded:
    """
    Jobs of ``topic`` wait, and nobody can take them.

    Attributes:
        reason: Why, in one sentence.
        job_id: One of them.
        since: Since when, in steady seconds.
    """

    topic: str
    reason: str
    job_id: str
    since: float


class Stranded:
    """
    Watches the jobs that wait, one of each kind: of the same topic, policy and demands.

    Args:
        policy_of: The policy of a job.
        now: The time when it begins.

    Attributes:
        doubtful: The instances are others than before: what was well may be stranded now.
    """

    def __init__(
        self, store: Store, bus: Bus, policy_of: Callable[[Job], Policy], now: float
    ) -> None:
        self._store = store
        self._bus = bus
        self._policy_of = policy_of
        self._tell_from = now + MEETING_S
        self.doubtful = True
        self._seen: dict[Kind, str] = {}  # -> the id of one that waits
        self._found: dict[Kind, JobsStranded] = {}
        self._told: dict[tuple[str, str], None] = {}
        self._topics: set[str] = set()  # of which one was looked at

    def all(self) -> list[JobsStranded]:
        """Return what nobody can take now, by topic."""
        return sorted(self._found.values(), key=lambda found: (found.topic, found.since))

    def note(self, job: Job) -> None:
        """Look at such jobs in the next round."""
        self._topics.add(job.topic)
        kind = job.topic, self._policy_of(job), job.demands
        if len(self._seen) < KINDS_LIMIT:
            self._seen.setdefault(kind, job.id)

    def note_all(self, jobs: Iterable[Job]) -> None:
        """Look at all of these, once: nothing is in doubt any more."""
        self.doubtful = False
        for job in jobs:
            self.note(job)

    def knows(self, topic: str) -> bool:
        """Say whether a job of ``topic`` was noted since the last one was gone."""
        return topic in self._topics

    def clear(self) -> None:
        """Nothing waits."""
        self._found.clear()
        self._seen.clear()
        self._topics.clear()

    async def look(self, now: float, places: Callable[[str], Places]) -> None:
        """Find out which of the jobs noted, or stranded so far, nobody can take."""
        noted, self._seen = self._seen, {}
        for kind, job_id in {**noted, **{k: f.job_id for k, f in self._found.items()}}.items():
            topic, policy, text = kind
            candidates, demands = places(topic).candidates, read_demands(text)
            if any(keeps(policy, candidate, demands) for candidate in candidates):
                if self._found.pop(kind, None) is not None:
                    log.info("jobs of topic %s can be taken again", topic)
                continue
            job = await self._store.job(job_id)
            if job is None or job.state is not State.QUEUED:
                self._found.pop(kind, None)
                self._topics.discard(topic)  # there may be others of its kind
                continue
            reason = _reason(candidates, lambda c: obstacles(policy, c, demands))  # noqa: B023
            since = self._found[kind].since if kind in self._found else now
            found = self._found[kind] = JobsStranded(topic, reason, job_id, since)
            if now >= self._tell_from:
                self._tell(found)

    def _tell(self, found: JobsStranded) -> None:
        key = found.topic, found.reason
        if key in self._told:
            return
        if len(self._told) >= TOLD_LIMIT:
            self._told.clear()
        self._told[key] = None
        if found.reason == NO_CONSUMER:  # an everyday state too: C006 wants a line without alarm
            log.info("no instance for topic %s: its jobs wait", found.topic)
        log.warning("nobody can take jobs of topic %s now: %s", found.topic, found.reason)
        self._bus.publish(found)


def _reason(
    candidates: Sequence[Candidate], against: Callable[[Candidate], tuple[str, ...]]
) -> str:
    """Say why none of ``candidates`` can take a job."""
    capable = [c for c in candidates if c.capable or c.disabled]
    if not capable:
        return NO_CONSUMER
    words = [f"{c.name}: {', '.join(against(c))}" for c in capable[:NAMED]]
    more = len(capable) - NAMED
    return "; ".join([*words, f"and {more} more"] if more > 0 else words)
