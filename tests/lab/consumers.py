"""What the hosts of the lab run: every run writes a ledger that is only ever appended to."""

import ctypes
import json
import os
import random
import select
import signal
import time
from pathlib import Path

from offload import App, Context, File, Retry

EVERY_S = 0.2
app = App()


@app.consumer("lab/wait")
def wait(context: Context, seconds: float) -> File:
    """Begin, take ``seconds``, end; what comes home names who did it."""
    _note("began", context)
    _sleep(seconds)
    _note("ended", context)
    return _told(context, f"{context.job_id}.txt", f"{os.environ['LAB_HOST']} {context.attempt}")


@app.consumer("text/shout")
def shout(context: Context, text: File) -> File:
    """Give back ``text`` in upper case."""
    _note("began", context)
    words = text.path.read_text("utf-8").upper()
    _note("ended", context)
    return _told(context, f"loud-{text.name}", words)


@app.consumer("lab/turn")
def turn(context: Context, data: File) -> File:
    """Give ``data`` back from its last byte to its first."""
    _note("began", context)
    turned = data.path.read_bytes()[::-1]
    _note("ended", context)
    path = context.folder / f"turned-{data.name}"
    path.write_bytes(turned)
    return File(path)


@app.consumer("lab/count")
def count(context: Context, number: int, seconds: float) -> int:
    """Take ``seconds``, and say every now and then that it is still at work."""
    _note("began", context)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        _sleep(min(left, EVERY_S))
        _note("at it", context)
    _note("ended", context)
    return number


@app.consumer("lab/make")
def make(context: Context, number: int, seconds: float, size: int) -> File:
    """Take ``seconds``, and give back ``size`` bytes that follow from ``number``."""
    _note("began", context)
    _sleep(seconds)
    path = context.folder / f"{number}.bin"
    path.write_bytes(made(number, size))
    _note("ended", context)
    return File(path)


@app.consumer("lab/poison")
def poison(context: Context, how: str) -> None:
    """End the process, or use up its memory."""
    _note("began", context)
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(len(bytearray(2 * 2**30)))


@app.consumer("lab/hog")
def hog(context: Context, seconds: int) -> None:
    """Let no other thread of the process run for so long."""
    _note("began", context)
    ctypes.PyDLL(None).sleep(seconds)
    _note("ended", context)


@app.consumer("lab/flaky")
def flaky(context: Context, number: int) -> int:
    """Succeed at the second try."""
    _note("began", context)
    if context.retry_count == 0:
        raise Retry("not yet", after=0.1)
    _note("ended", context)
    return number


def made(number: int, size: int) -> bytes:
    """Return what ``lab/make`` makes."""
    return random.Random(number).randbytes(size)


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)  # with a wrong clock (libfaketime), time.sleep fails


def _told(context: Context, name: str, text: str) -> File:
    path = context.folder / name
    path.write_text(text, "utf-8")
    return File(path)


def _note(what: str, context: Context) -> None:
    entry = {
        "what": what,
        "job": context.job_id,
        "attempt": context.attempt,
        "host": os.environ["LAB_HOST"],
        "pid": os.getpid(),
        "at": time.monotonic(),
    }
    line = json.dumps(entry).encode("ascii") + b"\n"
    handle = os.open(Path(os.environ["LAB_LEDGER"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line)  # in one piece, or not at all
    finally:
        os.close(handle)
