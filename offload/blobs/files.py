"""
Files by their SHA-256: put, receive, place, prune.

Everything here blocks: callers on an event loop use a thread. A blob is whole or absent: it is
written elsewhere, verified, synced, and then renamed. Its content never changes, because it
shares none of it with a file that somebody may write to (a reflink or a copy, never a hard link).
"""

import errno
import hashlib
import os
import re
import shutil
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final
from uuid import uuid4

from offload.blobs import streams, trees
from offload.blobs.incoming import Incoming
from offload.errors import (
    BlobMismatch,
    BlobMissing,
    Malformed,
    PayloadError,
    Refused,
    UnsafeName,
)

SOUND_S: Final = 600.0
SOUND_MOST: Final = 1_000
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """
    The blobs of one instance: ``folder/<aa>/<sha256>``; unfinished ones in ``folder/partial``.

    Safe to use from several threads. Every method raises ``DiskFull`` where there is no room,
    and ``OSError`` for other trouble with the disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder / "partial"
        self._partial.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._pins: Counter[str] = Counter()
        self._arriving: set[str] = set()
        self._used: int | None = None  # bytes; not known yet
        self._sound: dict[str, tuple[tuple[int, ...], float]] = {}  # verified in which state

    def put(self, source: Path) -> tuple[str, int]:
        """
        Keep the content of the regular file ``source``; return its digest and size.

        The digest is that of what was kept. A blob that was here already counts as new again, so
        ``prune`` leaves it until its row is committed.

        Raises:
            PayloadError: If the source changed meanwhile.
        """
        with streams.disk(), _open_source(source) as original, self._temporary() as (path, copy):
            before = os.fstat(original.fileno())
            digest, size = streams.copy(original, copy)
            if size != before.st_size or trees.changed(before, os.fstat(original.fileno())):
                raise PayloadError(str(source), trees.CHANGED)
            self._adopt(path, copy, digest)
        return digest, size

    def put_tree(self, folder: Path) -> tuple[str, int]:
        """Keep what is in ``folder``, packed; return digest and size; see ``trees.pack``."""
        with streams.disk(), self._temporary() as (path, copy):
            digest, size = streams.pour(trees.pack(folder), copy)
            self._adopt(path, copy, digest)
        return digest, size

    def put_bytes(self, data: bytes) -> str:
        """Keep ``data``; return its digest."""
        digest = hashlib.sha256(data).hexdigest()
        with streams.disk(), self._temporary() as (path, copy):
            streams.write(copy, data)
            self._adopt(path, copy, digest)
        return digest

    def has(self, sha256: str) -> bool:
        """Say whether the blob is here, whole."""
        return _SHA256.fullmatch(sha256) is not None and self._at(sha256).is_file()

    def path(self, sha256: str) -> Path:
        """Return where the blob is, to be read only; raise ``BlobMissing``."""
        if not self.has(sha256):
            raise BlobMissing(sha256)
        return self._at(sha256)

    def size(self, sha256: str) -> int | None:
        """Return its size in bytes, or None if it is not here."""
        with suppress(BlobMissing, FileNotFoundError):
            return self.path(sha256).stat().st_size
        return None

    def incoming(self, sha256: str, size: int) -> Incoming:
        """
        Begin to receive a blob, or go on where it was cut.

        Raises:
            Refused: If it is being received already: there is one writer per digest.
            Malformed: If ``sha256`` or ``size`` is none.
        """
        if not _SHA256.fullmatch(sha256) or size < 0:
            raise Malformed("no SHA-256 or size of a blob")
        with self._lock:
            if sha256 in self._arriving:
                raise Refused(f"blob {sha256} is being received already")
            self._arriving.add(sha256)
        try:
            with streams.disk():
                return Incoming(self, self._partial / sha256, sha256, size)
        except BaseException:
            self._arrived(sha256)
            raise

    def place(
        self, sha256: str, target: Path, *, executable: bool = False, durable: bool = False
    ) -> None:
        """
        Make a new file ``target`` with the content of the blob, verified on the way.

        What was verified within the last ten minutes, and not written to since, is only copied.
        With ``durable`` the content (not yet its name) survives a power cut on return.

        Raises:
            BlobMissing: If the blob is not here.
            BlobMismatch: If the disk does not hold what was put; then the blob is gone too.
            FileExistsError: If something has that name, be it a dangling symlink.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = 0o777 if executable else 0o666
        with (
            streams.disk(),
            _open_blob(self.path(sha256), sha256) as blob,
            FileIO(os.open(target, flags, mode), "r+") as copy,
        ):
            try:
                self._fill(copy, blob, sha256)
                if durable:
                    os.fsync(copy.fileno())
            except BaseException:
                target.unlink()
                raise

    def place_tree(self, sha256: str, target: Path, *, durable: bool = False) -> None:
        """
        Make a new folder ``target`` of a packed one, verified on the way; else as ``place``.

        Raises:
            Malformed, UnsafeName: If it is no packed folder, or would not stay in its place.
        """
        with streams.disk(), _open_blob(self.path(sha256), sha256) as blob:
            source = _Hashed(blob)

            def fill(file: FileIO, chunks: Iterable[bytes]) -> None:
                for chunk in chunks:
                    streams.append(file, chunk)
                if durable:
                    os.fsync(file.fileno())

            target.mkdir()
            try:
                self._unpack(source, target, fill, sha256)
                if durable:
                    for folder, _, _ in os.walk(target):
                        _sync_folder(Path(folder))
            except BaseException:
                shutil.rmtree(target, ignore_errors=True)
                raise

    def verify(self, sha256: str) -> bool:
        """Read the blob anew; if it is not what its name says, remove it and return False."""
        path = self.path(sha256)
        with _open_blob(path, sha256) as blob:
            sound = str(streams.hash_of(blob)[0].hexdigest()) == sha256
        if not sound:
            path.unlink(missing_ok=True)
        return sound

    def pin(self, sha256: str) -> None:
        """Keep the blob from ``prune`` until as many ``unpin`` as ``pin`` were called."""
        with self._lock:
            self._pins[sha256] += 1

    def unpin(self, sha256: str) -> None:
        """Take back one ``pin``."""
        with self._lock:
            if self._pins[sha256] <= 1:
                del self._pins[sha256]
            else:
                self._pins[sha256] -= 1

    def pin_all(self, digests: Sequence[str]) -> bool:
        """Pin blobs that are all here; say whether they are: if not, none is pinned by this."""
        for sha256 in digests:
            self.pin(sha256)
        here = all(map(self.has, digests))
        if not here:
            self.unpin_all(digests)
        return here

    def unpin_all(self, digests: Iterable[str]) -> None:
        """Take back a ``pin`` of each."""
        for sha256 in digests:
            self.unpin(sha256)

    def prune(
        self,
        live: set[str] | Callable[[], set[str]],
        older_than_s: float,
        enough: Callable[[], bool] = lambda: False,
    ) -> int:
        """
        Remove blobs that are older, not pinned and not ``live``; return how many.

        Unfinished ones that nobody writes to go first, then the others, the oldest first, until it
        is ``enough``. ``live`` is asked after the candidates were listed, so that a blob whose row
        was committed meanwhile is spared.
        """
        before = time.time() - older_than_s  # compared with the times of files: wall time
        for path in _older(self._partial.iterdir(), before):
            self._remove(path, before)
        candidates = _older(self._all(), before)
        spared = live() if callable(live) else live
        pruned = 0
        for path in candidates:
            if enough():
                break
            pruned += path.name not in spared and self._remove(path, before)
        return pruned

    def usage(self) -> int:
        """Return the bytes that all blobs take, unfinished ones included."""
        return sum(_size_of(path) for path in (*self._all(), *self._partial.iterdir()))

    def used(self) -> int:
        """Return the same without unfinished ones; only the first call looks at the disk."""
        with self._lock:
            if self._used is None:
                self._used = sum(_size_of(path) for path in self._all())
            return self._used

    def count(self) -> int:
        """Return the number of blobs."""
        return sum(1 for _ in self._all())

    def _at(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _all(self) -> Iterator[Path]:
        for folder in self._folder.iterdir():
            if len(folder.name) == 2:
                yield from folder.iterdir()

    def _remove(self, path: Path, before: float) -> bool:
        with self._lock:  # nothing is put or pinned between the look and the act
            digest = path.name
            if digest in self._pins or digest in self._arriving or _changed_at(path) > before:
                return False
            size = _size_of(path)
            path.unlink(missing_ok=True)
            if path.parent != self._partial:
                self._count_in(-size)
            return True

    def _count_in(self, size: int) -> None:
        if self._used is not None:
            self._used += size

    def _fill(self, copy: FileIO, blob: FileIO, sha256: str) -> None:
        if self._is_sound(sha256, blob) and streams.clone(blob, copy):
            return
        if streams.copy(blob, copy)[0] != sha256:
            self.verify(sha256)  # so that it can be fetched anew
            raise BlobMismatch(sha256, "the disk holds other bytes than were put")
        self._note_sound(sha256, blob)

    def _is_sound(self, sha256: str, blob: FileIO) -> bool:
        """Say whether its bytes were looked at a moment ago, and nobody has written since."""
        mark, until = self._sound.get(sha256, ((), 0.0))
        return bool(mark == _mark(blob)) and time.monotonic() < until

    def _note_sound(self, sha256: str, blob: FileIO) -> None:
        with self._lock:
            self._sound.pop(sha256, None)
            self._sound[sha256] = _mark(blob), time.monotonic() + SOUND_S
            if len(self._sound) > SOUND_MOST:
                del self._sound[next(iter(self._sound))]

    def _unpack(
        self,
        source: "_Hashed",
        target: Path,
        fill: Callable[[FileIO, Iterable[bytes]], None],
        sha256: str,
    ) -> None:
        damaged = BlobMismatch(sha256, "the disk holds other bytes than were put")
        try:
            trees.unpack(source, target, fill)
        except (Malformed, UnsafeName):
            if self.verify(sha256):
                raise
            raise damaged from None
        if source.digest.hexdigest() != sha256:
            self.verify(sha256)
            raise damaged

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, FileIO]]:
        path = self._partial / f"put-{uuid4().hex}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._arriving.add(path.name)
        try:
            with FileIO(os.open(path, flags, 0o600), "r+") as file:
                yield path, file
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            self._arrived(path.name)

    def _adopt(self, path: Path, written: FileIO, sha256: str) -> None:
        """Make what is ``written`` at ``path`` the blob ``sha256``, unless that is here already."""
        file: FileIO | None = written
        os.fchmod(written.fileno(), 0o400)
        os.fsync(written.fileno())
        final = self._at(sha256)
        with self._lock:
            if not final.parent.is_dir():
                final.parent.mkdir(mode=0o700)
                _sync_folder(self._folder)
            if final.is_file():
                os.utime(final)
                path.unlink()
                file = None
            else:
                path.replace(final)
                self._count_in(os.fstat(written.fileno()).st_size)
        _sync_folder(final.parent)
        if file is not None:
            self._note_sound(sha256, file)

    def _arrived(self, sha256: str) -> None:
        with self._lock:
            self._arriving.discard(sha256)


def _open_source(path: Path) -> FileIO:
    """Open a regular file, never waiting for the other end of a pipe."""
    file = FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "r")
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(mode):
        return file
    file.close()
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "is no regular file", str(path))


def _open_blob(path: Path, sha256: str) -> FileIO:
    try:
        return FileIO(path, "r")
    except FileNotFoundError:
        raise BlobMissing(sha256) from None


class _Hashed:
    """A file that is read from its beginning, and the digest of what was read."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size) or b""
        self.digest.update(data)
        return data


def _mark(file: FileIO) -> tuple[int, ...]:
    """Return what changes whenever somebody writes to it."""
    now = os.fstat(file.fileno())
    return now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _older(paths: Iterable[Path], before: float) -> list[Path]:
    """Return those that were last changed by then, the oldest first."""
    changed = {path: _changed_at(path) for path in paths}
    return sorted((path for path, at in changed.items() if at <= before), key=changed.__getitem__)


def _changed_at(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return float("inf")


def _size_of(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
