"""
The demo's ledger: what the consumer itself says it did, beside and apart from our own store.

A file of JSON lines that is only ever appended to, one ``write`` per line, by the children of
both workers.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

What = StrEnum("What", ["STARTED", "HELD", "FINISHED", "FAILED"])


@dataclass(frozen=True, slots=True)
class Line:
    """
    One line: the attempt that says it, where it runs, and what of it.

    Attributes:
        pid: The child process that runs it.
        sha256: Digest of the thumbnail it wrote (FINISHED).
        reason: Why it failed (FAILED).
    """

    what: What
    job: str
    attempt: int
    worker: str
    pid: int
    sha256: str = ""
    reason: str = ""


def append(path: Path, line: Line) -> None:
    """Write ``line`` at the end of the ledger in one piece."""
    data = json.dumps(asdict(line)).encode("ascii") + b"\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, data)
    finally:
        os.close(handle)


class Reader:
    """Reads the ledger while others append to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0

    def fresh(self) -> list[Line]:
        """Return the whole lines that came since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return [_parse(text) for text in whole.splitlines()]


def _parse(text: bytes) -> Line:
    fields = json.loads(text)
    return Line(**{**fields, "what": What(fields["what"])})


class Tally:
    """What the lines so far amount to."""

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.done: dict[str, str] = {}  # job -> the worker that ended it last
        self._open: dict[tuple[str, int], Line] = {}
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        """Count ``line`` in."""
        if line.what in (What.FINISHED, What.FAILED):
            self._open.pop((line.job, line.attempt), None)
            self.done[line.job] = line.worker
        else:
            self._open[line.job, line.attempt] = line

    def forget(self, worker: str) -> None:
        """Count nothing as running at ``worker`` any more: it was killed."""
        self._open = {key: line for key, line in self._open.items() if line.worker != worker}

    def running(self) -> Counter[str]:
        """Return how many jobs are under way, by worker."""
        return Counter(line.worker for line in self._open.values())

    def ended(self) -> Counter[str]:
        """Return how many jobs have ended, by worker."""
        return Counter(self.done.values())

    def held(self) -> dict[str, list[Line]]:
        """Return, by worker, the jobs that stand still inside the consumer until released."""
        found: dict[str, list[Line]] = {}
        for line in self._open.values():
            if line.what is What.HELD:
                found.setdefault(line.worker, []).append(line)
        return found
