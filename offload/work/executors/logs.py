"""What consumers on the loop and in threads tell ``logging`` lands in the log of their job."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

# In the thread or the task that a consumer runs in: whose job it is, and where its lines go.
_SPEAKER: Final[ContextVar[tuple["JobLog", Callable[[str, str], None]] | None]] = ContextVar(
    "offload_speaker", default=None
)
_FORMAT: Final = "%(levelname)s %(name)s: %(message)s"
_OWN: Final = "offload."


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

    def follow(self, say: Callable[[str, str], None]) -> None:
        """Let what this thread or task logs from now on go to ``say``."""
        _SPEAKER.set((self, say))

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on ``record`` if a job has caused it; what we log ourselves is not a job's."""
        owner, say = _SPEAKER.get() or (None, None)
        if owner is self and say is not None and not record.name.startswith(_OWN):
            try:
                text = self.format(record)
            except Exception:  # its arguments are the consumer's
                self.handleError(record)
                return
            for line in text.splitlines():
                say("log", line)
