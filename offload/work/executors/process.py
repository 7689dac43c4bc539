"""Child processes as the daemon sees them: started, given one task after the other, ended."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from offload.errors import Malformed
from offload.payload import arrived
from offload.work.calls import Ran
from offload.work.child import Unframer, frame
from offload.work.executors.lines import Lines
from offload.work.executors.warden import Groups, kill_group
from offload.work.jobs import Outcome

log = logging.getLogger(__name__)
# Not ``-m``, which would let the current folder shadow Python's own modules.
_PATH: Final = "OFFLOAD_CHILD_PATH"
_PROGRAM: Final = (
    f"import os, sys; sys.path[:] = os.environ.pop({_PATH!r}).split(os.pathsep);"
    " from offload.work.child import main; main()"
)
_CHUNK: Final = 1 << 16
_DRAIN_CHUNKS: Final = 32  # more than a pipe holds: what a job printed has then arrived
_LAST_WORDS_S: Final = 0.2


class Listener(Protocol):
    """Who is told what becomes of the task that a child runs."""

    def on_loaded(self) -> None:
        """Learn that the consumer is imported, and is called now."""

    def on_news(self, kind: str, text: str) -> None:
        """Learn what the consumer says."""

    def on_later(self) -> None:
        """Learn that the consumer has returned, and the answer is still to come."""

    def on_done(self, ran: Ran) -> None:
        """Learn what came of the task."""

    def on_death(self, reason: str, code: int) -> None:
        """Learn that the process ended first."""


class Child(asyncio.Protocol):
    """
    One child process, in a process group of its own.

    A thread starts it and waits for its end: the kernel ends it when that thread is gone (Linux).

    Attributes:
        pid: Its process id, which is also that of its group; 0 before it is started.
        loaded: Names of the consumers that it has imported.
        clean: Whether it can run another task.
        gone: Done when the process and its group are.
        idle_since: When it finished its last task (monotonic).
    """

    def __init__(self, groups: Groups) -> None:
        self.pid = 0
        self.loaded: set[tuple[str, str]] = set()
        self.clean = True
        self.idle_since = 0.0
        self._groups = groups
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[int] = self._loop.create_future()
        self._lock = threading.Lock()  # between killing the group and forgetting its number
        self._killed = False
        self._reaped = False
        self._unframer = Unframer()
        self._transport: asyncio.WriteTransport | None = None
        self._output = -1
        self._listener: Listener | None = None
        self._lines: Lines | None = None

    async def open(self) -> None:
        """Start the process; raise ``OSError`` if that cannot be done."""
        ours, theirs = socket.socketpair()
        output, their_output = os.pipe()
        started: asyncio.Future[int] = self._loop.create_future()
        arguments = theirs, their_output, started
        try:
            threading.Thread(
                target=self._live, args=arguments, name="offload-child", daemon=True
            ).start()
            self.pid = await started
            self._transport, _ = await self._loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            self.kill()
            ours.close()
            os.close(output)
            raise
        os.set_blocking(output, False)
        self._output = output
        self._loop.add_reader(output, self._read_output)

    def _live(self, theirs: socket.socket, output: int, started: asyncio.Future[int]) -> None:
        """Start the process and wait for its end; in a thread that does only this."""
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno())],
                env=os.environ | {_PATH: os.pathsep.join(p or str(Path.cwd()) for p in sys.path)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                process_group=0,
            )
        except OSError as error:
            self._tell(_refuse, started, error)
            return
        finally:
            theirs.close()
            os.close(output)
        self._groups.add(process.pid)
        with self._lock:
            self.pid = process.pid
            if self._killed:  # while it was started
                kill_group(self.pid)
        self._tell(_accept, started, process.pid)
        code = self._reap(process)
        self._groups.remove(process.pid)
        self._tell(self._ended, code)

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        """Wait for the end; kill what is left of the group while the number is still ours."""
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            with self._lock:
                kill_group(process.pid)
                self._reaped = True
                return process.wait()
        code = process.wait()
        with self._lock:
            kill_group(process.pid)
            self._reaped = True
        return code

    def _tell(self, call: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(call, *arguments)

    def give(self, task: dict[str, Any], listener: Listener) -> None:
        """Let the process run ``task``; ``listener`` is told what becomes of it."""
        self._read_output()  # what a former task left behind is nobody's
        self._listener = listener
        self._lines = Lines(lambda line: listener.on_news("log", line))
        self._send({"kind": "run", **task})

    def ask(self) -> None:
        """Ask the consumer to stop."""
        self._send({"kind": "stop"})

    def renew(self, until_s: float) -> None:
        """Allow the task to run until ``until_s`` (``ticks.ticks_s``)."""
        self._send({"kind": "renew", "until_s": until_s})

    def kill(self) -> None:
        """End the process and everything that it has started."""
        self.clean = False
        with self._lock:
            self._killed = True
            if self.pid and not self._reaped:
                kill_group(self.pid)

    def _send(self, fields: dict[str, Any]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(fields))

    def data_received(self, data: bytes) -> None:
        """Take what the child says."""
        try:
            frames = self._unframer.feed(data)
        except Malformed as error:
            log.warning("child %d speaks nonsense and is ended: %s", self.pid, error)
            self.kill()
            return
        for fields in frames:
            self._heard(fields)

    def _heard(self, fields: dict[str, Any]) -> None:
        listener = self._listener
        if listener is None:
            return
        match fields["kind"]:
            case "loaded":
                listener.on_loaded()
            case "news":
                self._read_output()  # printed earlier
                listener.on_news(fields["news"], fields["text"])
            case "later":
                listener.on_later()
            case "done":
                ran = Ran(
                    Outcome.from_wire(fields["outcome"]),
                    tuple(arrived(path, name) for path, name in fields["files"]),
                )
                self.clean = self.clean and fields["clean"]
                self._task_over()
                listener.on_done(ran)

    def _task_over(self) -> None:
        self._read_output()
        if self._lines is not None:
            self._lines.finish()
        self._listener = self._lines = None
        self.idle_since = time.monotonic()

    def _read_output(self) -> None:
        """Take what was printed; it belongs to the task that is running, if there is one."""
        for _ in range(_DRAIN_CHUNKS):
            try:
                data = os.read(self._output, _CHUNK) if self._output >= 0 else b""
            except BlockingIOError:
                return
            if not data:
                self._close_output()
                return
            if self._lines is not None:
                self._lines.feed(data)

    def _close_output(self) -> None:
        if self._output >= 0:
            self._loop.remove_reader(self._output)
            os.close(self._output)
            self._output = -1

    def connection_lost(self, _error: Exception | None) -> None:
        """End a child that has closed its socket: it cannot be reached any more."""
        self.kill()

    def _ended(self, code: int) -> None:
        """Give what the process has sent before its end the time to be read."""
        self.clean = False
        self._loop.call_soon(self._bury, code, self._loop.time() + _LAST_WORDS_S)

    def _bury(self, code: int, until: float) -> None:
        closing = self._transport is None or self._transport.is_closing()
        if not closing and self._listener is not None and self._loop.time() < until:
            self._loop.call_later(0.01, self._bury, code, until)
            return
        listener = self._listener
        self._task_over()
        self._close_output()
        if self._transport is not None:
            self._transport.close()
        if listener is not None:
            listener.on_death(_death(code), code)
        if not self.gone.done():
            self.gone.set_result(code)


def _accept(future: asyncio.Future[int], pid: int) -> None:
    if not future.done():
        future.set_result(pid)


def _refuse(future: asyncio.Future[int], error: OSError) -> None:
    if not future.done():
        future.set_exception(error)


def _death(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"its process ended by itself with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"its process was ended by {name}{hint}"
