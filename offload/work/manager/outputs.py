"""
Output files at their place: all or none, also over a crash in the middle (DESIGN §7).

First every file is staged beside its target under a temporary name and synced; then the plan is
committed with the job; then the files are renamed. A plan that is found at start is carried out
to its end. All functions block: call them in a thread.
"""

import errno
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from offload import codec
from offload.blobs import Blobs, check_name
from offload.errors import FULL, DiskFull, Malformed, Refused
from offload.work.jobs import FileEntry

_PREFIX: Final = ".offload-"
_STAGED: Final = ".part"


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
        """Read a kept plan back; raise ``Malformed``."""
        match codec.unpack(data):
            case [str(if_exists), list(moves)]:
                return cls(tuple(map(_move_of, moves)), if_exists)
        raise Malformed("plan of output files: not [what if one exists, moves]")


def stage(blobs: Blobs, entries: Sequence[FileEntry], into: Path, if_exists: str, tag: str) -> Plan:
    """
    Copy the blobs of ``entries`` into the folder ``into`` under temporary names that hold ``tag``.

    Of several files with one name the later ones get the next free names, whatever ``if_exists``.

    Raises:
        Refused: If ``if_exists`` is "refuse" and a name is taken, or a folder is in the way.
        UnsafeName: If a name could lead out of the folder.
        DiskFull: If there is no room.
        OSError: If the folder cannot be made or written; what was staged is removed.
    """
    into.mkdir(parents=True, exist_ok=True)
    moves: list[tuple[str, str]] = []
    try:
        for index, entry in enumerate(entries):
            taken = {target for _, target in moves}
            target = _target(into / check_name(entry.plain_name), entry.is_folder, if_exists, taken)
            staged = into / f"{_PREFIX}{tag}-{index}{_STAGED}"
            _remove(staged)
            moves.append((str(staged), str(target)))
            if entry.is_folder:
                blobs.place_tree(entry.sha256, staged, durable=True)
            else:
                blobs.place(entry.sha256, staged, executable=entry.executable, durable=True)
    except BaseException as error:
        discard(Plan(tuple(moves), if_exists))
        if isinstance(error, OSError) and error.errno in FULL:
            raise DiskFull from error
        raise
    return Plan(tuple(moves), if_exists)


def carry_out(plan: Plan) -> tuple[str, ...]:
    """
    Rename all that is staged; return where the files are. What was renamed before stays.

    Raises:
        DiskFull: If there is no room for the names; what is left to be done can be done later.
        Refused: If a name was taken meanwhile that must not be.
        OSError: For other trouble. In these two cases nothing of ours is left, and what was there
            before is there again.
    """
    placed: list[tuple[str, str]] = []
    try:
        for staged, target in plan.moves:
            if not os.path.lexists(staged):  # renamed before a crash
                placed.append((staged, target))
            else:
                placed.append((staged, _move(Path(staged), Path(target), plan.if_exists)))
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull from error
        _undo(plan, placed)
        if isinstance(error, FileExistsError | IsADirectoryError):
            raise Refused(f"output {error.filename} exists") from None
        raise
    for staged, _ in plan.moves:
        _remove(_former(staged))
    for folder in {Path(target).parent for _, target in plan.moves}:
        _sync(folder)
    return tuple(path for _, path in placed)


def sweep(left: Mapping[Path, Collection[str]]) -> None:
    """
    Remove what a crash left staged in folders, for these jobs; none of them has a plan.

    What is staged is of use to the attempt it came of alone, and another one may be the last.
    """
    for folder, job_ids in left.items():
        with suppress(OSError):
            for path in folder.glob(f"{_PREFIX}*{_STAGED}"):
                if path.name.removeprefix(_PREFIX).partition("-")[0] in job_ids:
                    _remove(path)


def _move_of(entry: object) -> tuple[str, str]:
    match entry:
        case [str(staged), str(target)]:
            return staged, target
    raise Malformed("plan of output files: a move is not [staged, target]")


def _undo(plan: Plan, placed: Sequence[tuple[str, str]]) -> None:
    """Take back what is placed, and put back what had to give way."""
    for staged, path in placed:
        _take_back(staged, path)
    for staged, target in plan.moves[len(placed) :]:
        if os.path.lexists(_former(staged)) and not os.path.lexists(target):
            _former(staged).rename(target)
    discard(plan)


def discard(plan: Plan) -> None:
    """Remove what is staged."""
    for staged, _ in plan.moves:
        for path in (Path(staged), _former(staged)):
            with suppress(OSError):
                _remove(path)


def _target(wanted: Path, is_folder: bool, if_exists: str, taken: set[str]) -> Path:
    """Return the name that a file or folder is to get; raise ``Refused``."""
    if if_exists == "refuse" and os.path.lexists(wanted):
        raise Refused(f"output {wanted} exists")
    if if_exists == "overwrite" and os.path.lexists(wanted) and _is_folder(wanted) != is_folder:
        raise Refused(f"output {wanted} is {'no' if is_folder else 'a'} folder")
    if if_exists == "keep-both" or str(wanted) in taken:
        return _free(wanted, taken)
    return wanted


def _move(staged: Path, target: Path, if_exists: str) -> str:
    """Give ``staged`` its name, or with "keep-both" the next free one; return it."""
    if if_exists == "overwrite":
        if os.path.lexists(target) and _is_folder(target) != _is_folder(staged):
            raise FileExistsError(errno.EEXIST, "exists", str(target))
        _keep_former(target, _former(str(staged)))
        staged.replace(target)
        return str(target)
    if _is_folder(staged):
        return _move_folder(staged, target, if_exists)
    while True:
        try:
            os.link(staged, target, follow_symlinks=False)
        except FileExistsError:
            if not target.samefile(staged):  # else a crash came between link and unlink
                if if_exists == "refuse":
                    raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
                target = _free(target, set())
                continue
        except OSError:  # a file system without hard links
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
            staged.rename(target)
            return str(target)
        staged.unlink()
        return str(target)


def _move_folder(staged: Path, target: Path, if_exists: str) -> str:
    """Do the same with a folder, which has no second name even for a moment."""
    while os.path.lexists(target):
        if if_exists == "refuse":
            raise FileExistsError(errno.EEXIST, "exists", str(target))
        target = _free(target, set())
    staged.rename(target)
    return str(target)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    """Remove what is there, if anything is."""
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _former(staged: str) -> Path:
    """Return where the file is kept that a staged one replaces, until all are in place."""
    return Path(staged).with_suffix(".former")


def _keep_former(target: Path, former: Path) -> None:
    if not os.path.lexists(target) or os.path.lexists(former):
        return
    try:
        os.link(target, former, follow_symlinks=False)
    except OSError:  # a file system without hard links
        target.rename(former)


def _take_back(staged: str, placed: str) -> None:
    """Undo one rename: what was there before is there again, or nothing."""
    former = _former(staged)
    with suppress(OSError):
        if os.path.lexists(former):
            if _is_folder(former):  # which replaces no other
                _remove(Path(placed))
            former.replace(placed)
        else:
            _remove(Path(placed))


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
