"""Looks at this machine: who touches it, how it is powered, what it is busy with. Blocks."""

import math
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from offload.config import WhenConfig
from offload.owner.rules import Sample

_TERMINALS: Final = ("pts/[0-9]*", "tty[0-9]*", "ttys[0-9]*")
_LOGIND: Final = ("show-session", "--property=IdleHint", "--property=IdleSinceHint")
_LOGIND_S: Final = 2.0
_NEW: Final = 0.5  # the weight of the latest reading of the load


class Busy(NamedTuple):
    """Seconds of all processors: that have passed, that were busy, that were busy with jobs."""

    total_s: float
    busy_s: float
    own_s: float


class Machine:
    """This machine; a load is the difference of two looks, so the first one has none."""

    def __init__(self, devices: Path = Path("/dev")) -> None:
        self._devices = devices
        self._loginctl = shutil.which("loginctl")
        self._former: Busy | None = None
        self._load: float | None = None

    def look(self, when: WhenConfig) -> Sample:
        """Measure what ``when`` asks for."""
        local = datetime.now(UTC).astimezone()
        return Sample(
            minute=local.hour * 60 + local.minute,
            idle_s=self._idle_s() if when.idle_s is not None else None,
            on_mains=_on_mains() if when.on_mains else None,
            load=self._measured() if when.load_below is not None else None,
            programs=_running(when.not_while) if when.not_while else frozenset(),
        )

    def _idle_s(self) -> float:
        """Return for how long no terminal was typed at and no desktop session touched."""
        now = time.time()
        touched = [at for name in _TERMINALS for at in _accessed(self._devices.glob(name))]
        idle_s = max(0.0, now - max(touched)) if touched else math.inf
        return min(idle_s, _session_idle_s(self._loginctl, now)) if self._loginctl else idle_s

    def _measured(self) -> float | None:
        busy, former = _busy(), self._former
        self._former = busy
        if former is None or busy.total_s <= former.total_s:
            return self._load
        others_s = (busy.busy_s - former.busy_s) - (busy.own_s - former.own_s)
        load = min(1.0, max(0.0, others_s / (busy.total_s - former.total_s)))
        self._load = load if self._load is None else self._load + _NEW * (load - self._load)
        return self._load


def _accessed(devices: Iterable[Path]) -> Iterable[float]:
    """Yield when each terminal was last read from: the system notes it to some seconds."""
    for device in devices:
        with suppress(OSError):
            found = device.stat()
            if stat.S_ISCHR(found.st_mode):
                yield found.st_atime


def _session_idle_s(loginctl: str, now: float) -> float:
    """Return what systemd-logind knows of the sessions; infinite where it cannot be asked."""
    with suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(  # noqa: S603 - a fixed program of the system
            [loginctl, *_LOGIND], capture_output=True, text=True, timeout=_LOGIND_S, check=False
        )
        if asked.returncode == 0:
            return session_idle_s(asked.stdout, now)
    return math.inf


def session_idle_s(answer: str, now: float) -> float:
    """Read logind's answer: since when all sessions are idle; 0 if one is not."""
    said = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
    since = said.get("IdleSinceHint", "")
    if said.get("IdleHint") == "no":
        return 0.0
    if said.get("IdleHint") != "yes" or not since.isdecimal() or int(since) == 0:
        return math.inf
    return max(0.0, now - int(since) / 1e6)


def _on_mains() -> bool:
    battery = psutil.sensors_battery()
    return battery is None or battery.power_plugged is not False


def _running(names: Iterable[str]) -> frozenset[str]:
    wanted = set(names)
    return frozenset(p.info["name"] for p in psutil.process_iter(["name"])) & wanted


def _busy() -> Busy:
    cpu = psutil.cpu_times()
    total_s = sum(cpu[:8])  # what guests use is in what users do
    idle_s = cpu.idle + getattr(cpu, "iowait", 0.0)
    return Busy(total_s, total_s - idle_s, _own_s())


def _own_s() -> float:
    """Return what this process and those below it have used, ended ones too."""
    own = psutil.Process(os.getpid())
    used = own.cpu_times()
    spent_s = sum(used[:4])
    for child in own.children(recursive=True):
        with suppress(psutil.Error):
            times = child.cpu_times()
            spent_s += times.user + times.system
    return float(spent_s)
