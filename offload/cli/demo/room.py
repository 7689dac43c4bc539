"""The folder in which a demo plays, and what is left of those that were killed."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PREFIX: Final = "offload-demo-"
_LOCK: Final = "lock"


@contextmanager
def room() -> Iterator[tuple[Path, int]]:
    """
    Give an empty folder for a while, and the handle of its lock, which children should inherit.

    As long as anybody has the handle open, no other demo takes the folder for left behind.
    """
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        lock = Path(name, _LOCK)
        unlocked = lock.with_suffix(".new")  # whoever sees a lock that is free may take it
        handle = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            unlocked.rename(lock)
            yield Path(name), handle
        finally:
            os.close(handle)


def sweep(root: Path | None = None) -> None:
    """Remove the folders of demos that were killed, below ``root`` (by default, where all are)."""
    for folder in Path(root or tempfile.gettempdir()).glob(PREFIX + "*"):
        if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
            continue
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # it has just been made, or removed
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:  # it is in use
            pass
        finally:
            os.close(handle)
