"""
The end of a process at the end of its lease, by a timer of the kernel (DESIGN §5, exclusive).

The kernel ends the process whatever Python does: also one that holds the GIL in a long call, and
one that was frozen and is woken, before its next instruction.
"""

import os
import signal
import threading
from typing import Final

from offload.ticks import ticks_s

_SLACK_S: Final = 0.05


class Fuse:
    """
    Ends this process when its lease is over. ``renew`` may be called from any thread.

    Times are those of ``ticks.ticks_s``, which all processes of a machine share.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until_s: float | None = None

    def arm(self, until_s: float) -> None:
        """Allow this process to live until ``until_s``; in the main thread, before the work."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        with self._lock:
            self._set(until_s)

    def renew(self, until_s: float) -> None:
        """Allow more time; nothing happens if it is not armed, or if that would be less."""
        with self._lock:
            if self._until_s is not None and until_s > self._until_s:
                self._set(until_s)

    def disarm(self) -> bool:
        """
        Take the timer away, in the main thread, after the work; end here if that is too late.

        Returns:
            Whether it was in force all the time, as far as can be seen: a job that handles or
            blocks the signal itself leaves a process behind that must not be used again.
        """
        with self._lock:
            until_s, self._until_s = self._until_s, None
            if until_s is None:
                return True
            left_s, _ = signal.setitimer(signal.ITIMER_REAL, 0)
            if ticks_s() >= until_s:
                blow()
        default = signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        blocked = signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, set())
        return default and not blocked and left_s > 0

    def _set(self, until_s: float) -> None:
        """Set the timer, once more if this process was frozen meanwhile: it would be late."""
        self._until_s = until_s
        while True:
            left_s = until_s - ticks_s()
            if left_s <= 0:
                blow()
            signal.setitimer(signal.ITIMER_REAL, left_s)
            if until_s - ticks_s() > left_s - _SLACK_S:
                return


def blow() -> None:
    """End this process as the timer does, or, if the signal is held off, at once all the same."""
    os.kill(os.getpid(), signal.SIGALRM)
    os.kill(os.getpid(), signal.SIGKILL)
