"""What the processes of a job use of the memory, and a watch that ends those that use too much."""

import asyncio
import logging
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)
LOOK_EVERY_S: Final = 0.1
_PROC: Final = Path("/proc")
_GROUP_FIELD, _PAGES_FIELD = 2, 21  # of /proc/PID/stat, counted from behind the command's name


class MemoryWatch:
    """Looks at process groups, all at once, as long as there are any to look at."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._task: asyncio.Task[None] | None = None

    def begin(self, group: int, limit: int, over: Callable[[int], None]) -> None:
        """Call ``over`` with what ``group`` uses, in bytes, as soon as it is above ``limit``."""
        self._watched[group] = limit, over
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look())

    def end(self, group: int) -> None:
        """Look at ``group`` no more; harmless if nobody does."""
        self._watched.pop(group, None)

    async def close(self) -> None:
        """Stop looking."""
        self._watched.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look(self) -> None:
        while self._watched:
            used = await asyncio.to_thread(used_bytes)
            for group, (limit, over) in tuple(self._watched.items()):
                if used[group] > limit:
                    self._watched.pop(group, None)
                    over(used[group])
            await asyncio.sleep(LOOK_EVERY_S)


def used_bytes() -> Counter[int]:
    """
    Return the resident memory of all processes by process group; pages that are shared count twice.

    Blocks for some milliseconds.
    """
    if not (_PROC / "self/stat").exists():
        return _asked()
    used: Counter[int] = Counter()
    page = os.sysconf("SC_PAGE_SIZE")
    for process in _PROC.iterdir():
        if process.name.isdecimal():
            try:
                stat = (process / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:  # it has ended
                continue
            used[int(stat[_GROUP_FIELD])] += int(stat[_PAGES_FIELD]) * page
    return used


def _asked() -> Counter[int]:
    used: Counter[int] = Counter()
    told = subprocess.run(
        ["/bin/ps", "-axo", "pgid=,rss="], capture_output=True, check=False, text=True
    )
    for line in told.stdout.splitlines():
        group, kilobytes = line.split()
        used[int(group)] += int(kilobytes) * 1024
    return used
