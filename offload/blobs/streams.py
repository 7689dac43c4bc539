"""
Bytes from file to file: hashed while they are written, holes kept, and on their way to the disk.

Everything here blocks. To hash a gigabyte takes as long as to write it: so one is done in a thread
beside the other, and the disk is told early of what is to be synced at the end.
"""

import errno
import fcntl
import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from io import FileIO
from itertools import cycle
from typing import Any, Final

from offload.errors import FULL, DiskFull

CHUNK_BYTES: Final = 1024 * 1024
FLUSH_BYTES: Final = 8 * CHUNK_BYTES
BESIDE_BYTES: Final = 256 * 1024  # less is not worth another thread
BEHIND: Final = 2
_HOLE: Final = memoryview(bytes(CHUNK_BYTES))
_HOLE_BYTES: Final = 4096
_FICLONE: Final = 0x40049409  # Linux: share the extents of another file, copy on write
Bytes = bytes | bytearray | memoryview


class Hashing:
    """
    A SHA-256 that is worked out in a thread beside, at most ``BEHIND`` updates behind.

    What is given to ``update`` must stay as it is until it was called ``BEHIND`` times more.
    """

    def __init__(self, begun: Any = None) -> None:
        self._digest = hashlib.sha256() if begun is None else begun
        self._beside = ThreadPoolExecutor(1)  # its thread starts with the first chunk for it
        self._under_way: deque[Future[None]] = deque()

    def update(self, *chunks: Bytes) -> None:
        """Go on with ``chunks``."""
        if not self._under_way and sum(map(len, chunks)) < BESIDE_BYTES:
            self._go_on(chunks)
            return
        if len(self._under_way) == BEHIND:
            self._under_way.popleft().result()
        self._under_way.append(self._beside.submit(self._go_on, chunks))

    def hexdigest(self) -> str:
        """Return the digest of all that was given so far."""
        while self._under_way:
            self._under_way.popleft().result()
        return str(self._digest.hexdigest())

    def close(self) -> None:
        """Let the thread go; may be called again."""
        self._beside.shutdown()

    def _go_on(self, chunks: tuple[Bytes, ...]) -> None:
        for chunk in chunks:
            self._digest.update(chunk)


@contextmanager
def disk() -> Iterator[None]:
    """Raise ``DiskFull`` for what means that there is no room."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull from error
        raise


def copy(source: FileIO, target: FileIO) -> tuple[str, int]:
    """Fill the empty ``target``; return digest and size of what it holds now."""
    if _reflink(source, target):
        digest, size = hash_of(target)
        return digest.hexdigest(), size
    return pour(chunks(source), target)


def clone(source: FileIO, target: FileIO) -> bool:
    """Fill the empty ``target`` without a look at the content; False: it has to be copied."""
    if _reflink(source, target):
        return True
    size = os.fstat(source.fileno()).st_size
    try:
        for start, stop in _extents(source, size):
            at = start
            while at < stop:
                count = os.copy_file_range(source.fileno(), target.fileno(), stop - at, at, at)
                if not count:
                    raise OSError(errno.EIO, "is shorter than it was")
                at += count
        target.truncate(size)
    except (AttributeError, OSError) as error:  # another file system, or one that cannot
        if getattr(error, "errno", None) in FULL:
            raise
        source.seek(0)  # to look for its holes has moved it
        target.truncate(target.seek(0))
        return False
    return True


def pour(source: Iterable[Bytes], target: FileIO) -> tuple[str, int]:
    """Append what ``source`` yields; return digest and size of it."""
    size = 0
    with closing(Hashing()) as digest:
        for chunk in source:
            append(target, chunk)
            digest.update(chunk)
            flush_soon(target, size)
            size += len(chunk)
        return digest.hexdigest(), size


def chunks(source: FileIO, kept: int = BEHIND) -> Iterator[memoryview]:
    """Yield what is left of ``source``; a chunk is good until ``kept`` more were asked for."""
    for view in cycle([memoryview(bytearray(CHUNK_BYTES)) for _ in range(kept + 1)]):
        count = source.readinto(view)
        if not count:
            return
        yield view[:count]


def hash_of(file: FileIO) -> tuple[Any, int]:
    """Read ``file`` from its beginning to its end; return the hash so far and the size."""
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    for chunk in chunks(file, kept=0):
        digest.update(chunk)
        size += len(chunk)
    return digest, size


def append(file: FileIO, data: Bytes) -> None:
    """Write at the end, where ``file`` stands; what is nothing but zeros takes no room."""
    size = len(data)
    if _HOLE_BYTES <= size <= len(_HOLE) and data == _HOLE[:size]:
        file.truncate(file.seek(size, os.SEEK_CUR))
    else:
        write(file, data)


def write(file: FileIO, data: Bytes) -> None:
    """Write all of ``data``."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def flush_soon(file: FileIO, former: int) -> None:
    """Now and then let the disk begin with what was written since ``former``, and go on."""
    end = file.tell()
    if end // FLUSH_BYTES > former // FLUSH_BYTES and hasattr(os, "posix_fadvise"):
        start = former // FLUSH_BYTES * FLUSH_BYTES
        os.posix_fadvise(file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)


def _reflink(source: FileIO, target: FileIO) -> bool:
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:  # another file system, or one that cannot
        return False
    return True


def _extents(file: FileIO, size: int) -> Iterator[tuple[int, int]]:
    """Yield where there is something but holes."""
    at = 0
    while at < size:
        start, stop = at, size
        with suppress(AttributeError):  # a system that does not tell
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole is left
                    return
                raise
            stop = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        yield start, stop
        at = stop
