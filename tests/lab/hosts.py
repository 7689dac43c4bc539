"""
A LAN in a box: each host is a network namespace, plugged into a bridge that lies in one as well.

There may be several bridges, and hosts that are plugged into more than one of them (``wires``).
Nothing is created in the machine's own network but the names of the namespaces, which hold the
pid of their run: what a run left that was killed is cleared away by the next one. Every process
is ended by its own pid.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import psutil

from offload.client import Client, connect
from offload.errors import NotRunning
from tests.lab.group import Members
from tests.lab.wires import Plug, Weather, Wires, ip, run

ROOT: Final = Path(__file__).parents[2]
PREFIX: Final = "offload-lab"
PORT: Final = 4711
LISTENING: Final = "0A"  # a state in /proc/net/tcp
_BUSY: Final = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    pass
"""
Layout = Mapping[str, Sequence[int]] | Iterable[str]


class Host:
    """One machine of the LAN, at ``address``, and the instance on it, if one was started."""

    def __init__(self, lan: "Lan", number: int, name: str, bridges: Sequence[int]) -> None:
        self.name = name
        self.plugs = [Plug(number, f"eth{i}", bridge) for i, bridge in enumerate(bridges)]
        self.address = self.plugs[0].address
        self.folder = lan.folder / name
        self.config = self.folder / "offload.toml"
        self.output = self.folder / "output.txt"
        self.namespace = f"{PREFIX}-{os.getpid()}-{name}"
        self.data = self.folder / ".offload"
        self.process: subprocess.Popen[bytes] | None = None
        self._lan = lan
        self._words: list[str] = []

    # --- its instance ---

    def run(
        self,
        app: Path | None,
        *,
        insecure: bool = False,
        descriptors: int = 0,
        **tables: Mapping[str, Any],
    ) -> None:
        """
        Start ``offload run`` on this host, with these tables of its ``offload.toml``.

        It is of the group of all hosts, unless it is ``insecure`` or has a ``group_dir``.
        """
        self.folder.mkdir(exist_ok=True)
        group = self.folder / "group"
        node = {"name": self.name, "listen": self.address, "port": PORT, "group_dir": str(group)}
        node |= tables.get("node", {})
        if not insecure and node["group_dir"] == str(group):
            self._lan.members.settle(self.name, self.data, group)
        self.config.write_text(_toml({**tables, "node": node}), "utf-8")
        words = ["prlimit", f"--nofile={descriptors}"] if descriptors else []
        words += [sys.executable, "-m", "offload", "run", *([str(app)] if app else [])]
        words += ["--insecure"] if insecure else []
        self._words = [*words, "--config", str(self.config), "-v"]
        self.start()

    def start(self, **environment: str) -> None:
        """Start it again as it was, with its data directory, and with this environment."""
        mine = {k: v for k, v in os.environ.items() if not k.startswith("OFFLOAD_")}
        mine |= {
            "PYTHONPATH": str(ROOT),
            "LAB_HOST": self.name,
            "LAB_LEDGER": str(self._lan.ledger),
        }
        self.process = self.spawn(self._words, mine | environment, self.output)

    def spawn(
        self, words: Iterable[str], environment: Mapping[str, str], output: Path
    ) -> subprocess.Popen[bytes]:
        """Start a program on this host; the lan ends it."""
        with output.open("ab") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *words],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        self._lan.processes.append(process)
        return process

    def ask(self) -> Client:
        """Return a client of the instance; its control socket can be reached from anywhere."""
        return connect(config=self.config)

    async def topology(self) -> list[dict[str, Any]]:
        """Return the instances in order, as this one sees them: what ``topology --json`` shows."""
        async with self.ask() as client:
            instances: list[dict[str, Any]] = (await client.topology())["instances"]
            return instances

    async def sees(self) -> list[str]:
        """Return the names in the order of the topology."""
        return [instance["name"] for instance in await self.topology()]

    def offload(self, *words: str) -> str:
        """Run a command of the terminal for this instance; return what it prints."""
        told = subprocess.run(
            [sys.executable, "-m", "offload", *words, "--config", str(self.config)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert told.returncode == 0, f"{words}: {told.stdout}{told.stderr}"
        return told.stdout

    async def examine(self, other: str = "") -> dict[str, Any]:
        """Return what ``offload doctor --json`` shows of the instance, and of ``other``."""
        async with self.ask() as client:
            return await client.doctor(other)

    def is_open(self) -> bool:
        """Say whether the instance listens on its port."""
        assert self.process is not None
        lines: list[str] = []
        own, here = Path(f"/proc/{self.process.pid}"), Path("/run/netns") / self.namespace
        with suppress(OSError):
            if not (own / "ns/net").samefile(here):
                return False  # it is about to move in, and still sees the machine's own network
            for name in ("tcp", "tcp6"):
                lines += (own / "net" / name).read_text("ascii").splitlines()[1:]
        entries = (line.split() for line in lines)
        return any(e[1].endswith(f":{PORT:04X}") and e[3] == LISTENING for e in entries)

    # --- what happens to it ---

    def kill(self) -> None:
        """End the instance as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def leave(self, within_s: float = 60.0) -> None:
        """Ask the instance to end, and wait until it has."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(within_s) == 0

    def runs(self) -> bool:
        """Say whether the instance has not ended."""
        return self.process is not None and self.process.poll() is None

    def pids(self) -> list[int]:
        """Return all processes of the host."""
        return _pids(self.namespace)

    def freeze(self) -> None:
        """Stop every process of the host where it stands."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in _pids(self.namespace):
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, number)

    def saturate(self, for_s: float, *, programs: int) -> Callable[[], float]:
        """
        Give its instance one core only, and that to so many busy programs as well.

        Returns:
            What tells how many seconds of CPU they have had.
        """
        core = max(os.sched_getaffinity(0))
        for pid in self.pids():
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.sched_setaffinity(int(thread.name), {core})
        words = [sys.executable, "-c", _BUSY, str(core), str(for_s)]
        busy = [self.spawn(words, os.environ, self.output) for _ in range(programs)]
        return lambda: sum(psutil.Process(process.pid).cpu_times().user for process in busy)

    def pull_cable(self) -> None:
        """Take its cable out of the switch."""
        for plug in self.plugs:
            self._lan.wires.pull(plug)

    def plug_in(self) -> None:
        """Put the cable back."""
        for plug in self.plugs:
            self._lan.wires.push(plug)

    def ip(self, *words: str) -> str:
        """Run ``ip`` on this host."""
        return ip("-n", self.namespace, *words)

    def also_at(self, number: int) -> str:
        """Give it another address too; return that."""
        network, _, _ = self.address.rpartition(".")
        address = f"{network}.{number}"
        self.ip("address", "add", f"{address}/24", "dev", "eth0")
        return address

    def lose(self, percent: int) -> None:
        """Lose so many of the packets that arrive here from others."""
        self._filter(f"iifname eth0 numgen random mod 100 < {percent} drop")

    def shun(self, *others: "Host") -> None:
        """Hear nothing of ``others`` any more, though the cable is in."""
        sources = ", ".join(other.address for other in others)
        self._filter(f"ip saddr {{ {sources} }} drop")

    def drop(self, match: str) -> None:
        """Drop what arrives here and matches, such as ``udp dport 5353``."""
        self._filter(f"iifname eth0 {match} drop")

    def usage(self) -> tuple[float, float]:
        """Return the seconds of CPU that its instance has used, and its MiB of memory."""
        assert self.process is not None
        process = psutil.Process(self.process.pid)
        times = process.cpu_times()
        return times.user + times.system, process.memory_info().rss / 2**20

    def hear_all(self) -> None:
        """End what ``lose`` and ``shun`` began."""
        run("ip", "netns", "exec", self.namespace, "nft", "flush", "ruleset")

    def with_disk(self, mebibytes: int) -> None:
        """Give it a disk of its own for its data directory, before it is started."""
        self.data.mkdir(parents=True)
        run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "lab", str(self.data))
        self._lan.mounts.append(self.data)

    def fill_disk(self, but_bytes: int = 0) -> None:
        """Leave only so much room on its disk."""
        with (self.data / "ballast").open("ab") as ballast:
            while (size := shutil.disk_usage(self.data).free - but_bytes) > 0:
                with suppress(OSError):  # somebody else has just taken of it
                    os.posix_fallocate(ballast.fileno(), ballast.seek(0, os.SEEK_END), size)

    def make_room(self) -> None:
        """End what ``fill_disk`` began."""
        (self.data / "ballast").unlink(missing_ok=True)

    def _filter(self, rule: str) -> None:
        chain = "add chain inet lab input { type filter hook input priority 0; }"
        rules = f"add table inet lab; {chain}; add rule inet lab input {rule}"
        run("ip", "netns", "exec", self.namespace, "nft", rules)

    # --- for the lan ---

    def up(self) -> None:
        """Create the host and plug it in."""
        ip("netns", "add", self.namespace)
        self.ip("link", "set", "lo", "up")
        # to find out whether an address is another's takes IPv6 seconds after every plugging in
        quick = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad || true"
        run("ip", "netns", "exec", self.namespace, "sh", "-c", quick)
        for plug in self.plugs:
            self._lan.wires.connect(self.namespace, plug)


class Lan:
    """
    Hosts on one bridge, or on several.

    Args:
        folder: Takes what they keep.
        layout: Their names; or, with each name, the numbers of the bridges that it is on.
        ipv4: Whether they have IPv4 addresses; link-local IPv6 ones they have always.
        weather: Instead of bridges, one wire that delays and loses.

    Attributes:
        ledger: What consumers write.
    """

    def __init__(
        self,
        folder: Path,
        layout: Layout,
        *,
        ipv4: bool = True,
        weather: Weather | None = None,
    ) -> None:
        self.folder = folder
        self.ledger = folder / "ledger.jsonl"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.mounts: list[Path] = []
        on = layout if isinstance(layout, Mapping) else dict.fromkeys(layout, (0,))
        self.hosts = {n: Host(self, 11 + i, n, on[n]) for i, n in enumerate(on)}
        self.wires = Wires(f"{PREFIX}-{os.getpid()}", ipv4=ipv4, weather=weather)

    def __enter__(self) -> "Lan":
        clear_away()
        try:
            self._up()
        except BaseException:
            self._down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._down()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def route(self, one: int, other: int, *, nat: bool = False) -> None:
        """Put a router between two bridges; with ``nat`` those of ``one`` are hidden behind it."""
        plugs = [(host.namespace, plug) for host in self.hosts.values() for plug in host.plugs]
        self.wires.route(one, other, plugs, nat=nat)

    @cached_property
    def members(self) -> Members:
        """The group of all hosts, made when the first one is started."""
        return Members(self.folder / "members", self.hosts)

    def entries(self) -> list[dict[str, Any]]:
        """Return the whole lines of the ledger."""
        if not self.ledger.exists():
            return []
        whole, _, _ = self.ledger.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    def outputs(self) -> str:
        """Return all that the instances have printed."""
        texts = [
            (h.name, h.output.read_text("utf-8", "replace"))
            for h in self.hosts.values()
            if h.process
        ]
        return "\n".join(f"--- {name} ---\n{text}" for name, text in texts)

    def _up(self) -> None:
        self.wires.up(p for host in self.hosts.values() for p in host.plugs)
        for host in self.hosts.values():
            host.up()
        self.wires.begin()

    def _down(self) -> None:
        for process in self.processes:
            process.kill()  # a stopped one too
        for process in self.processes:
            process.wait(10)
        self.wires.down()
        for space in (*self.wires.spaces, *(host.namespace for host in self.hosts.values())):
            _remove(space)
        for mount in self.mounts:
            run("umount", "--lazy", str(mount))


def obstacle() -> str:
    """Say why there can be no lan on this machine; "" if there can."""
    if os.geteuid() != 0:
        return "the lab needs root, to make network namespaces"
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if missing:
        return f"the lab needs {' and '.join(missing)} (Debian: iproute2, nftables)"
    name = f"{PREFIX}-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    _remove(name)
    return ""


def clear_away() -> None:
    """Remove what is left of runs that were killed."""
    for line in ip("netns", "list").splitlines():
        name, *_ = line.split()
        prefix, _, rest = name.partition(f"{PREFIX}-")
        pid, _, _ = rest.partition("-")
        if not prefix and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            _remove(name)


async def until(holds: Callable[[], Any], *, within_s: float, what: str) -> float:
    """
    Wait until ``holds()`` or what it awaits is true; return the seconds it took.

    Fails after ``within_s``. An instance that does not answer yet counts as not true.
    """
    began = time.monotonic()
    while True:
        with suppress(NotRunning):
            answer = holds()
            if await answer if asyncio.iscoroutine(answer) else answer:
                return time.monotonic() - began
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.02)


def _remove(namespace: str) -> None:
    """Remove a namespace, and end what still runs in it: orphans of killed parents."""
    if not (Path("/run/netns") / namespace).exists():
        return
    for pid in _pids(namespace):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    ip("netns", "delete", namespace)


def _pids(namespace: str) -> list[int]:
    return [int(pid) for pid in ip("netns", "pids", namespace).split()]


def _toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables as TOML: JSON texts, numbers and lists are that as well."""
    lines: list[str] = []
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"
