"""What is told of jobs, queues and peers as plain values: the stable shapes behind ``--json``."""

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from math import ceil
from operator import itemgetter
from typing import Any, Final

from offload.app import partial_value
from offload.blobs import Blobs
from offload.clock import Clock
from offload.datadir import DataDir
from offload.distributor import Distributor, closed_of
from offload.durations import span
from offload.errors import (
    BlobMissing,
    JobNotFound,
    LetterNotFound,
    Malformed,
    OffloadError,
    Refused,
)
from offload.moments import iso
from offload.payload import all_arrived, decode, shown
from offload.peers.membership import Pulse
from offload.peers.names import Names
from offload.peers.topology import Instance, TopologyView
from offload.peers.transport import LinkInfo, LinkRefused
from offload.placement import Ranked, compared
from offload.topics import check_topic
from offload.work.jobs import (
    UNREADABLE,
    Attempt,
    DeadLetter,
    Held,
    Job,
    Outcome,
    State,
    as_map,
    read_demands,
)
from offload.work.manager import Manager
from offload.work.store import Found, Store, Unreadable, UnreadableLetter

VALUE_LIMIT: Final = 16 * 1024 * 1024
_NOTHING_KNOWN: Final[dict[str, Any]] = {
    "value": None,
    "error": None,
    "properties": {},
    "delivery": None,
    "key": "",
    "order_by": "",
    "needs": {},
    "where": {},
    "not_before": None,
    "expires": None,
    "deadline": None,
    "attempts": [],
}


class Report:
    """Describes one instance and its jobs."""

    def __init__(
        self,
        *,
        data_dir: DataDir,
        store: Store,
        blobs: Blobs,
        manager: Manager,
        distributor: Distributor,
        view: Callable[[], TopologyView],
        names: Names,
        links: Callable[[], Mapping[str, LinkInfo]],
        refusals: Callable[[], Sequence[LinkRefused]],
        facts: Callable[[], dict[str, Any]],
        trust: Callable[[str], str],
        policy: Callable[[], dict[str, Any]],
        pulse: Callable[[str], Pulse | None],
        links_of: Callable[[str], Iterable[str]],
        way_to: Callable[[str], str],
        clock: Clock,
    ) -> None:
        self._data_dir = data_dir
        self._store = store
        self._blobs = blobs
        self._manager = manager
        self._distributor = distributor
        self._view = view
        self._links = links
        self._refusals = refusals
        self._facts = facts
        self._trust = trust
        self._policy = policy
        self._pulse = pulse
        self._links_of, self._way_to = links_of, way_to
        self._clock = clock
        self._name = names.of

    async def job(self, job_id: str) -> dict[str, Any]:
        """Return all about a job; raise ``JobNotFound``."""
        job = await self._store.job(job_id)
        outcome = await self._store.outcome(job_id)
        attempts = await self._store.attempts(job_id)
        broken = await self._store.unreadable_job(job_id)  # by now all of it was looked at
        if broken is not None:
            return {**self.brief(broken), **_NOTHING_KNOWN}
        if job is None:
            raise JobNotFound(job_id)
        return {
            **self.brief(job),
            "value": await self._value(job, outcome),
            "error": _error(outcome),
            "properties": as_map(job.properties),
            **_limits(job),
            "attempts": [self._attempt(attempt) for attempt in attempts],
        }

    async def logs(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return the kept log and progress lines of a job, from number ``after`` on."""
        await self._manager.heard()
        lines = await self._store.news(job_id, after)
        return [
            {"n": n, "at": iso(wall), "kind": kind, "text": _shown(kind, text)}
            for n, wall, kind, text in lines
        ]

    async def status(self) -> dict[str, Any]:
        """Return how this instance is doing."""
        counts = await self._store.counts()
        outbox = self._distributor.outbox()
        blobs, size = self._blobs.count(), self._blobs.usage()
        return {
            **self._facts(),
            "pid": os.getpid(),
            "boot": self._store.boot,
            "store_id": self._store.store_id,
            "data_dir": str(self._data_dir.path),
            "jobs": {state.value: counts.get(state, 0) for state in State},
            "unreadable": len(await self._store.unreadable()),
            "running": self._manager.runs.running(),
            "held": len(self._distributor.held()),
            "closed": self._distributor.closed(),
            "processing": self._manager.gates.processing,
            "outbox": {
                "jobs": len(outbox),
                "bytes": sum(sum(e.size for e in h.outcome.blobs()) for h in outbox if h.outcome),
            },
            "peers": [self._instance(i) for i in self._view().instances if not i.own],
            "dead_letters": await self._store.count_letters(),
            "blobs": {"count": blobs, "bytes": size},
            "disk": {"free": shutil.disk_usage(self._data_dir.path).free},
            "queues": self._queues(),
            "policy": self._policy(),
            "stranded": self._stranded(),
        }

    async def letters(self, number: int | None = None) -> list[dict[str, Any]]:
        """Return the dead letters, the newest first, or one; raise ``LetterNotFound``."""
        wanted = None if number is None else [number]
        found = [self._letter(letter) for letter in await self._store.letters(wanted)]
        found += [self._unread(letter) for letter in await self._store.unreadable_letters(wanted)]
        if number is not None and not found:
            raise LetterNotFound(number)
        return sorted(found, key=itemgetter("number"), reverse=True)

    def topology(self) -> dict[str, Any]:
        """Return who is there, in the order of the topology."""
        view = self._view()
        return {
            "own": view.own.id,
            "leader": view.leader.id,
            "current": view.current,
            "insecure": self._facts()["insecure"],
            "instances": [self._instance(instance) for instance in view.instances],
            "stranded": self._stranded(),
            "refused": [asdict(refused) for refused in self._refusals()],
        }

    async def explain(self, job_or_topic: str) -> dict[str, Any]:
        """
        Say why a job is where it is, or who would run a topic, and why.

        Raises:
            Refused: If what looks like the start of an id is that of no job, and no known topic.
        """
        job = None if "/" in job_or_topic else await self._perhaps_job(job_or_topic)
        topic = job.topic if job else check_topic(job_or_topic)
        policy, demands, ranked = await self._distributor.explain(topic, job)
        if job is None and "/" not in topic and not any(r.candidate.capable for r in ranked):
            raise Refused(f"no job's id starts with {topic}, and no instance has such a topic")
        chosen = ranked[0].candidate.id if ranked and ranked[0].can else ""
        if job and job.state is not State.QUEUED:
            chosen = job.worker
        return {
            "what": job.id if job else topic,
            "topic": topic,
            "policy": policy.value,
            "sentence": self._sentence(job, topic, ranked),
            "needs": dict(demands.needs),
            "where": dict(demands.where),
            "candidates": [_candidate(r, chosen, ranked[0]) for r in ranked],
        }

    def brief(self, job: Found) -> dict[str, Any]:
        """Return a job that was added here in short."""
        if isinstance(job, Unreadable):
            plain = Job(job.id, job.topic, job.queue, seq=job.seq, created_wall=job.created_wall)
            return {**self.brief(plain), "state": UNREADABLE, "reason": job.reason}
        return {
            "id": job.id,
            "seq": job.seq,
            "topic": job.topic,
            "queue": job.queue,
            "state": "stopping" if job.stopping else job.state.value,
            "priority": job.priority,
            "attempt": job.attempt,
            "origin": self._view().own.id,
            "worker": job.worker,
            "worker_name": self._name(job.worker),
            "failures": job.failures,
            "crashes": job.crashes,
            "reason": job.reason,
            "again_of": job.again_of,
            "created": iso(job.created_wall),
            "started": iso(job.started_wall),
            "finished": iso(job.finished_wall),
            "into": job.into,
            "outputs": list(job.outputs),
        }

    def guest(self, held: Held, state: State) -> dict[str, Any]:
        """Return another's job that is here in short, as far as it is known."""
        own = self._view().own.id
        job = Job(held.job_id, held.topic, "", state, attempt=held.attempt, worker=own)
        if held.outcome is not None:
            job = job._replace(reason=held.outcome.reason)
        return {**self.brief(job), "origin": held.origin, "failures": held.retry_count}

    # --- inside ----------------------------------------------------------------------------

    async def _value(self, job: Job, outcome: Outcome | None) -> Any:
        if outcome is None or job.state is not State.SUCCEEDED:
            return None
        kept = outcome.value_blob
        if kept is None:
            return _value(job.outputs, outcome, outcome.value)
        if kept.size > VALUE_LIMIT:
            return f"<{kept.size} bytes>"
        try:
            path = self._blobs.path(kept.sha256)
            return await asyncio.to_thread(lambda: _value(job.outputs, outcome, path.read_bytes()))
        except (BlobMissing, OSError):
            return f"<{kept.size} bytes that are no longer here>"

    async def _perhaps_job(self, text: str) -> Job | None:
        try:
            job_id = await self._store.resolve(text)
        except JobNotFound:
            return None
        broken = await self._store.unreadable_job(job_id)
        if broken is not None:
            raise Refused(f"job {job_id} cannot be read: {broken.reason}; it can only be removed")
        return await self._store.job(job_id)

    def _sentence(self, job: Job | None, topic: str, ranked: Sequence[Ranked]) -> str:
        where = self._name(job.worker) if job else ""
        if job and job.finished:
            return f"It has ended: {job.state}" + (f", {job.reason}" if job.reason else "") + "."
        if job and job.state is not State.QUEUED:
            return f"It is {job.state} at {where}, attempt {job.attempt}."
        queue = self._manager.rule(topic).name
        if queue in self._manager.gates.suspended:
            return f"Its queue {queue} is suspended; it waits until that is resumed."
        if job and job.behind:
            return "It waits for those before it, which run one after the other."
        capable = any(r.candidate.capable for r in ranked)
        if not capable and any(r.candidate.disabled for r in ranked):
            return f"The topic {topic} is disabled wherever it could run; its jobs wait."
        if not capable:
            return f"No instance has the topic {topic}; its jobs wait until one announces it."
        if not any(r.might for r in ranked):
            return "Nobody who has the topic may run it, or has what it needs."
        if job and (held_back := self._held_back(job, queue)):
            return held_back
        if ranked[0].can:
            return f"{ranked[0].candidate.name} would run it now."
        return "Everyone who could run it is busy or cannot take it now; it waits."

    def _held_back(self, job: Job, queue: str) -> str:
        """Say what keeps ``job`` from starting, whoever is there; "" if nothing does."""
        wait_s = ceil(job.not_before - self._clock.now())
        if wait_s > 0:
            again = f" again, after: {job.reason}" if job.reason else ""
            return f"It is to start in {span(wait_s)}{again}."
        if self._distributor.paced(job):
            return f"Its queue {queue} has a rate; it waits for its turn."
        return ""

    def _letter(self, letter: DeadLetter) -> dict[str, Any]:
        outcome = letter.outcome
        files = [(e, self._path(e.sha256)) for e in outcome.blobs()]
        outputs = tuple(path for _, path in files[: len(outcome.files)])
        return {
            **self._addressed(letter),
            "result": outcome.result.value,
            "value": None if outcome.value_blob else _value(outputs, outcome, outcome.value),
            "files": [{"name": e.name, "size": e.size, "path": path} for e, path in files],
            "error": _error(outcome),
        }

    def _unread(self, letter: UnreadableLetter) -> dict[str, Any]:
        return {
            **self._addressed(letter),
            "result": UNREADABLE,
            "value": None,
            "files": [],
            "error": None,
            "reason": f"cannot be read: {letter.trouble}; {letter.reason}",
        }

    def _addressed(self, letter: DeadLetter | UnreadableLetter) -> dict[str, Any]:
        return {
            "number": letter.number,
            "reason": letter.reason,
            "kept": iso(letter.kept_wall),
            "store": letter.store_id,
            "job": letter.job_id,
            "attempt": letter.attempt,
            "topic": letter.topic,
            "origin": letter.origin,
            "origin_name": self._name(letter.origin),
            "worker": letter.sender,
            "worker_name": self._name(letter.sender),
        }

    def _path(self, sha256: str) -> str:
        return str(self._blobs.path(sha256)) if self._blobs.has(sha256) else ""

    def _attempt(self, attempt: Attempt) -> dict[str, Any]:
        return {
            "number": attempt.number,
            "worker": attempt.worker,
            "worker_name": self._name(attempt.worker),
            "result": attempt.result.value,
            "reason": attempt.reason,
            "ended": iso(attempt.ended_wall),
            "run_s": attempt.run_s,
        }

    def _stranded(self) -> list[dict[str, Any]]:
        """Return of which topics jobs wait that nobody can take, and why."""
        return [
            {"topic": found.topic, "reason": found.reason, "job": found.job_id}
            for found in self._distributor.stranded()
        ]

    def _queues(self) -> dict[str, Any]:
        runs = self._manager.runs
        return {
            name: {"running": running, "waiting": waiting, "max_parallel": runs.places_in(name)}
            for name, (running, waiting) in runs.counts().items()
        }

    def _instance(self, instance: Instance) -> dict[str, Any]:
        link = self._links().get(instance.id)
        return {
            "id": instance.id,
            "name": instance.name,
            "boot": instance.boot,
            "address": _address(instance, link),
            "topics": sorted({pattern for pattern, _ in instance.capabilities}),
            "draining": instance.draining,
            "closed": self._distributor.closed() if instance.own else closed_of(instance.load),
            "silent": instance.silent,
            "leader": instance.leader,
            "own": instance.own,
            "properties": dict(instance.properties),
            "load": dict(instance.load),
            "version": instance.version,
            "trust": "own" if instance.own else self._trust(instance.id),
            "disabled": list(instance.disabled),
            "versions": dict(instance.versions),
            "shared": list(instance.shared),
            "linked": link is not None,
            "dialled": link.dialled if link else False,
            "protocol": link.version if link else None,
            "since": instance.since,
            "seen": iso(self._clock.wall() - max(0.0, self._clock.now() - instance.since)),
            "link": None if link is None else _link(link, self._pulse(instance.id)),
            "links": sorted(self._links() if instance.own else self._links_of(instance.id)),
            "via": "" if instance.own else self._way_to(instance.id),
        }


def _address(instance: Instance, link: LinkInfo | None) -> str:
    """Return where it can be reached: as we reach it, or as it says."""
    if link and link.dialled:
        return link.address
    for host, port in instance.addresses:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return ""


def _link(link: LinkInfo, pulse: Pulse | None) -> dict[str, Any]:
    return {
        "address": link.address,
        "dialled": link.dialled,
        "since": iso(link.since_wall),
        "rtt_s": None if pulse is None else round(pulse.rtt_s, 6),
        "clock_ahead_s": None if pulse is None else round(pulse.ahead_s, 3),
        "protocol": list(link.hello.versions),
    }


def _limits(job: Job) -> dict[str, Any]:
    """Return what the job is bound to; moments as the wall clock had them when it was added."""
    ahead_s = job.created_wall - job.created_at
    moments = {
        "not_before": job.not_before,
        "expires": job.expires_at,
        "deadline": job.deadline_at,
    }
    shown = {name: iso(at + ahead_s) if at else None for name, at in moments.items()}
    wanted = read_demands(job.demands)
    asked = {"needs": dict(wanted.needs), "where": dict(wanted.where)}
    named = {"delivery": job.delivery.value, "key": job.key, "order_by": job.order_by}
    return {**named, **asked, **shown}


def _candidate(ranked: Ranked, chosen: str, first: Ranked) -> dict[str, Any]:
    after = compared(first, ranked) if ranked is not first else ""
    return {
        "instance": ranked.candidate.id,
        "name": ranked.candidate.name,
        "chosen": ranked.candidate.id == chosen,
        "can": ranked.can,
        "score": [value if value != float("inf") else None for value in ranked.score],
        "reasons": [*ranked.reasons, after] if after else list(ranked.reasons),
    }


def _value(outputs: Sequence[str], outcome: Outcome, data: bytes) -> Any:
    """Return the result as JSON can show it; a daemon unpacks no payload, only own results."""
    try:
        files = all_arrived(outputs, [entry.name for entry in outcome.files])
        return shown(decode(data, files))
    except (Malformed, OffloadError) as error:
        return f"<unreadable: {error}>"


def _shown(kind: str, text: str) -> str:
    """Return a line of news as text for people: a partial result as JSON."""
    if kind != "partial":
        return text
    try:
        return json.dumps(shown(partial_value(text)), ensure_ascii=False)
    except (Malformed, ValueError):
        return "<unreadable>"


def _error(outcome: Outcome | None) -> dict[str, str] | None:
    if outcome is None or not outcome.reason:
        return None
    return {
        "type": outcome.error_type,
        "message": outcome.reason,
        "traceback": outcome.traceback,
    }
