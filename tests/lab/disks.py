"""
A disk whose power can be cut: ext4 in an image on a tmpfs.

What has reached the image is what has reached the disk; what is only in the page cache when the
image is copied is lost. Needs root, mkfs.ext4 and loop devices.
"""

import filecmp
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

SIZE_MIB: Final = 96
WRITTEN_BACK_S: Final = 5  # by the journal at the latest, as the default is


class Disk:
    """A disk in the tmpfs ``room``, mounted at ``place``."""

    def __init__(self, room: Path, place: Path) -> None:
        self.place = place
        self._room = room
        self._numbers = count(1)
        self._image = self._fresh()
        os.truncate(self._image, SIZE_MIB * 2**20)
        _run("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()

    def cut_power(self) -> Path:
        """Return a copy of what has reached the disk at one moment."""
        copy = self._fresh()
        while True:
            shutil.copyfile(self._image, copy)
            if filecmp.cmp(self._image, copy, shallow=False):  # nothing was written meanwhile
                return copy

    def come_back(self, copy: Path) -> None:
        """Be the disk that ``cut_power`` has copied; nothing uses the old one any more."""
        self.unmount()
        self._image.unlink()
        self._image = copy
        self._mount()

    def unmount(self) -> None:
        """Let go of the place."""
        _run("umount", str(self.place))

    def _fresh(self) -> Path:
        """Return a new name: a loop device may be used again for one that it knows."""
        path = self._room / f"disk-{next(self._numbers)}.img"
        path.touch()
        return path

    def _mount(self) -> None:
        options = f"loop,commit={WRITTEN_BACK_S}"
        _run("mount", "-o", options, str(self._image), str(self.place))


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """Yield a disk, gone afterwards."""
    room, place = folder / "room", folder / "disk"
    room.mkdir()
    place.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={4 * SIZE_MIB}m", "lab", str(room))
    try:
        made = Disk(room, place)
        try:
            yield made
        finally:
            made.unmount()
    finally:
        _let_go(room)


def obstacle() -> str:
    """Say why there can be no such disk on this machine; "" if there can."""
    if os.geteuid() != 0:
        return "to cut the power of a disk needs root"
    if shutil.which("mkfs.ext4") is None:
        return "to cut the power of a disk needs mkfs.ext4 (Debian: e2fsprogs)"
    if not Path("/dev/loop-control").exists():
        return "to cut the power of a disk needs loop devices"
    return ""


def _let_go(room: Path) -> None:
    """Unmount the tmpfs: a loop device lets go of its image a moment after it is unmounted."""
    for _ in range(100):
        told = subprocess.run(["umount", str(room)], capture_output=True, check=False)
        if told.returncode == 0:
            return
        time.sleep(0.1)
    _run("umount", "--lazy", str(room))


def _run(*words: str) -> None:
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    assert told.returncode == 0, f"{' '.join(words)}: {told.stderr.strip()}"
