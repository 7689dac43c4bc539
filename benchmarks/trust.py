"""
What trust costs: links, jobs and files over mutual TLS beside plain ones, in one run; and how long
it takes to make two machines a group, three commands in all.

The peer is offload itself with plain links. Throughput is measured in turns, TLS and plain, so that
a machine that is busy with other things is so for both.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import Figure, measure, report
from rich.console import Console

from offload.blobs import Blobs
from offload.errors import PeerUnreachable
from offload.events import Bus
from offload.peers.identity import Credentials, GroupFolder, Identity
from offload.peers.transport import VERSIONS, Hello, LinkDown, Transport

HERE = "127.0.0.1"
BUDGET_S = 2.0  # for three commands
OFFLOAD = [sys.executable, "-m", "offload"]


class Station:
    """One end of a link."""

    def __init__(self, folder: Path, name: str, *, tls: bool) -> None:
        identity = Identity.load(folder / name)
        self.id, self.bus = identity.id, Bus()
        group = GroupFolder(folder / "group")
        self.credentials = Credentials.load(identity, group, name) if tls else None
        self.transport = Transport(
            hello=self._hello,
            handlers={},
            blobs=Blobs(folder / f"{name}-blobs"),
            bus=self.bus,
            listen=[HERE],
            credentials=self.credentials,
        )

    def _hello(self) -> Hello:
        return Hello(VERSIONS, self.id, self.id, "s", 1, "bench", self.transport.port, 1.0)


async def links(folder: Path, count: int, *, tls: bool) -> tuple[float, float]:
    """Return the seconds of a new link and of one that goes on with a session: medians."""
    one, other = Station(folder, "one", tls=tls), Station(folder, "other", tls=tls)
    for station in (one, other):
        await station.transport.open()
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(2 * count):
        if number % 2 == 0 and one.credentials is not None:
            one.credentials.forget_sessions()
        began = time.perf_counter()
        await one.transport.dial(HERE, other.transport.port, other.id)
        spent[number % 2].append(time.perf_counter() - began)
        await _part(one, other)
    for station in (one, other):
        await station.transport.close()
    return statistics.median(spent[0]), statistics.median(spent[1])


async def _part(one: Station, other: Station) -> None:
    """Cut the link, and wait until both know."""
    ends = asyncio.gather(_down(one), _down(other))
    await asyncio.sleep(0)  # both listen
    one.transport.drop(other.id, "measured")
    await ends


async def _down(station: Station) -> None:
    down = asyncio.Event()
    stop = station.bus.listen(LinkDown, lambda _: down.set())
    await down.wait()
    stop()


def commands(folder: Path) -> float:
    """Return the seconds of init, invite and join, the latter two at the same time."""
    began = time.perf_counter()
    _run(folder, "a", "init", "bench")
    words = [*OFFLOAD, "invite", "--token"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=_home(folder, "a")) as inviting:
        assert inviting.stdout is not None
        token = inviting.stdout.readline()
        _run(folder, "b", "join", "-", "--host", HERE, said=token)
        spent_s = time.perf_counter() - began
        inviting.wait()
    return spent_s


def _run(folder: Path, name: str, *words: str, said: bytes = b"") -> None:
    subprocess.run(
        [*OFFLOAD, *words], input=said, env=_home(folder, name), check=True, capture_output=True
    )


def _home(folder: Path, name: str) -> dict[str, str]:
    return os.environ | {
        "OFFLOAD_NODE__NAME": name,
        "OFFLOAD_NODE__DATA_DIR": str(folder / name / "data"),
        "OFFLOAD_NODE__GROUP_DIR": str(folder / name / "group"),
        "OFFLOAD_DISCOVERY__MDNS": "false",
    }


async def throughput(args: argparse.Namespace, folder: Path) -> list[Figure]:
    """Return jobs and files over TLS beside plain ones."""
    best: dict[bool, dict[str, float]] = {True: {}, False: {}}
    for turn in range(args.turns):
        for plain in (True, False):
            place = folder / f"turn{turn}{'plain' if plain else 'tls'}"
            place.mkdir()
            found = await measure(argparse.Namespace(**{**vars(args), "insecure": plain}), place)
            for figure in found:
                if figure.better == "higher" and "local" not in figure.name:
                    fastest = best[plain].get(figure.name, 0.0)
                    best[plain][figure.name] = max(fastest, figure.ours)
    units = {True: "MiB/s", False: "jobs/s"}
    return [
        Figure(f"{name}, TLS", rate, best[True][name], units["file" in name], "higher", "plain")
        for name, rate in best[False].items()
    ]


async def trust(args: argparse.Namespace, folder: Path) -> list[Figure]:
    """Measure everything in ``folder``."""
    for name in ("tls", "plain"):
        (folder / name).mkdir()
    new_s, resumed_s = await links(folder / "tls", args.links, tls=True)
    plain_s, _ = await links(folder / "plain", args.links, tls=False)
    made_s = await asyncio.to_thread(commands, folder)
    return [
        Figure("new link, TLS", 1000 * new_s, 1000 * plain_s, "ms", "lower", "plain"),
        Figure("resumed link, TLS", 1000 * resumed_s, 1000 * plain_s, "ms", "lower", "plain"),
        Figure("init, invite, join", made_s, BUDGET_S, "s", "lower", "the budget"),
        *await throughput(args, folder),
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--links", type=int, default=50, help="links of each kind")
    parser.add_argument("--turns", type=int, default=3, help="runs of each kind; the best counts")
    parser.add_argument("--jobs", type=int, default=3000, help="jobs at once")
    parser.add_argument("--local", type=int, default=100, help=argparse.SUPPRESS)
    parser.add_argument("--single", type=int, default=20, help="jobs one at a time")
    parser.add_argument("--files", type=int, nargs="*", default=[256], help="sizes in MiB")
    parser.add_argument("--parallel", type=int, default=64, help="jobs that run at once")
    parser.add_argument("--json", type=Path, default=Path("build/trust.json"))
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: temporary")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="offload-trust-", dir=args.folder) as folder:
            found = asyncio.run(trust(args, Path(folder)))
    except PeerUnreachable as error:
        raise SystemExit(str(error)) from None
    report(found, args.json, Console())


if __name__ == "__main__":
    main()
