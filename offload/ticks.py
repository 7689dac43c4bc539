"""The machine's own count of seconds, which all its processes share."""

import time
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def ticks_s() -> float:
    """Return seconds of a clock that counts sleep too, where the system has one."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


def machine_boot() -> str:
    """Return what tells this boot of the machine from any other; "" where the system can't."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""
