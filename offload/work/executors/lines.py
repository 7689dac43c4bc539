"""What a child prints, cut into lines; a flood of them is thinned out, and says so."""

import time
from collections.abc import Callable
from typing import Final

LINE_LIMIT: Final = 8_192  # bytes; a longer line arrives in pieces
LINES_PER_S: Final = 500


class Lines:
    """Feeds ``say`` with the lines of a job's output, ``LINES_PER_S`` at most."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._rest = b""
        self._left_out = 0
        self._said = 0
        self._since = time.monotonic()

    def feed(self, data: bytes) -> None:
        """Take in what was printed."""
        now = time.monotonic()
        if now - self._since >= 1:
            self._confess()
            self._said, self._since = 0, now
        room = LINES_PER_S - self._said
        if room <= 0:
            head, newline, rest = data.rpartition(b"\n")
            self._left_out += head.count(b"\n") + 1 if newline else 0
            kept = rest if newline else self._rest + rest
            pieces = len(kept) // LINE_LIMIT  # of a line that does not end
            self._left_out += pieces
            self._rest = kept[pieces * LINE_LIMIT :]
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines[:room]:
            self._line(line)
        self._left_out += max(0, len(lines) - room)
        while len(self._rest) > LINE_LIMIT:
            self._line(self._rest[:LINE_LIMIT])
            self._rest = self._rest[LINE_LIMIT:]

    def finish(self) -> None:
        """Say what is left: a last line without its end, and how much was left out."""
        if self._rest:
            self._line(self._rest)
        self._rest = b""
        self._confess()

    def _line(self, line: bytes) -> None:
        """Say a line as a terminal would show it: what follows a carriage return wins."""
        self._said += 1
        shown = line.rstrip(b"\r").rpartition(b"\r")[2]
        for at in range(0, max(len(shown), 1), LINE_LIMIT):
            self._say(shown[at : at + LINE_LIMIT].decode("utf-8", "replace"))

    def _confess(self) -> None:
        if self._left_out:
            self._say(f"… {self._left_out} lines left out: more than {LINES_PER_S} in a second")
        self._left_out = 0
