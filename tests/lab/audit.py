"""What became of a load: held against what was promised, against files, and against the ledger."""

import hashlib
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from tests.lab.hosts import Host, Lan
from tests.lab.load import Load, Wish

FINAL: Final = ("succeeded", "given_up", "error", "stopped", "expired", "dropped", "lost")
PAGE: Final = 500
GONE_SOON: Final = ("work",)  # folders of a data directory


@dataclass
class Audit:
    """
    What was found.

    Attributes:
        states: How many jobs ended how.
        lost: Jobs that were promised, and have not the one good end that they should have.
        doubled: Jobs that had two ends, or effects that they must not have had.
        wrong: All else.
    """

    states: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Nothing was found."""
        return not (self.lost or self.doubled or self.wrong)


async def audit(lan: Lan, load: Load) -> Audit:
    """Look at all that was asked for; all hosts run, and have nothing left to do."""
    found = Audit()
    jobs: dict[str, dict[str, Any]] = {}
    keys: dict[str, list[str]] = defaultdict(list)
    for host in lan.hosts.values():
        for job in await _history(host):
            jobs[job["id"]] = job
            keys[job["key"]].append(job["id"])
            found.states[job["state"]] += 1
    for wish in load.wishes:
        if len(keys[wish.key]) > 1:
            found.doubled.append(f"{wish.key} is {keys[wish.key]}")
        if wish.id not in jobs:
            found.lost.append(f"{wish.key} {wish.id} was promised, and is gone")
        else:
            _look_at(found, load, wish, jobs[wish.id])
    _look_at_ledger(found, lan.entries(), {wish.id: wish for wish in load.wishes})
    return found


def look_at_disks(found: Audit, hosts: Iterable[Host]) -> None:
    """Look at what instances that have ended left on their disks, and at what they have said."""
    for host in hosts:
        if "Traceback" in host.output.read_text("utf-8", "replace"):
            found.wrong.append(f"{host.name} shows a traceback")
        for store in host.data.rglob("store.db"):
            with closing(sqlite3.connect(store)) as connection:
                (told,) = connection.execute("PRAGMA integrity_check").fetchone()
            if told != "ok":
                found.wrong.append(f"the store of {host.name}: {told}")
        left = [p for name in GONE_SOON for p in host.data.glob(f"{name}/*")]
        if left:
            found.wrong.append(f"{host.name} leaves {[p.name for p in left[:3]]} behind")


async def _history(host: Host) -> list[dict[str, Any]]:
    """Return all about all jobs that were added at a host."""
    found: list[dict[str, Any]] = []
    async with host.ask() as client:
        while page := await client.jobs(limit=PAGE, before_seq=found[-1]["seq"] if found else None):
            found += page
        return [await client.describe(job["id"]) for job in found]


def _look_at(found: Audit, load: Load, wish: Wish, job: dict[str, Any]) -> None:
    what = f"{wish.key} {wish.id} ({wish.kind})"
    state, results = job["state"], Counter(line["result"] for line in job["attempts"])
    told = f"{what} is {state} ({job['reason']})"
    files = load.results(wish)
    if state not in FINAL:
        found.lost.append(told)
    elif state == "succeeded":
        if results["succeeded"] != 1 or len(files) != (wish.kind == "file"):
            found.doubled.append(f"{what} has results {dict(results)} and files {files}")
        elif wish.stopped:
            found.wrong.append(f"{what} was stopped for certain, and succeeded")
        elif not _is_right(wish, job, files):
            found.lost.append(f"{what} gave {job['value']} and {files}")
    elif not _may_end_so(wish, state):
        found.lost.append(told)
    elif files:
        found.wrong.append(f"{told}, and has files {files}")


def _may_end_so(wish: Wish, state: str) -> bool:
    """Say whether a job may have ended without success: no fault excuses most of them."""
    return (state == "stopped" and wish.stopping) or (
        wish.kind == "once" and state in ("lost", "given_up")
    )


def _is_right(wish: Wish, job: dict[str, Any], files: list[Any]) -> bool:
    if wish.kind != "file":
        return bool(job["value"] == wish.number)
    return hashlib.sha256(files[0].read_bytes()).hexdigest() == wish.digest


def _look_at_ledger(
    found: Audit, entries: Iterable[dict[str, Any]], wishes: dict[str, Wish]
) -> None:
    """See what really ran: no attempt twice, and what must be alone, or once, was that."""
    began: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        job = entry["job"]
        if entry["what"] == "began":
            began[job].append(entry)
        kind = wishes[job].kind if job in wishes else ""
        latest = began[job][-1]
        if kind == "alone" and entry["pid"] != latest["pid"]:
            found.doubled.append(
                f"{job} is exclusive, and runs at {entry['host']} when it began at {latest['host']}"
            )
    for job, runs in began.items():
        if len({run["attempt"] for run in runs}) < len(runs):
            found.doubled.append(f"{job} had an attempt that began twice")
        if job in wishes and wishes[job].kind == "once" and len(runs) > 1:
            found.doubled.append(f"{job} is at-most-once, and began {len(runs)} times")
