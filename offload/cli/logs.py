"""The log of an instance in a terminal: it can be neither forged nor flooded from elsewhere."""

import logging
import time
from typing import Any, Final

from offload.buckets import Buckets
from offload.cli.terminal import printable

LEVELS: Final = (logging.WARNING, logging.INFO, logging.DEBUG)
AT_ONCE: Final = 20.0  # lines of one kind
PER_MINUTE: Final = 20.0
LONGEST: Final = 4000


class Lines(logging.Formatter):
    """A line for each record, and nothing in it, wherever its words are from, steers a terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: D102, N802 - the library's
        text = printable(super().formatMessage(record))
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"

    def formatException(self, ei: Any) -> str:  # noqa: D102, N802 - the library's
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class Calm(logging.Filter):
    """
    Lets so many lines of one kind pass in a minute: those of one place in the program.

    The first that passes after others did not says how many those were. Debug lines, for which
    somebody has asked, all pass, and so do errors of our own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: Buckets[tuple[str, int]] = Buckets(PER_MINUTE / 60, AT_ONCE)
        self._kept_back: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the record is shown."""
        if record.levelno in (logging.DEBUG, logging.CRITICAL):
            return True
        kind = record.pathname, record.lineno
        if not self._lines.draw(kind, time.monotonic()):
            self._kept_back[kind] = self._kept_back.get(kind, 0) + 1
            return False
        left_out = self._kept_back.pop(kind, 0)
        if left_out:
            record.msg = f"{record.getMessage()} (and {left_out} such lines before it)"
            record.args = ()
        return True


def concerns(record: logging.LogRecord) -> bool:
    """Say whether a record is for the terminal of the instance: of others, what is serious."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == "offload"


def set_up(verbose: int) -> None:
    """Log to the standard error from now on; ``verbose`` as often as -v was given."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    handler.addFilter(concerns)
    handler.addFilter(Calm())
    # What a job says at this level, in its thread or on the loop, goes to its own log.
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("offload").setLevel(LEVELS[min(verbose, 2)])
    if verbose < 2:  # whoever is in the network could fill our log with what is wrong with packets
        logging.getLogger("zeroconf").setLevel(logging.CRITICAL)
