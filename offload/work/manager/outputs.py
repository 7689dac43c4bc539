"""
Output files at their place: all or none, also over a crash in the middle (DESIGN §7).

First every file is staged beside its target under a temporary name and synced; then the plan is
committed with the job; then the files are renamed. A plan that is found at start is carried out
to its end. All functions block: call them in a thread.
"""

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from offload import codec
from offload.blobs import Blobs, check_name
from offload.errors import DiskFull, Refused
from offload.work.jobs import FileEntry

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be renamed to what: ``(staged, target)``, and what to do if something is there."""

    moves: tuple[tuple[str, str], ...]
    if_exists: str

    def pack(self) -> bytes:
        """Return the plan as it is kept."""
        return codec.pack([self.if_exists, self.moves])

    @classmethod
    def unpack(cls, data: bytes) -> "Plan":
        """Read a kept plan back."""
        if_exists, moves = codec.unpack(data)
        return cls(tuple((staged, target) for staged, target in moves), if_exists)


def stage(blobs: Blobs, entries: Sequence[FileEntry], into: Path, if_exists: str, tag: str) -> Plan:
    """
    Copy the blobs of ``entries`` into the folder ``into`` under temporary names that hold ``tag``.

    Raises:
        Refused: If ``if_exists`` is "refuse" and one of the names is taken.
        UnsafeName: If a name could lead out of the folder.
        DiskFull: If there is no room.
        OSError: If the folder cannot be made or written; what was staged is removed.
    """
    moves: list[tuple[str, str]] = []
    try:
        into.mkdir(parents=True, exist_ok=True)
        for index, entry in enumerate(entries):
            target = into / check_name(entry.name)
            if if_exists == "refuse" and os.path.lexists(target):
                raise Refused(f"output {target} exists")
            if if_exists == "keep-both":
                target = _free(target, {move[1] for move in moves})
            staged = into / f".offload-{tag}-{index}.part"
            staged.unlink(missing_ok=True)
            moves.append((str(staged), str(target)))
            blobs.place(entry.sha256, staged, executable=entry.executable)
            _sync(staged)
    except BaseException as error:
        discard(Plan(tuple(moves), if_exists))
        if isinstance(error, OSError) and error.errno in _FULL:
            raise DiskFull from error
        raise
    return Plan(tuple(moves), if_exists)


def carry_out(plan: Plan) -> tuple[str, ...]:
    """
    Rename all that is staged; return where the files are. What was renamed before stays.

    Raises:
        Refused: If "refuse" is asked and a name was taken meanwhile; none of ours is left then.
        DiskFull: If there is no room for the names; what is left to be done can be done later.
        OSError: For other trouble; none of ours is left then.
    """
    placed: list[str] = []
    for staged, target in plan.moves:
        if not os.path.lexists(staged):  # renamed before a crash
            placed.append(target)
            continue
        try:
            placed.append(_move(Path(staged), Path(target), plan.if_exists))
        except OSError as error:
            if error.errno in _FULL:
                raise DiskFull from error
            for path in placed:
                Path(path).unlink(missing_ok=True)
            discard(plan)
            if isinstance(error, FileExistsError):
                raise Refused(f"output {target} exists") from None
            raise
    for folder in {Path(target).parent for _, target in plan.moves}:
        _sync(folder)
    return tuple(placed)


def discard(plan: Plan) -> None:
    """Remove what is staged."""
    for staged, _ in plan.moves:
        with suppress(OSError):
            Path(staged).unlink(missing_ok=True)


def _move(staged: Path, target: Path, if_exists: str) -> str:
    """Give ``staged`` its name, or with "keep-both" the next free one; return it."""
    if if_exists == "overwrite":
        staged.replace(target)
        return str(target)
    while True:
        try:
            os.link(staged, target, follow_symlinks=False)
        except FileExistsError:
            if not target.samefile(staged):  # else a crash came between link and unlink
                if if_exists == "refuse":
                    raise
                target = _free(target, set())
                continue
        except OSError:  # a file system without hard links
            if os.path.lexists(target):
                raise FileExistsError(target) from None
            staged.rename(target)
            return str(target)
        staged.unlink()
        return str(target)


def _free(target: Path, taken: set[str]) -> Path:
    """Return ``target``, or the first of ``name (1).ext``, ``name (2).ext``, … that is free."""
    free, number = target, 0
    while os.path.lexists(free) or str(free) in taken:
        number += 1
        free = target.with_name(f"{target.stem} ({number}){target.suffix}")
    return free


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
