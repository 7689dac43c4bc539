"""Blobs that no row names yet."""

import threading

from offload.blobs.files import Blobs


class Hold:
    """Keeps blobs from ``prune`` until a row names them, or never will; any thread may add some."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._lock = threading.Lock()
        self._digests: list[str] = []
        self._over = False

    def add(self, sha256: str) -> None:
        """Pin a blob that was put just now; not if all were let go meanwhile."""
        with self._lock:
            if not self._over:
                self._blobs.pin(sha256)
                self._digests.append(sha256)

    def let_go(self) -> None:
        """Unpin all; what is added from now on is not kept."""
        with self._lock:
            self._over = True
            self._blobs.unpin_all(self._digests)
            self._digests = []
