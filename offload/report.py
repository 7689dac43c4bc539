"""What is told of jobs, queues and peers as plain values: the stable shapes behind ``--json``."""

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from offload.blobs import Blobs
from offload.datadir import DataDir
from offload.distributor import Distributor
from offload.errors import JobNotFound, Malformed, OffloadError
from offload.payload import File, decode
from offload.peers.topology import Instance, TopologyView
from offload.peers.transport import LinkInfo
from offload.placement import Ranked
from offload.topics import check_topic
from offload.work.jobs import Attempt, Job, Outcome, State
from offload.work.manager import Manager
from offload.work.store import Store


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
        links: Callable[[], Mapping[str, LinkInfo]],
        facts: Callable[[], dict[str, Any]],
    ) -> None:
        self._data_dir = data_dir
        self._store = store
        self._blobs = blobs
        self._manager = manager
        self._distributor = distributor
        self._view = view
        self._links = links
        self._facts = facts
        self._names: dict[str, str] = {}  # also of those that are gone

    async def job(self, job_id: str) -> dict[str, Any]:
        """Return all about a job; raise ``JobNotFound``."""
        job = await self._store.job(job_id)
        if job is None:
            raise JobNotFound(job_id)
        outcome = await self._store.outcome(job_id)
        attempts = await self._store.attempts(job_id)
        return {
            **self._brief(job),
            "value": _value(job, outcome),
            "error": _error(outcome),
            "attempts": [self._attempt(attempt) for attempt in attempts],
        }

    async def jobs(
        self,
        *,
        states: Collection[State] = (),
        topic: str = "**",
        limit: int = 100,
        before_seq: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return jobs in short, newest first."""
        found = await self._store.find(
            states=states, topic=topic, limit=limit, before_seq=before_seq
        )
        return [self._brief(job) for job in found]

    async def logs(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return the kept log and progress lines of a job, from number ``after`` on."""
        lines = await self._store.news(job_id, after)
        return [{"n": n, "at": _iso(w), "kind": kind, "text": text} for n, w, kind, text in lines]

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
            "running": self._manager.runs.running(),
            "held": len(self._distributor.held()),
            "outbox": {
                "jobs": len(outbox),
                "bytes": sum(sum(e.size for e in h.outcome.blobs()) for h in outbox if h.outcome),
            },
            "peers": [self._instance(i) for i in self._view().instances if not i.own],
            "blobs": {"count": blobs, "bytes": size},
            "disk": {"free": shutil.disk_usage(self._data_dir.path).free},
            "queues": self._queues(),
        }

    def topology(self) -> dict[str, Any]:
        """Return who is there, in the order of the topology."""
        view = self._view()
        return {
            "own": view.own.id,
            "leader": view.leader.id,
            "current": view.current,
            "instances": [self._instance(instance) for instance in view.instances],
        }

    async def explain(self, job_or_topic: str) -> dict[str, Any]:
        """Say why a job is where it is, or who would run a topic, and why."""
        job = None if "/" in job_or_topic else await self._perhaps_job(job_or_topic)
        topic = job.topic if job else check_topic(job_or_topic)
        policy, ranked = self._distributor.explain(topic, job)
        chosen = ranked[0].candidate.id if ranked and ranked[0].can else ""
        if job and job.state is not State.QUEUED:
            chosen = job.worker
        return {
            "what": job.id if job else topic,
            "topic": topic,
            "policy": policy.value,
            "sentence": self._sentence(job, topic, ranked),
            "candidates": [_candidate(r, chosen) for r in ranked],
        }

    # --- inside ----------------------------------------------------------------------------

    async def _perhaps_job(self, text: str) -> Job | None:
        try:
            return await self._store.job(await self._store.resolve(text))
        except JobNotFound:
            return None

    def _sentence(self, job: Job | None, topic: str, ranked: Sequence[Ranked]) -> str:
        where = self._name(job.worker) if job else ""
        if job and job.finished:
            return f"It has ended: {job.state}" + (f", {job.reason}" if job.reason else "") + "."
        if job and job.state is not State.QUEUED:
            return f"It is {job.state} at {where}, attempt {job.attempt}."
        if not any(r.candidate.capable for r in ranked):
            return f"No instance has the topic {topic}; its jobs wait until one announces it."
        if not any(r.might for r in ranked):
            return "The policy leaves nobody who could run it."
        if ranked[0].can:
            return f"{ranked[0].candidate.name} would run it now."
        return "Everyone who could run it is busy or cannot take it now; it waits."

    def _brief(self, job: Job) -> dict[str, Any]:
        return {
            "id": job.id,
            "seq": job.seq,
            "topic": job.topic,
            "queue": job.queue,
            "state": "stopping" if job.stopping else job.state.value,
            "priority": job.priority,
            "attempt": job.attempt,
            "worker": job.worker,
            "worker_name": self._name(job.worker),
            "failures": job.failures,
            "crashes": job.crashes,
            "reason": job.reason,
            "created": _iso(job.created_wall),
            "started": _iso(job.started_wall),
            "finished": _iso(job.finished_wall),
            "into": job.into,
            "outputs": list(job.outputs),
        }

    def _attempt(self, attempt: Attempt) -> dict[str, Any]:
        return {
            "number": attempt.number,
            "worker": attempt.worker,
            "worker_name": self._name(attempt.worker),
            "result": attempt.result.value,
            "reason": attempt.reason,
            "ended": _iso(attempt.ended_wall),
            "run_s": attempt.run_s,
        }

    def _name(self, instance_id: str) -> str:
        for instance in self._view().instances:
            self._names[instance.id] = instance.name
        return self._names.get(instance_id, instance_id[:8])

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
            "silent": instance.silent,
            "leader": instance.leader,
            "own": instance.own,
            "properties": dict(instance.properties),
            "load": dict(instance.load),
            "linked": link is not None,
            "dialled": link.dialled if link else False,
            "since": instance.since,
        }


def _address(instance: Instance, link: LinkInfo | None) -> str:
    """Return where it can be reached: as we reach it, or as it says."""
    if link and link.dialled:
        return link.address
    for host, port in instance.addresses:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return ""


def _candidate(ranked: Ranked, chosen: str) -> dict[str, Any]:
    return {
        "instance": ranked.candidate.id,
        "name": ranked.candidate.name,
        "chosen": ranked.candidate.id == chosen,
        "can": ranked.can,
        "score": [value if value != float("inf") else None for value in ranked.score],
        "reasons": list(ranked.reasons),
    }


def _value(job: Job, outcome: Outcome | None) -> Any:
    """Return the result as JSON can show it; a daemon unpacks no payload, only own results."""
    if outcome is None or job.state is not State.SUCCEEDED:
        return None
    if outcome.value_blob is not None:
        return f"<{outcome.value_blob.size} bytes>"
    files = [File(path, e.name) for path, e in zip(job.outputs, outcome.files, strict=True)]
    try:
        return _plain(decode(outcome.value, files))
    except (Malformed, OffloadError) as error:
        return f"<unreadable: {error}>"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, File):
        return str(value.path)
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


def _error(outcome: Outcome | None) -> dict[str, str] | None:
    if outcome is None or not outcome.reason:
        return None
    return {
        "type": outcome.error_type,
        "message": outcome.reason,
        "traceback": outcome.traceback,
    }


def _iso(wall: float) -> str | None:
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds") if wall else None
