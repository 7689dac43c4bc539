"""A blob on its way in: written, cut, gone on with, verified."""

import os
import threading
from io import FileIO
from pathlib import Path
from typing import Protocol

from offload.blobs import streams
from offload.errors import BlobMismatch, Refused


class Keeper(Protocol):
    """Where it becomes a blob."""

    def _adopt(self, path: Path, written: FileIO, sha256: str) -> None: ...
    def _arrived(self, sha256: str) -> None: ...


class Incoming:
    """
    A blob on its way in, made by ``Blobs.incoming``; ``offset`` bytes of ``size`` are here.

    What was written stays for the next try, until ``finish`` has verified it or found it wrong.
    ``close`` from another thread waits for a ``write``.
    """

    def __init__(self, blobs: Keeper, path: Path, sha256: str, size: int) -> None:
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
            begun, self.offset = streams.hash_of(self._file)
        except BaseException:
            self._file.close()
            raise
        self._hash = streams.Hashing(begun)

    def write(self, *chunks: bytes) -> None:
        """
        Append ``chunks``.

        Raises:
            BlobMismatch: If that is more than was promised.
            Refused: If it was closed before.
        """
        with self._lock, streams.disk():
            self._must_be_open()
            former, size = self.offset, sum(map(len, chunks))
            if former + size > self.size:
                self._discard()
                raise BlobMismatch(self.sha256, f"is longer than the {self.size} bytes promised")
            for chunk in chunks:
                streams.append(self._file, chunk)
            self._hash.update(*chunks)
            streams.flush_soon(self._file, former)
            self.offset += size

    def finish(self) -> None:
        """
        Verify size and digest; make it a blob.

        Raises:
            BlobMismatch: If either is wrong; what was received is gone then.
            Refused: If it was closed before.
        """
        with self._lock, streams.disk():
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
                self._hash.close()
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
