"""
What runs in a child process: one consumer call after the other, as the daemon asks.

The daemon speaks over a socket pair: frames of a length and a MessagePack map. What the consumer
prints goes to the daemon through a pipe. A child ends with its daemon: by the kernel where it can
(Linux), and everywhere because the socket ends. It imports little of ours.
"""

import ctypes
import faulthandler
import logging
import os
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NoReturn

from offload import codec
from offload.app import Consumer, Context, Home, apps_known, load_home
from offload.errors import ConsumerError, Malformed
from offload.payload import arrived
from offload.work.calls import (
    Ran,
    Task,
    Voice,
    arguments_of,
    context_of,
    ended,
    failed,
    flush,
    is_later,
    returned,
)
from offload.work.fuse import Fuse
from offload.work.jobs import Outcome, Result
from offload.work.programs import Command, ProgramCrashed, run_program

HEADER: Final = struct.Struct(">I")
FRAME_LIMIT: Final = 1 << 30
RESULT_LIMIT: Final = 64 * 1024 * 1024
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_CHUNK: Final = 1 << 16


def frame(fields: dict[str, Any]) -> bytes:
    """Return ``fields`` as bytes for the socket."""
    body = codec.pack(fields)
    return HEADER.pack(len(body)) + body


class Unframer:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the frames that are complete with ``data``; raise ``Malformed``."""
        self._bytes += data
        frames = []
        at = 0
        while len(self._bytes) - at >= HEADER.size:
            (length,) = HEADER.unpack_from(self._bytes, at)
            if length > FRAME_LIMIT:
                raise Malformed("a frame is too long")
            end = at + HEADER.size + length
            if len(self._bytes) < end:
                break
            fields = codec.unpack(bytes(self._bytes[at + HEADER.size : end]))
            if not isinstance(fields, dict):
                raise Malformed("a frame is no map")
            frames.append(fields)
            at = end
        del self._bytes[:at]
        return frames


def task_fields(task: Task) -> dict[str, Any]:
    """Return ``task`` as plain values."""
    return {
        "store_id": task.store_id,
        "job_id": task.job_id,
        "attempt": task.attempt,
        "retry_count": task.retry_count,
        "topic": task.topic,
        "payload": task.payload,
        "files": [[str(file.path), file.travels_as] for file in task.files],
        "folder": task.folder,
        "properties": task.properties,
        "lease_until_s": task.lease_until_s,
    }


def _task(fields: dict[str, Any]) -> Task:
    files = tuple(arrived(path, name) for path, name in fields["files"])
    return Task(**{**fields, "files": files})


class Child:
    """Runs the tasks that come over ``channel``, one at a time, in the main thread."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sending = threading.Lock()  # a consumer may log from threads of its own
        self._tasks: SimpleQueue[tuple[dict[str, Any], threading.Event]] = SimpleQueue()
        self._consumers: dict[tuple[str, ...], Consumer] = {}
        self._fuse = Fuse()
        self._libc = ctypes.CDLL(None)
        self._folder = Path.cwd()
        self._own_pid = os.getpid()
        self._outputs = os.fstat(1), os.fstat(2)
        self._streams = sys.stdout, sys.stderr

    def run(self) -> None:
        """Run tasks for as long as the daemon lives; it does not return."""
        threading.Thread(target=self._listen, name="offload-daemon", daemon=True).start()
        while True:
            fields, stopping = self._tasks.get()
            self._serve(fields, stopping)

    def _listen(self) -> None:
        """Take what the daemon says; when it says no more, end the whole process group."""
        try:
            unframer = Unframer()
            stopping = threading.Event()
            while data := self._channel.recv(_CHUNK):
                for fields in unframer.feed(data):
                    match fields.pop("kind"):
                        case "run":
                            stopping = threading.Event()
                            self._tasks.put((fields, stopping))
                        case "stop":
                            stopping.set()
                        case "renew":
                            self._fuse.renew(fields["until_s"])
        finally:
            end_group()

    def _serve(self, fields: dict[str, Any], stopping: threading.Event) -> None:
        threads = set(threading.enumerate())
        voice = Voice(self._say)
        ran = self._ran(fields, voice, stopping)
        if os.getpid() != self._own_pid:
            _end_fork(ran)
        voice.finish()
        self._flush()
        unhurt = self._fuse.disarm()  # here, in the main thread, and before it reports
        # After a stop nothing may be left, also where orphans cannot be seen.
        unhurt = unhurt and self._is_heard() and not stopping.is_set()
        clean = unhurt and not _leftovers(threads) and self._is_back()
        self._send(
            {
                "kind": "done",
                "outcome": ran.outcome.to_wire(),
                "files": [[str(file.path), file.travels_as] for file in ran.files],
                "clean": clean,
            }
        )

    def _ran(self, fields: dict[str, Any], voice: Voice, stopping: threading.Event) -> Ran:
        """Run one task, whatever it raises; its time begins when the consumer is called."""
        give_up_on: tuple[type[BaseException], ...] = ()
        context: Context | None = None
        began = time.monotonic()
        try:
            who = {name: fields.pop(name, None) for name in ("command", "home", "name")}
            task = _task(fields)
            if task.lease_until_s is not None:
                self._fuse.arm(task.lease_until_s)
            context = context_of(task, voice.say, stopping.is_set)
            if who["command"]:
                value = run_program(_command(who["command"]), task, context)
                return returned(value, time.monotonic() - began)
            consumer = self._consumer(who["home"], who["name"])
            give_up_on = consumer.give_up_on
            arguments, named = arguments_of(consumer.function, task, context)
            began = time.monotonic()
            value = consumer.function(*arguments, **named)
            if is_later(consumer, context, value):
                value = self._awaited(context)
            run_s = time.monotonic() - began
            return _limited(returned(value, run_s, context.outputs))
        except ProgramCrashed as error:
            return ended(Result.CRASHED, str(error), time.monotonic() - began)
        except BaseException as error:  # even sys.exit(): the next job may need this process
            return failed(error, give_up_on, time.monotonic() - began)
        finally:
            if context is not None:
                context.answer.close()

    def _awaited(self, context: Context) -> Any:
        """Return what the job is finished with by another thread, however long that takes."""
        self._send({"kind": "later"})
        over = threading.Event()
        context.answer.on_settled(over.set)
        over.wait()
        return context.answer.take()

    def _consumer(self, home: list[str], name: list[str]) -> Consumer:
        """Return the consumer of that name, imported once; tell the daemon when it is there."""
        key = (*home, *name)
        consumer = self._consumers.get(key)
        if consumer is None:
            consumer = self._consumers[key] = _declared(Home(*home), *name)  # type: ignore[arg-type]
            self._streams = sys.stdout, sys.stderr  # a program may have streams of its own
            # Only now, so that a program that sets up its own logging finds it untouched.
            logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
            self._send({"kind": "loaded"})
        return consumer

    def _say(self, kind: str, text: str) -> None:
        flush()  # what was printed before this was said arrives before it
        self._send({"kind": "news", "news": kind, "text": text})

    def _flush(self) -> None:
        flush()
        self._libc.fflush(None)  # what libraries written in C have printed

    def _is_heard(self) -> bool:
        """Say whether what is printed still goes to the daemon: a job may close or replace that."""
        try:
            streams = sys.stdout, sys.stderr
            for stream in streams:
                stream.flush()
            same = all(map(os.path.samestat, self._outputs, (os.fstat(1), os.fstat(2))))
            return same and all(s in self._streams or s.fileno() in {1, 2} for s in streams)
        except (OSError, ValueError, AttributeError):  # it is closed, no file, or not even a stream
            return False

    def _is_back(self) -> bool:
        """Go back to the folder in which every job starts, and say whether that worked."""
        try:
            os.chdir(self._folder)
        except OSError:
            return False
        return True

    def _send(self, fields: dict[str, Any]) -> None:
        with self._sending:
            self._channel.sendall(frame(fields))


def _command(fields: list[Any]) -> Command:
    arguments, give_up_exit_codes = fields
    return Command(tuple(arguments), tuple(give_up_exit_codes))


def _declared(home: Home, pattern: str, qualname: str) -> Consumer:
    """Import ``home`` and return what it declares under this pattern and name."""
    for app in apps_known(load_home(home)):
        for consumer in app.consumers:
            if (consumer.pattern, consumer.qualname) == (pattern, qualname):
                return consumer
    raise ConsumerError(
        qualname,
        f"is not declared when {home.where} is imported; declare it at the top of the module,"
        ' outside of functions and of: if __name__ == "__main__"',
    )


def _limited(ran: Ran) -> Ran:
    size = len(ran.outcome.value)
    if size <= RESULT_LIMIT:
        return ran
    reason = f"returned {size} bytes, of which {RESULT_LIMIT} may travel; return a File instead"
    return Ran(Outcome(Result.FAILED, reason=reason, final=True, run_s=ran.outcome.run_s))


def _leftovers(before: set[threading.Thread]) -> bool:
    """
    Say whether a job left something running that could disturb the next one.

    Daemon threads and those of executor pools are kept on purpose by many libraries.
    """
    for thread in threading.enumerate():
        if thread not in before and not thread.daemon and "ThreadPool" not in thread.name:
            return True
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass  # the remains of one that has ended
    except ChildProcessError:
        return False
    return True


def _end_fork(ran: Ran) -> NoReturn:
    """End a process that the consumer has forked: the daemon waits for the answer of the other."""
    with suppress(OSError, ValueError, AttributeError):  # it is closed, or not even a stream
        sys.stderr.write(ran.outcome.traceback)
    flush()
    os._exit(ran.outcome.result is not Result.SUCCEEDED)


def end_group() -> None:
    """End this process, and every process that a consumer has started."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _die_with_daemon() -> None:
    """Let the kernel end this process when the daemon's thread that started it is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _adopt_orphans() -> None:
    """Become the parent of what the programs of a job leave behind, so that it is noticed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main() -> None:
    """Serve the daemon at the other end of the socket whose number is the first argument."""
    _die_with_daemon()
    _adopt_orphans()
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    sys.argv[1:] = []
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(  # type: ignore[union-attr]  # nobody has replaced them yet
            encoding="utf-8", errors="backslashreplace", line_buffering=True
        )
    Child(channel).run()


if __name__ == "__main__":
    main()
