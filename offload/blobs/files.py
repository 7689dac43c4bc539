"""
Files by their SHA-256: put, receive, place, prune.

Everything here blocks: callers on an event loop use a thread. A blob is whole or absent: it is
written elsewhere, verified, synced, and then renamed. Its content never changes, because it
shares none of it with a file that somebody may write to (a reflink or a copy, never a hard link).
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from offload.blobs import trees
from offload.errors import (
    FULL,
    BlobMismatch,
    BlobMissing,
    DiskFull,
    Malformed,
    PayloadError,
    Refused,
    UnsafeName,
)

CHUNK_BYTES: Final = 1024 * 1024
_HOLE: Final = bytes(CHUNK_BYTES)
_HOLE_BYTES: Final = 4096
_FICLONE: Final = 0x40049409  # Linux: share the extents of another file, copy on write
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

    def put(self, source: Path) -> tuple[str, int]:
        """
        Keep the content of the regular file ``source``; return its digest and size.

        The digest is that of what was kept. A blob that was here already counts as new again, so
        ``prune`` leaves it until its row is committed.

        Raises:
            PayloadError: If the source changed meanwhile.
        """
        with _disk(), _open_source(source) as original, self._temporary() as (path, copy):
            before = os.fstat(original.fileno())
            digest, size = _copy(original, copy)
            if size != before.st_size or trees.changed(before, os.fstat(original.fileno())):
                raise PayloadError(str(source), trees.CHANGED)
            self._adopt(path, copy, digest)
        return digest, size

    def put_tree(self, folder: Path) -> tuple[str, int]:
        """Keep what is in ``folder``, packed; return digest and size; see ``trees.pack``."""
        with _disk(), self._temporary() as (path, copy):
            digest, size = _pour(trees.pack(folder), copy)
            self._adopt(path, copy, digest)
        return digest, size

    def put_bytes(self, data: bytes) -> str:
        """Keep ``data``; return its digest."""
        digest = hashlib.sha256(data).hexdigest()
        with _disk(), self._temporary() as (path, copy):
            _write(copy, data)
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

    def incoming(self, sha256: str, size: int) -> "Incoming":
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
            with _disk():
                return Incoming(self, self._partial / sha256, sha256, size)
        except BaseException:
            self._arrived(sha256)
            raise

    def place(
        self, sha256: str, target: Path, *, executable: bool = False, durable: bool = False
    ) -> None:
        """
        Make a new file ``target`` with the content of the blob, verified on the way.

        With ``durable`` the content (not yet its name) survives a power cut on return.

        Raises:
            BlobMissing: If the blob is not here.
            BlobMismatch: If the disk does not hold what was put; then the blob is gone too.
            FileExistsError: If something has that name, be it a dangling symlink.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = 0o777 if executable else 0o666
        with (
            _disk(),
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
        with _disk(), _open_blob(self.path(sha256), sha256) as blob:
            source = _Hashed(blob)

            def fill(file: FileIO, chunks: Iterable[bytes]) -> None:
                _pour(chunks, file)
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
            sound = _digest(blob)[0] == sha256
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

    def prune(self, live: set[str] | Callable[[], set[str]], older_than_s: float) -> int:
        """
        Remove blobs that are older, not pinned and not ``live``; return how many.

        Unfinished ones that nobody writes to go too. ``live`` is asked after the candidates
        were listed, so that a blob whose row was committed meanwhile is spared.
        """
        before = time.time() - older_than_s  # compared with the times of files: wall time
        candidates = [path for path in self._all() if _changed_at(path) <= before]
        spared = live() if callable(live) else live
        pruned = sum(self._remove(path, before) for path in candidates if path.name not in spared)
        for path in list(self._partial.iterdir()):
            if _changed_at(path) <= before:
                self._remove(path, before)
        return pruned

    def usage(self) -> int:
        """Return the bytes that all blobs take, unfinished ones included."""
        return sum(_size_of(path) for path in (*self._all(), *self._partial.iterdir()))

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
            path.unlink(missing_ok=True)
            return True

    def _fill(self, copy: FileIO, blob: FileIO, sha256: str) -> None:
        if _copy(blob, copy)[0] != sha256:
            self.verify(sha256)  # so that it can be fetched anew
            raise BlobMismatch(sha256, "the disk holds other bytes than were put")

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

    def _adopt(self, path: Path, file: FileIO, sha256: str) -> None:
        """Make the synced ``file`` at ``path`` the blob ``sha256``, unless that is here already."""
        os.fchmod(file.fileno(), 0o400)
        os.fsync(file.fileno())
        final = self._at(sha256)
        with self._lock:
            if not final.parent.is_dir():
                final.parent.mkdir(mode=0o700)
                _sync_folder(self._folder)
            if final.is_file():
                os.utime(final)
                path.unlink()
            else:
                path.replace(final)
        _sync_folder(final.parent)

    def _arrived(self, sha256: str) -> None:
        with self._lock:
            self._arriving.discard(sha256)


class Incoming:
    """
    A blob on its way in, made by ``Blobs.incoming``; ``offset`` bytes of ``size`` are here.

    What was written stays for the next try, until ``finish`` has verified it or found it wrong.
    ``close`` from another thread waits for a ``write``.
    """

    def __init__(self, blobs: Blobs, path: Path, sha256: str, size: int) -> None:
        self._blobs = blobs
        self._path = path
        self._lock = threading.RLock()
        self.sha256 = sha256
        self.size = size
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = FileIO(os.open(path, flags, 0o600), "r+")
        try:
            if os.fstat(self._file.fileno()).st_size > size:
                self._file.truncate(0)
            self._hash, self.offset = _hash(self._file)
        except BaseException:
            self._file.close()
            raise

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """
        Append ``chunk``.

        Raises:
            BlobMismatch: If that is more than was promised.
            Refused: If it was closed before.
        """
        with self._lock, _disk():
            self._must_be_open()
            if self.offset + len(chunk) > self.size:
                self._discard()
                raise BlobMismatch(self.sha256, f"is longer than the {self.size} bytes promised")
            _append(self._file, chunk)
            self._hash.update(chunk)
            self.offset += len(chunk)

    def finish(self) -> None:
        """
        Verify size and digest; make it a blob.

        Raises:
            BlobMismatch: If either is wrong; what was received is gone then.
            Refused: If it was closed before.
        """
        with self._lock, _disk():
            self._must_be_open()
            try:
                reason = self._wrong()
                if reason:
                    self._discard()
                    raise BlobMismatch(self.sha256, reason)
                self._blobs._adopt(self._path, self._file, self.sha256)
            finally:
                self.close()

    def close(self) -> None:
        """Stop here; what was written stays for the next try. May be called again."""
        with self._lock:
            if not self._file.closed:
                self._file.close()
                self._blobs._arrived(self.sha256)

    def _must_be_open(self) -> None:
        if self._file.closed:
            raise Refused(f"blob {self.sha256} is no longer being received")

    def _wrong(self) -> str:
        if self.offset != self.size:
            return f"has {self.offset} bytes instead of {self.size}"
        return "" if self._hash.hexdigest() == self.sha256 else "has another digest"

    def _discard(self) -> None:
        self._path.unlink(missing_ok=True)
        self.close()


@contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull from error
        raise


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


def _copy(source: FileIO, target: FileIO) -> tuple[str, int]:
    """Fill the empty ``target``; return digest and size of what it holds now."""
    if _reflink(source, target):
        return _digest(target)
    return _pour(_chunks(source), target)


def _chunks(source: FileIO) -> Iterator[memoryview]:
    view = memoryview(bytearray(CHUNK_BYTES))
    while count := source.readinto(view):
        yield view[:count]


def _pour(chunks: Iterable[bytes | memoryview], target: FileIO) -> tuple[str, int]:
    """Write ``chunks``; return digest and size of them."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        _append(target, chunk)
        size += len(chunk)
    return digest.hexdigest(), size


class _Hashed:
    """A file that is read from its beginning, and the digest of what was read."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size) or b""
        self.digest.update(data)
        return data


def _append(file: FileIO, data: bytes | bytearray | memoryview) -> None:
    """Write at the end, where ``file`` stands; what is nothing but zeros takes no room."""
    size = len(data)
    if size >= _HOLE_BYTES and size <= len(_HOLE) and data == memoryview(_HOLE)[:size]:
        file.truncate(file.seek(size, os.SEEK_CUR))
    else:
        _write(file, data)


def _reflink(source: FileIO, target: FileIO) -> bool:
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:  # another file system, or one that cannot
        return False
    return True


def _digest(file: FileIO) -> tuple[str, int]:
    digest, size = _hash(file)
    return digest.hexdigest(), size


def _hash(file: FileIO) -> tuple[Any, int]:
    """Read ``file`` from its beginning to its end; return the hash so far and the size."""
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    view = memoryview(bytearray(CHUNK_BYTES))
    while count := file.readinto(view):
        digest.update(view[:count])
        size += count
    return digest, size


def _write(file: FileIO, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _changed_at(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return float("inf")


def _size_of(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
