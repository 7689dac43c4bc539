"""What consumers on the loop and in threads log and print lands in the log of their job."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, TextIO

from offload.work.executors.lines import Lines

# In the thread or the task that a consumer runs in: who speaks.
_SPEAKER: Final[ContextVar["Speaker | None"]] = ContextVar("offload_speaker", default=None)
_FORMAT: Final = "%(levelname)s %(name)s: %(message)s"
_OWN: Final = "offload."


class Speaker:
    """One job, as its thread or task is heard: what it says goes to ``say``, by kind and line."""

    __slots__ = ("_printed", "heard_by", "say")

    def __init__(self, heard_by: "JobLog", say: Callable[[str, str], None]) -> None:
        self.heard_by = heard_by
        self.say = say
        self._printed: Lines | None = None  # most print nothing

    def print(self, text: str) -> None:
        """Take in a piece of what it prints; a line is said when it is whole."""
        if self._printed is None:
            self._printed = Lines(partial(self.say, "log"))
        self._printed.feed(text.encode("utf-8", "replace"))

    def finish(self) -> None:
        """Say a last line that has no end."""
        if self._printed is not None:
            self._printed.finish()


class JobLog(logging.Handler):
    """Passes on what a job's thread or task logs, beside whatever the program does with it."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter(_FORMAT))

    def open(self) -> None:
        """Hear all that the program's loggers let through."""
        logging.getLogger().addHandler(self)

    def close(self) -> None:
        """Hear no more."""
        logging.getLogger().removeHandler(self)
        super().close()

    def follow(self, say: Callable[[str, str], None]) -> Speaker:
        """Let what this thread or task logs and prints from now on go to ``say``."""
        speaker = Speaker(self, say)
        _SPEAKER.set(speaker)
        return speaker

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on ``record`` if a job has caused it; what we log ourselves is not a job's."""
        speaker = _SPEAKER.get()
        if speaker is None or speaker.heard_by is not self or record.name.startswith(_OWN):
            return
        try:
            text = self.format(record)
        except Exception:  # its arguments are the consumer's
            self.handleError(record)
            return
        for line in text.splitlines():
            speaker.say("log", line)


class _Stream:
    """Stands in for ``stream``: what a job prints goes to its log, and all else goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        speaker = _SPEAKER.get()
        if speaker is None:
            return self._stream.write(text)
        speaker.print(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def prints_caught() -> Iterator[None]:
    """Let what jobs on the loop and in threads of this process print land in their logs."""
    with redirect_stdout(_Stream(sys.stdout)), redirect_stderr(_Stream(sys.stderr)):
        yield
