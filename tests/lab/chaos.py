"""
Chaos: ``python -m tests.lab.chaos --minutes 10`` breaks five hosts under load in every way.

At the end each job that was promised has exactly one outcome, each output file its right digest;
if not, it says what is wrong, and its exit code is 1. Needs what the lab needs (``hosts``).
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.lab.audit import Audit, audit, look_at_disks
from tests.lab.hosts import Host, Lan, NotRunning, obstacle, until
from tests.lab.load import Load
from tests.lab.monkey import Monkey

NAMES: Final = ("one", "two", "three", "four", "five")
CONSUMERS: Final = Path(__file__).with_name("consumers.py")
DISK_MIB: Final = 256
SETTLED_WITHIN_S: Final = 120.0
TABLES: Final[dict[str, dict[str, Any]]] = {
    "node": {"drain_timeout": 2},
    "timing": {"heartbeat": 0.5, "lease": 3, "event_delay": 0.5},
    "queues.main": {
        "max_parallel": 3,
        "retries": -1,
        "retry_delay": 0.2,
        "max_crashes": 1000,
        "keep": True,
    },
    "offloading": {"policy": "balanced", "lost_after": 15},
    "limits": {"disk_free": "8MiB"},
}


async def chaos(lan: Lan, seconds: float, seed: int, *, at_once: int = 12) -> tuple[Audit, str]:
    """Break hosts for so long under load; return what an audit finds, and a table to be read."""
    hosts = list(lan.hosts.values())
    for host in hosts:
        host.with_disk(DISK_MIB)
        host.run(CONSUMERS, **TABLES)
    await _met(hosts)
    load, monkey = Load(hosts, lan.folder, seed, at_once=at_once), Monkey(lan, seed)
    async with load.on():
        await monkey.trouble(seconds)
    await _met(hosts)
    await load.insist()
    settled_s = await _settled(load)
    found = await audit(lan, load)
    for host in hosts:
        host.leave()
    look_at_disks(found, hosts)
    found.wrong += monkey.strange
    return found, _table(found, monkey, load, seconds, settled_s)


async def _settled(load: Load) -> float:
    """Wait until all is at its end, for as long as it gets less; return how long that took."""
    began = least_at = time.monotonic()
    least = await load.remaining()
    while least:
        await asyncio.sleep(0.5)
        now, left = time.monotonic(), await load.remaining()
        if left < least:
            least, least_at = left, now
        if now - least_at > SETTLED_WITHIN_S:
            raise AssertionError(f"{left} things do not end:\n{await load.left()}")
    return time.monotonic() - began


async def _met(hosts: list[Host]) -> None:
    """Return when each of ``hosts`` is linked to all others; if not, tell what each one sees."""
    try:
        await until(lambda: _know_all(hosts), within_s=60, what="all hosts know one another")
    except AssertionError as error:
        raise AssertionError(
            "\n".join([str(error), *[await _sees(host) for host in hosts]])
        ) from None


async def _know_all(hosts: list[Host]) -> bool:
    """Say whether each of ``hosts`` is linked to all others."""
    for host in hosts:
        if sum(map(_can_work, await host.topology())) < len(hosts):
            return False
    return True


async def _sees(host: Host) -> str:
    try:
        seen = await host.topology()
    except NotRunning:
        runs = "runs, but does not answer" if host.runs() else "does not run"
        return f"{host.name} {runs}"
    lacks = [i["name"] for i in seen if not _can_work(i)]
    return f"{host.name} sees {len(seen)}, of whom silent or without topics: {lacks}"


def _can_work(instance: dict[str, Any]) -> bool:
    return not instance["silent"] and instance["topics"] != []


def _table(found: Audit, monkey: Monkey, load: Load, seconds: float, settled_s: float) -> str:
    faults = [f"{count:6d}  {what}" for what, count in sorted(monkey.done.items())]
    ends = [f"{count:6d}  {what}" for what, count in sorted(found.states.items())]
    promised = sum(bool(wish.id) for wish in load.wishes)
    wrong = [*found.lost, *found.doubled, *found.wrong]
    return "\n".join(
        [
            f"chaos of {seconds:g} s; all was at its end {settled_s:.1f} s later",
            *("", f"{monkey.done.total():6d}  faults injected", *faults),
            *("", f"{promised:6d}  jobs promised", *ends),
            *("", f"{len(found.lost):6d}  lost", f"{len(found.doubled):6d}  doubled"),
            *(f"{len(found.wrong):6d}  other trouble", *(f"        {what}" for what in wrong[:40])),
        ]
    )


def main() -> int:
    """Run what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.chaos")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, help="folder for what the hosts leave behind")
    asked = parser.parse_args()
    reason = obstacle()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="offload-chaos-") as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        with Lan(folder, NAMES) as lan:
            found, table = asyncio.run(chaos(lan, asked.minutes * 60, asked.seed))
    print(table)
    return int(not found.passed)


if __name__ == "__main__":
    sys.exit(main())
