"""
Under attack (issue lines 2 and 7; C112, C113, C116; G26, G29-G31, G36).

An outsider does all that ``outsider.py`` can, to all at once, while jobs run: these go on, nobody
is taken for gone, memory and log stay bounded, and the outsider learns nothing.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from tests.lab.batches import Batch
from tests.lab.conftest import Figures
from tests.lab.hosts import Host, Lan, until
from tests.lab.test_lan import CONSUMERS, SOON_S, know_all, takes

pytestmark = pytest.mark.lab

OUTSIDER: Final = Path(__file__).with_name("outsider.py")
ATTACK_S: Final = 20.0
JOBS: Final = 32
JOB_S: Final = 0.5
KEPT: Final = 0.8  # of the undisturbed rate
TURNS: Final = 3  # in which it may be shown, since others may use the machine
GROWTH_MIB: Final = 64
LOG_LINES: Final = 60
DESCRIPTORS: Final = 512  # that each of them may have (G36)
TLS: Final = {"a stolen certificate, tls", "no certificate, tls"}
WAYS: Final = {"silence", "plain http", "half a handshake", "replay", *TLS}


async def besieged(lan: Lan) -> tuple[list[Host], dict[str, str], Path]:
    """Return three members of a group that know one another, their ids, and a stolen identity."""
    hosts = [lan[name] for name in ("one", "two", "three")]
    hosts[0].run(None, descriptors=DESCRIPTORS)
    hosts[1].run(CONSUMERS, descriptors=DESCRIPTORS, **takes("lab/wait", "text/shout"))
    hosts[2].run(CONSUMERS, descriptors=DESCRIPTORS, **takes("lab/wait"))
    await until(lambda: know_all(hosts), within_s=SOON_S, what="three members know one another")
    return hosts, {h.address: lan.members.ids[h.name] for h in hosts}, lan.members.stolen


def attack(lan: Lan, ids: dict[str, str], stolen: Path, seconds: float) -> Path:
    """Let the outsider loose at host four; return where it writes what it has heard."""
    four = lan["four"]
    four.folder.mkdir(exist_ok=True)
    evidence = four.folder / "evidence.json"
    evidence.unlink(missing_ok=True)
    targets = [f"{address}={name}" for address, name in ids.items()]
    words = [sys.executable, str(OUTSIDER), four.address, four.also_at(24), str(seconds)]
    words += [str(evidence), str(stolen)]
    four.spawn([*words, *targets], {"PATH": "/usr/bin:/bin"}, four.folder / "outsider.txt")
    return evidence


async def rate(lan: Lan, origin: Host) -> float:
    """Return the jobs per second of a batch that all of the LAN works on."""
    batch = Batch(origin, lan)
    began = time.monotonic()
    await batch.add(JOBS, JOB_S)
    await until(batch.succeeded, within_s=4 * SOON_S, what="all jobs have succeeded")
    return JOBS / (time.monotonic() - began)


async def one_turn(
    lan: Lan, hosts: list[Host], ids: dict[str, str], stolen: Path
) -> tuple[float, Path]:
    """
    Attack once; return the share of the undisturbed rate that was kept, and the evidence.

    The share is 0 if the attack was over before the jobs were: then nothing is known.
    """
    quiet = await rate(lan, hosts[0])
    evidence = attack(lan, ids, stolen, ATTACK_S)
    await asyncio.sleep(2)  # it is in full swing
    during = await rate(lan, hosts[0])
    share = 0.0 if evidence.exists() else during / quiet
    await until(evidence.exists, within_s=2 * SOON_S, what="the outsider is done")
    return share, evidence


def rss_mib(host: Host) -> float:
    assert host.process is not None
    lines = Path(f"/proc/{host.process.pid}/status").read_text("ascii").splitlines()
    (found,) = (line.split()[1] for line in lines if line.startswith("VmRSS:"))
    return int(found) / 1024


def lines_of(host: Host) -> int:
    return len(host.output.read_text("utf-8").splitlines())


def heard(evidence: Path) -> dict[str, bytes]:
    """Return what the outsider has heard, by its ways; all of them were tried."""
    told: dict[str, Any] = json.loads(evidence.read_text("utf-8"))
    opened = {way for way, (count, _) in told.items() if count}
    assert opened >= WAYS, f"not tried: {WAYS - opened}"
    return {way: bytes.fromhex(data) for way, (_, data) in told.items()}


class TestAGroupUnderAttack:
    async def test_goes_on_and_tells_the_outsider_nothing(self, lan: Lan, figure: Figures) -> None:
        hosts, ids, stolen = await besieged(lan)
        await rate(lan, hosts[0])  # it is warm
        before, said = [rss_mib(host) for host in hosts], [lines_of(host) for host in hosts]
        order = await hosts[0].sees()

        shares: list[float] = []
        while len(shares) < TURNS and max(shares, default=0.0) < KEPT:
            share, evidence = await one_turn(lan, hosts, ids, stolen)
            shares.append(share)
            assert await know_all(hosts)
            assert await hosts[0].sees() == order
        figure(f"turns until {max(shares):.0%} of the undisturbed rate was kept", len(shares))
        assert max(shares) >= KEPT, shares

        growth = [rss_mib(host) - was for host, was in zip(hosts, before, strict=True)]
        figure("MiB that the greatest of them has grown by", max(growth))
        assert max(growth) <= GROWTH_MIB
        lines = max(lines_of(h) - was for h, was in zip(hosts, said, strict=True))
        assert lines <= LOG_LINES * len(shares)
        learnt = heard(evidence)
        for way, answer in learnt.items():
            assert b"HTTP" not in answer, way
            assert b"offload" not in answer or way == "trap", way  # it asks for an id that it knows
            assert not any(topic in answer for topic in (b"lab/wait", b"shout", b'"one"')), way
        assert [learnt[way] for way in TLS] == [b"", b""]
