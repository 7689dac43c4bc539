"""Does to hosts, at random, what happens to hosts; each fault is seen to have taken effect."""

import asyncio
import errno
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.lab.hosts import Host, Lan

FAULTS: Final = (
    *("kill", "kill", "kill", "kill_child", "kill_child", "restart", "freeze", "pause"),
    *("unplug", "unplug", "split", "lose", "fill", "fill_and_kill"),
)
AT_ONCE: Final = 3  # hosts in trouble
LASTS_S: Final = (0.5, 2.0, 5.0, 9.0)  # a lease of ``chaos`` is 3 s
EVERY_S: Final = (0.2, 1.5)
PERCENT: Final = 20


class Monkey:
    """
    The trouble of a run.

    Attributes:
        done: How often each fault took effect.
        strange: What happened that no fault explains.
    """

    def __init__(self, lan: Lan, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.strange: list[str] = []
        self._lan = lan
        self._chance = random.Random(f"faults {seed}")
        self._until = 0.0
        self._well = list(lan.hosts.values())

    async def trouble(self, for_s: float) -> None:
        """Break things for so long; return when all is well again."""
        self._until = time.monotonic() + for_s
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < self._until:
                await asyncio.sleep(self._chance.uniform(*EVERY_S))
                self._look()
                name = self._chance.choice(FAULTS)
                hosts = self._take(2 if name == "split" else 1)
                if hosts:
                    group.create_task(self._befall(name, hosts))
        self._look()

    async def _befall(self, name: str, hosts: Sequence[Host]) -> None:
        try:
            if await getattr(self, f"_{name}")(*hosts):
                self.done[name.replace("_", " ")] += 1
        finally:
            self._well += hosts

    def _take(self, count: int) -> list[Host]:
        """Return hosts that are well, or none if too many are not."""
        if len(self._lan.hosts) - len(self._well) + count > AT_ONCE:
            return []
        taken = self._chance.sample(self._well, count)
        for host in taken:
            self._well.remove(host)
        return taken

    def _look(self) -> None:
        """An instance that is well runs."""
        for host in self._well:
            if not host.runs():
                self.strange.append(f"{host.name} ended by itself")
                host.start()

    async def _a_while(self) -> None:
        lasts_s = self._chance.choice(LASTS_S) * self._chance.uniform(0.5, 1.2)
        await asyncio.sleep(max(0.0, min(lasts_s, self._until - time.monotonic())))

    # --- processes ----------------------------------------------------------------------------

    async def _kill(self, host: Host) -> bool:
        host.kill()
        assert host.process is not None
        await self._a_while()
        told = host.process.returncode
        host.start()
        return told == -signal.SIGKILL

    async def _kill_child(self, host: Host) -> bool:
        """Kill a process in which a consumer runs."""
        children = [p for p in host.pids() if host.process is None or p != host.process.pid]
        if not children:
            return False
        pid = self._chance.choice(children)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    async def _restart(self, host: Host) -> bool:
        assert host.process is not None
        if not host.is_open():  # it is about to start, and hears no signal yet
            return False
        host.process.terminate()
        try:
            code = await asyncio.to_thread(host.process.wait, 60)
        finally:
            host.start()
        if code:
            self.strange.append(f"{host.name} was asked to end, and its exit code is {code}")
        return True

    async def _freeze(self, host: Host) -> bool:
        """Stop the whole machine, as sleep does."""
        assert host.process is not None
        host.freeze()
        await asyncio.sleep(0.1)
        stands = _is_stopped(host.process.pid)
        await self._a_while()
        host.thaw()
        return stands

    async def _pause(self, host: Host) -> bool:
        """Stop the instance, and let the processes of its jobs go on."""
        assert host.process is not None
        os.kill(host.process.pid, signal.SIGSTOP)
        await asyncio.sleep(0.1)
        stands = _is_stopped(host.process.pid)
        await self._a_while()
        os.kill(host.process.pid, signal.SIGCONT)
        return stands

    # --- cables and disks ---------------------------------------------------------------------

    async def _unplug(self, host: Host) -> bool:
        host.pull_cable()
        await self._a_while()
        host.plug_in()
        return True

    async def _split(self, *part: Host) -> bool:
        """Cut ``part`` off from the rest."""
        rest = [host for host in self._lan.hosts.values() if host not in part]
        for host in part:
            host.shun(*rest)
        await self._a_while()
        for host in part:
            host.hear_all()
        return True

    async def _lose(self, host: Host) -> bool:
        host.lose(PERCENT)
        await self._a_while()
        host.hear_all()
        return True

    async def _fill(self, host: Host) -> bool:
        """Let its disk be full, time and again: whatever is deleted, is filled."""
        full = False
        if not host.is_open():  # it is about to start
            return False
        for _ in range(self._chance.randint(1, 10)):
            host.fill_disk()
            full = full or _is_full(host.data)
            await asyncio.sleep(0.5)
        host.make_room()
        return full

    async def _fill_and_kill(self, host: Host) -> bool:
        """Start it on a full disk: it may say that there is no room, and end."""
        assert host.process is not None
        host.fill_disk()
        full = _is_full(host.data)
        host.kill()
        host.start()
        await self._a_while()
        host.make_room()
        await asyncio.sleep(0.5)
        if not host.runs():
            if "disk full" not in host.output.read_text("utf-8", "replace").splitlines()[-1]:
                self.strange.append(f"{host.name} did not say why it ended on a full disk")
            host.start()
        return full


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "T"


def _is_full(folder: Path) -> bool:
    probe = folder / "probe"
    try:
        probe.write_bytes(bytes(4096))
    except OSError as error:
        return error.errno == errno.ENOSPC
    finally:
        probe.unlink(missing_ok=True)
    return False
