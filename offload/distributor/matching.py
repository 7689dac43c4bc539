"""
Finds a place for every job that waits: round after round, as long as there are places.

Late binding: a job stays in the store until somebody has a place for it. In one round the jobs
due are taken in the order of priority and adding, each is given the best place that is left, and
all assignments are committed together. A new job that takes nobody's turn needs no round: it begins
in the commit that stores it.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from offload.clock import Clock
from offload.distributor.ahead import Ahead
from offload.distributor.doors import Doors
from offload.distributor.incoming import Incoming
from offload.distributor.outgoing import Outgoing
from offload.distributor.places import Places, Taken
from offload.distributor.refusals import Refusals
from offload.distributor.slots import (
    Slots,
    closed_of,
    mean_s_of,
    places_of,
    prefetch,
    shares_of,
)
from offload.distributor.stranded import Stranded
from offload.distributor.whereabouts import Whereabouts
from offload.leases import origin
from offload.peers.topology import Instance, TopologyView
from offload.placement import Candidate, Policy, best, keeps, obstacles
from offload.work.jobs import HURTS, Delivery, Job, Spec, State, due, read_demands, turn
from offload.work.manager import Manager
from offload.work.queues import Paces, QueueType
from offload.work.queues import in_turn as taking_turns
from offload.work.store import Step, Store

log = logging.getLogger(__name__)
ROUND_LIMIT: Final = 500
DOUBTED: Final = 16  # jobs of a topic without places that are looked at
HERE: Final = (Policy.LOCAL_FIRST, Policy.LOCAL_ONLY)  # as long as there is a place
Failed = Mapping[str, Collection[str]]  # job id -> the instances that have failed it


class Matching:
    """Brings the jobs that wait and the places that are free together."""

    def __init__(
        self,
        *,
        manager: Manager,
        store: Store,
        ahead: Ahead,
        outgoing: Outgoing,
        incoming: Incoming,
        clock: Clock,
        view: Callable[[], TopologyView],
        linked: Callable[[str], bool],
        doors: Doors,
        barred: Callable[[str, str], str],
        policy_of: Callable[[str], Policy],
        slots: Slots,
        stranded: Stranded,
        whereabouts: Whereabouts,
        refusals: Refusals,
    ) -> None:
        self._manager = manager
        self._store = store
        self._ahead = ahead
        self._outgoing = outgoing
        self._incoming = incoming
        self._clock = clock
        self._view = view
        self._linked = linked
        self._doors = doors
        self._barred = barred
        self.policy_of = policy_of
        self._slots = slots
        self._stranded = stranded
        self._whereabouts = whereabouts
        self._given: Counter[str] = Counter()  # how many jobs each was given since the start
        self._refusals = refusals
        self._passed_over: dict[str, int] = {}
        self._targets: dict[str, str] = {}  # ordered queue -> who runs it
        self._last_topics: dict[str, str] = {}  # round-robin queue -> whose turn was last
        self._in_tick: dict[str, Places | None] = {}  # by topic, for what begins at once
        self._paces = Paces()
        self.draining = False

    async def recover(self) -> None:
        """At start: what has started lately counts for the rates of its queues."""
        self._paces.restore(await self._store.starts(self._clock.now()))

    async def round(self) -> bool:
        """Assign and send off what can be; say whether another round may find more."""
        if not await self.waiting():
            self._stranded.clear()
            self._ahead.nothing_waits()
            return False
        now = self._clock.now()
        pages: dict[str, list[Job]] = {}
        places: dict[str, Places] = {}
        more = False
        taken = Taken()
        for topic in await self._ahead.topics(now):
            if self._suspended(topic):
                continue
            here = places[topic] = self.places(topic, now, taken)
            room = here.room()
            if room <= 0 and (self._stranded.doubtful or not self._stranded.knows(topic)):
                for job in await self._ahead.jobs(topic, now, DOUBTED):
                    self._stranded.note(job)
            if room > 0:  # look past those that found no place among the places there are
                limit = min(room + self._passed_over.get(topic, 0), ROUND_LIMIT)
                pages[topic] = await self._ahead.jobs(topic, now, limit)
                more = more or len(pages[topic]) == limit < ROUND_LIMIT
        seen = [job for page in pages.values() for job in page]
        specs = await self._ahead.specs(seen)
        self._ahead.drop(job for job in seen if job.id not in specs)
        failed = await self.failed(seen)
        now = self._clock.now()
        chosen = [
            (job, candidate.id)
            for job in self._in_order(pages)
            if job.id in specs  # what cannot be read waits for a version that can (C012)
            and (candidate := self._chosen(job, specs[job.id], places[job.topic], failed, now))
        ]
        if self._stranded.doubtful:
            self._stranded.note_all(seen)
        await self._stranded.look(now, lambda topic: places.get(topic) or self.places(topic, now))
        for job, _ in chosen:
            self._last_topics[self._manager.rule(job.topic).name] = job.topic
        grown = self._remember(pages, Counter(job.topic for job, _ in chosen))
        if chosen:
            await self._send_off(chosen, specs, places)
            return True
        return more and grown

    def at_once(self, job: Job, spec: Spec, coming: int) -> Job:
        """
        Return a new job as it begins here at once, if none waits for that place, the best one.

        As it is, if it is to wait for a round: so that it takes no place from those ``coming``
        before it. The manager keeps its place free until it is stored.
        """
        now = self._clock.now()
        if job.key or job.lane or job.not_before or job.deadline_at or self._others_wait(job, now):
            return job
        places = self._places_in_tick(job.topic, now)
        chosen = None if places is None else self._chosen_at_once(job, spec, places, now)
        if chosen is None or not chosen.own or chosen.free <= coming:
            return job
        self._given[chosen.id] += 1
        self._last_topics[job.queue] = job.topic
        return origin.begun(job, chosen.id, now, self._clock.wall())

    def _chosen_at_once(self, job: Job, spec: Spec, places: Places, now: float) -> Candidate | None:
        """Return the best place; that of many alike in one tick is looked for once."""
        if job.demands or job.delivery is Delivery.EXCLUSIVE:
            return self._chosen(job, spec, places, {}, now)
        chosen = places.here_again(job.policy)
        if chosen is None:
            chosen = self._chosen(job, spec, places, {}, now)
            alone = len(places.candidates) == 1
            if chosen is not None and chosen.own and (alone or self.policy(job) in HERE):
                places.here[job.policy] = chosen
        return chosen

    def _others_wait(self, job: Job, now: float) -> bool:
        """Say whether others may wait for a place in the job's queue, or for what it needs."""
        topics, queue_name = self._ahead.known_topics(now), self._manager.runs.queue_name
        if not topics:
            return topics is None
        return bool(job.demands) or any(queue_name(topic) == job.queue for topic in topics)

    def _places_in_tick(self, topic: str, now: float) -> Places | None:
        """
        Return the places that are left of those there were when this tick of the loop began.

        None: whatever there is, no job of the topic begins at once.
        """
        if topic in self._in_tick:
            return self._in_tick[topic]
        if not self._in_tick:
            asyncio.get_running_loop().call_soon(self._in_tick.clear)
        places = None
        if not self._manager.rule(topic).rate and not self._suspended(topic):
            taken = next((known.taken for known in self._in_tick.values() if known), None)
            places = self.places(topic, now, taken)
        self._in_tick[topic] = places
        return places

    def _suspended(self, topic: str) -> bool:
        return self._manager.rule(topic).name in self._manager.gates.suspended

    async def waiting(self) -> int:
        """Return how many own jobs are QUEUED, due or not."""
        return (await self._store.counts()).get(State.QUEUED, 0)

    def places(
        self,
        topic: str,
        now: float,
        taken: Taken | None = None,
        delivery: Delivery = Delivery.AT_LEAST_ONCE,
    ) -> Places:
        """Return who could take jobs of ``topic``, with the places that each has left."""
        candidates, queues = [], {}
        for instance in self._view().instances:
            candidate = (
                self._here(topic, instance) if instance.own else self._there(topic, instance)
            )
            candidate.given = self._given[instance.id]
            candidates.append(candidate)
            queues[instance.id] = instance.queue_of(topic) or ""
        queues[self._view().own.id] = self._manager.runs.queue_name(topic)
        self._note_refusals(candidates, topic, delivery, now)
        return Places(candidates, queues, taken or Taken())

    def policy(self, job: Job) -> Policy:
        """Return the policy that the job, its queue, its topic or the default names."""
        if job.policy:
            return Policy(job.policy)
        policy = self.policy_of(job.topic)
        anywhere = policy in (Policy.REMOTE_FIRST, Policy.BALANCED)
        if anywhere and self._manager.rule(job.topic).prefer_creator:
            return Policy.LOCAL_FIRST
        return policy

    def paced(self, job: Job, now: float) -> bool:
        """Say whether it is the rate of its queue that ``job`` waits for."""
        return not self._paces.allow(self._manager.rule(job.topic), job, now)

    def next_chance_at(self, now: float) -> float | None:
        """Return when the next of the refusals ends, or a rate allows the next start."""
        ends = list(self._refusals.ends(now))
        paced = self._paces.next_at(now)
        return min(ends if paced is None else [*ends, paced], default=None)

    # --- inside ----------------------------------------------------------------------------

    def _in_order(self, pages: Mapping[str, list[Job]]) -> list[Job]:
        """Return the jobs of all ``pages`` in the order in which they may take places."""
        waiting = sorted((job for page in pages.values() for job in page), key=turn)
        in_turn: dict[str, dict[str, list[Job]]] = defaultdict(dict)
        for topic, page in pages.items():
            rule = self._manager.rule(topic)
            if rule.type is QueueType.TOPIC_ROUND_ROBIN:
                in_turn[rule.name][topic] = page
        turns = {
            queue: taking_turns(topics, self._last_topics.get(queue, ""))
            for queue, topics in in_turn.items()
        }
        if not turns:
            return waiting
        queues = (self._manager.rule(job.topic).name for job in waiting)
        pairs = zip(waiting, queues, strict=True)
        return [next(turns[queue]) if queue in turns else job for job, queue in pairs]

    def _remember(self, pages: Mapping[str, list[Job]], placed: Counter[str]) -> bool:
        """Note how many of each page found no place; say whether they are more than before."""
        passed = {topic: len(page) - placed[topic] for topic, page in pages.items()}
        grown = any(n > self._passed_over.get(topic, 0) for topic, n in passed.items())
        self._passed_over = {topic: n for topic, n in passed.items() if n}
        return grown

    def _here(self, topic: str, own: Instance) -> Candidate:
        runs, queue = self._manager.runs, self._manager.runs.queue_name(topic)
        return Candidate(
            id=own.id,
            name=own.name,
            own=True,
            capable=self._doors.takes(topic),
            disabled=self._doors.disables(topic),
            draining=self.draining,
            free=runs.free(topic) - self._incoming.waiting(queue),
            busy=runs.busy(topic),
            places=runs.places(topic),
            run_s=runs.mean_s(topic),
            closed=self._doors.closed(topic, queue),
            properties=own.properties,
            resources=self._slots.own_shares(),
            shared=own.shared,
        )

    def _there(self, topic: str, peer: Instance) -> Candidate:
        queue = peer.queue_of(topic)
        window, busy, places = places_of(peer.load, queue)
        run_s = mean_s_of(peer.load, topic)
        ours = self._outgoing.outstanding(peer.id, queue or "")
        return Candidate(
            id=peer.id,
            name=peer.name,
            capable=queue is not None,
            disabled=peer.disables(topic),
            barred=self._barred(peer.id, topic),
            draining=peer.draining,
            silent=peer.silent or (queue is not None and not self._linked(peer.id)),
            free=max(0, window + prefetch(places, run_s) - ours) if window else 0,
            busy=max(busy, ours),
            places=places,
            run_s=run_s,
            closed=closed_of(peer.load),
            properties=peer.properties,
            resources=shares_of(peer.load, self._outgoing.needed(peer.id)),
            shared=peer.shared,
        )

    def _note_refusals(
        self, candidates: Sequence[Candidate], topic: str, delivery: Delivery, now: float
    ) -> None:
        kind = topic, delivery is Delivery.EXCLUSIVE
        for candidate in candidates:
            candidate.refused = self._refusals.reason(candidate.id, kind, now)

    def _chosen(
        self, job: Job, spec: Spec, places: Places, failed: Failed, now: float
    ) -> Candidate | None:
        rule = self._manager.rule(job.topic)
        if not self._paces.allow(rule, job, now):
            return None
        exclusive = job.delivery is Delivery.EXCLUSIVE
        if exclusive:
            self._note_refusals(places.candidates, job.topic, job.delivery, now)
        if rule.type is QueueType.ORDERED:
            chosen = self._target(rule.name, job, places)
        else:
            chosen = self._placed(job, spec, places, failed, now)
        if exclusive:
            self._note_refusals(places.candidates, job.topic, Delivery.AT_LEAST_ONCE, now)
        if chosen is not None:
            self._paces.start(rule, job, now)
        return chosen

    def _placed(
        self, job: Job, spec: Spec, places: Places, failed: Failed, now: float
    ) -> Candidate | None:
        policy = self.policy(job)
        kind = policy, job.demands, job.delivery is Delivery.EXCLUSIVE
        if kind in places.hopeless:  # many alike wait: one of them is enough to look at
            return None
        self.suit(job, spec, places.now(), failed, now)
        demands = read_demands(job.demands)
        chosen = best(policy, places.candidates, demands)
        if chosen is not None:
            places.take(chosen, demands)
        elif job.id not in failed:  # what failed somewhere may wait for another there
            places.hopeless.add(kind)
        return chosen

    async def failed(self, jobs: Iterable[Job]) -> Failed:
        """Return at whom attempts of those of these jobs have failed that did fail."""
        hurt = [job.id for job in jobs if job.failures or job.crashes]
        tried = await self._store.tried(hurt) if hurt else {}
        return {
            job_id: {worker for worker, result in ends if result in HURTS}
            for job_id, ends in tried.items()
        }

    def suit(
        self,
        job: Job,
        spec: Spec | None,
        candidates: Sequence[Candidate],
        failed: Failed,
        now: float,
    ) -> None:
        """Note at the candidates what is between each of them and this very job."""
        bad = failed.get(job.id, ())
        brings = spec is not None and (spec.files or spec.payload is None)
        for candidate in candidates:
            candidate.failed = int(candidate.id in bad)
            candidate.bytes_away = 0
            if spec is not None and brings and not candidate.own:
                candidate.bytes_away = sum(
                    size
                    for digest, size in spec.inputs()
                    if not self._whereabouts.has(candidate.id, digest, now)
                )

    def _target(self, queue: str, job: Job, places: Places) -> Candidate | None:
        """Return who runs all jobs of an ordered queue, as long as it is there (C074)."""
        candidates, policy, demands = places.now(), self.policy(job), read_demands(job.demands)
        known = next((c for c in candidates if c.id == self._targets.get(queue)), None)
        if known is not None and keeps(policy, known, demands):
            chosen = None if obstacles(policy, known, demands) else known
        else:
            chosen = best(policy, candidates, demands)
        if chosen is not None:
            self._targets[queue] = chosen.id
            places.take(chosen, demands)
        return chosen

    async def _send_off(
        self,
        chosen: list[tuple[Job, str]],
        specs: Mapping[str, Spec],
        places: Mapping[str, Places],
    ) -> None:
        now, wall = self._clock.now(), self._clock.wall()
        if self._paces.fresh:
            await self._store.keep_starts(self._paces.fresh, now)
            self._paces.fresh.clear()
        own_id = self._view().own.id
        rules = [
            (job.id, partial(_assigned, worker, own_id, now, wall))
            for job, worker in chosen
            if not self._suspended(job.topic)  # meanwhile
        ]
        assigned = [job for job in await self._manager.change(rules) if job is not None]
        started = {job.id for job in assigned}
        self._ahead.doubt(job for job, _ in chosen if job.id not in started)
        for job in assigned:
            self._launch(job, specs[job.id], places[job.topic])

    async def run_twice(self, job: Job, worker: str, places: Places) -> None:
        """Start a second run of a job that runs already, at a worker that has a place for it."""
        spec = await self._store.spec(job.id)
        if spec is None:
            return
        now, wall = self._clock.now(), self._clock.wall()
        rule = partial(_given_twice, worker, self._view().own.id, now, wall)
        [kept] = await self._manager.change([(job.id, rule)])
        if kept is not None:
            self._launch(kept, spec, places)

    def _launch(self, job: Job, spec: Spec, places: Places) -> None:
        """Start an attempt whose assignment is on the disk."""
        self._given[job.worker] += 1
        if job.worker == self._view().own.id:
            self._manager.start(job, spec)
            return
        inputs = [digest for digest, _ in spec.inputs()]
        self._whereabouts.note(job.worker, inputs, self._clock.now())
        self._outgoing.launch(job, spec, places.queues[job.worker])


def _assigned(worker: str, own_id: str, now: float, wall: float, job: Job) -> Step[Job | None]:
    if not due(job, now):
        return Step(None)
    own = worker == own_id
    kept = origin.begun(job, worker, now, wall) if own else origin.assign(job, worker)
    return Step(kept, keep=kept)


def _given_twice(worker: str, own_id: str, now: float, wall: float, job: Job) -> Step[Job | None]:
    kept = origin.second_run(job, worker, now)
    if kept is not None and worker == own_id:
        kept = origin.started(kept, now, wall)
    return Step(kept, keep=kept)
