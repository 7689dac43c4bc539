"""
Folders that several machines have mounted: a file in one is named, and read where it is needed.

No symlink within the folder is followed, and no name leads out of it. Everything here blocks, and
for as long as the file server takes.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple

from offload.blobs import streams, trees
from offload.blobs.names import check_path
from offload.errors import PayloadError, SharedFileLost, UnsafeName

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_LINK: Final = frozenset({errno.ELOOP, errno.ENOTDIR})


class Shared(NamedTuple):
    """Where a file is: in which shared folder, and where there, with ``/`` between the names."""

    folder: str
    path: str


class Shares:
    """
    The shared folders of one instance.

    Args:
        folders: By name, where each is here; asked anew each time.
    """

    def __init__(self, folders: Callable[[], Mapping[str, Path]] = dict) -> None:
        self._folders = folders

    def look(self) -> tuple[tuple[str, ...], dict[str, Path]]:
        """Return the names of those that are there and can be read, and the others."""
        folders = self._folders()
        missing = {name: folder for name, folder in folders.items() if not _is_there(folder)}
        return tuple(sorted(folders.keys() - missing.keys())), missing

    def find(self, path: Path) -> Shared | None:
        """
        Return what the file at ``path`` is called wherever its folder is shared.

        None: it is in none of them, or has a name that would not be read elsewhere.
        """
        folders = self._folders()
        if not folders:
            return None
        real = Path(os.path.realpath(path))
        for name, folder in folders.items():
            root = Path(os.path.realpath(folder))
            if real.is_relative_to(root) and real != root:
                inner = real.relative_to(root).as_posix()
                with suppress(UnsafeName):
                    return Shared(name, inner) if "/".join(check_path(inner)) == inner else None
        return None

    def digest(self, shared: Shared) -> tuple[str, int, bool]:
        """
        Read a file; return digest, size, and whether it is executable.

        Raises:
            PayloadError: If it changed meanwhile.
            OSError: If it cannot be read.
        """
        with self._open(shared) as file:
            before = os.fstat(file.fileno())
            digest, size = streams.hash_of(file)
            if size != before.st_size or trees.changed(before, os.fstat(file.fileno())):
                raise PayloadError(shared.path, trees.CHANGED)
            return digest.hexdigest(), size, bool(before.st_mode & 0o100)

    def place(
        self, shared: Shared, sha256: str, size: int, target: Path, *, executable: bool = False
    ) -> None:
        """
        Make a new file ``target`` with the content of a shared one, verified on the way.

        Raises:
            SharedFileLost: If the file is not there, or not what it was when it was named.
            UnsafeName: If the name could lead out of the folder.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = 0o777 if executable else 0o666
        with self._read_again(shared) as file:
            if os.fstat(file.fileno()).st_size != size:
                raise SharedFileLost(*shared, "it has changed since the job was added")
            with streams.disk(), FileIO(os.open(target, flags, mode), "r+") as copy:
                if streams.copy(file, copy) != (sha256, size):
                    target.unlink()
                    raise SharedFileLost(*shared, "it has changed since the job was added")

    # --- inside --------------------------------------------------------------------------------

    @contextmanager
    def _read_again(self, shared: Shared) -> Iterator[FileIO]:
        if shared.folder not in self._folders():
            raise SharedFileLost(*shared, "this instance does not have the folder")
        try:
            opened = self._open(shared)
        except OSError as error:
            why = "it is, or lies behind, a symlink" if error.errno in _LINK else error.strerror
            raise SharedFileLost(*shared, f"it cannot be read: {why}") from None
        with opened as file:
            yield file

    def _open(self, shared: Shared) -> FileIO:
        """Open a regular file, going from folder to folder, by names that are none but names."""
        *folders, name = check_path(shared.path)
        within = os.open(self._folders()[shared.folder], _FOLDER)
        try:
            for folder in folders:
                inner = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=within)
                os.close(within)
                within = inner
            file = FileIO(os.open(name, _FILE, dir_fd=within), "r")
        finally:
            os.close(within)
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
        raise OSError(errno.EINVAL, "is no regular file", shared.path)


def _is_there(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
