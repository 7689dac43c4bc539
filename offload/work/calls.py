"""
One call of a consumer: a task in, news on the way, an outcome at the end.

The same in a child process, in a thread and on the event loop; what differs is who calls.
"""

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from offload import payload
from offload.app import Cancel, Consumer, Context, Later, Retry
from offload.durations import seconds
from offload.errors import ArgumentMismatch, ConsumerError, Malformed, PayloadError
from offload.payload import Directory, File, arrived
from offload.work.arguments import bind
from offload.work.jobs import Outcome, Result

REASON_LIMIT: Final = 1_000  # characters; an outcome travels in one frame with many others
TRACEBACK_LIMIT: Final = 16_000
PROGRESS_EVERY_S: Final = 0.1
LINES_PER_S: Final = 500
LINE_LIMIT: Final = 20_000  # characters; one that fills a message would push out all before it
_OURS: Final = (f"{Path(__file__).parents[1]}{os.sep}", "<frozen importlib")
# The same call would end in the same way.
_FINAL: Final = (Cancel, ArgumentMismatch, PayloadError, Malformed, ConsumerError)


class Task(NamedTuple):
    """
    One attempt at a job, ready to run.

    Attributes:
        payload: The packed arguments.
        files: The input files, in the order of their indexes; they are in ``folder``.
        folder: Path of the private folder of this attempt; it may have to be made.
        timeout_s: Longest run; None: the consumer's own.
        properties: What earlier attempts have kept, as a JSON object, or "".
        lease_until_s: Until when it may run (``ticks.ticks_s``), unless that is renewed; None: for
            ever.
    """

    store_id: str
    job_id: str
    attempt: int
    retry_count: int
    topic: str
    payload: bytes
    files: tuple[File, ...]
    folder: str
    timeout_s: float | None = None
    properties: str = ""
    lease_until_s: float | None = None


@dataclass(frozen=True, slots=True)
class News:
    """
    What a job says while it runs.

    A line that it logged (``log``), how far it is (``progress``, JSON), a value ahead of the
    result (``partial``, packed, in base64), or what it keeps (``properties``, a JSON object; null
    takes a property away).
    """

    kind: str
    text: str
    wall: float


class Ran(NamedTuple):
    """
    What came of a task: ``outcome`` without its files, which are still at ``files``.

    ``folder``: it could make its private folder, for it was told of it.
    """

    outcome: Outcome
    files: tuple[File, ...] = ()
    folder: bool = True


class Voice:
    """
    What a consumer says, with the flood of its progress and its lines thinned out.

    The last progress is always said, at the latest by ``finish``; nothing is said after that: a
    thread that a job has left behind does not speak in the name of the next one.
    """

    def __init__(self, say: Callable[[str, str], None]) -> None:
        self._say = say
        self._lock = threading.RLock()  # a consumer may speak in threads of its own
        self._over = False
        self._unsaid: str | None = None
        self._said_at = float("-inf")
        self._since = float("-inf")
        self._lines = 0

    def say(self, kind: str, text: str) -> None:
        """Pass on a line at once, progress every now and then, properties always."""
        with self._lock:
            if not self._over and self._is_to_be_said(kind, text):
                self._say(kind, _cut(text, LINE_LIMIT) if kind == "log" else _valid(text))

    def finish(self) -> None:
        """Say what was held back, and nothing any more."""
        with self._lock:
            if self._unsaid is not None:
                self._say("progress", self._unsaid)
                self._unsaid = None
            self._confess()
            self._over = True

    def _is_to_be_said(self, kind: str, text: str) -> bool:
        if kind != "progress":
            return kind == "properties" or self._has_room()
        now = time.monotonic()
        soon = now - self._said_at < PROGRESS_EVERY_S
        self._unsaid = text if soon else None
        self._said_at = self._said_at if soon else now
        return not soon

    def _has_room(self) -> bool:
        now = time.monotonic()
        if now - self._since >= 1:
            self._confess()
            self._since, self._lines = now, 0
        self._lines += 1
        return self._lines <= LINES_PER_S

    def _confess(self) -> None:
        left_out, self._lines = self._lines - LINES_PER_S, 0
        if left_out > 0:
            self._say("log", f"… {left_out} lines left out: more than {LINES_PER_S} in a second")


def context_of(
    task: Task, say: Callable[[str, str], None], stopping: Callable[[], bool]
) -> Context:
    """Return what the consumer of ``task`` learns of it."""
    return Context(
        job_id=task.job_id,
        attempt=task.attempt,
        retry_count=task.retry_count,
        topic=task.topic,
        folder=task.folder,
        say=say,
        stopping=stopping,
        properties=task.properties,
    )


def arguments_of(
    function: Callable[..., Any], task: Task, context: Context | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """
    Unpack the payload into what ``function`` is to be called with.

    Raises:
        Malformed: If the payload is no map of arguments.
        ArgumentMismatch: If they do not fit the function.
    """
    arguments = payload.decode(task.payload, task.files)
    if not isinstance(arguments, dict):
        raise Malformed("the payload is no map of arguments")
    return bind(function, arguments, context)


def is_later(consumer: Consumer, context: Context | None, value: Any) -> bool:
    """
    Say whether the answer is not the ``value`` that was returned, but comes, or came, otherwise.

    Raises:
        ConsumerError: If it never can come.
    """
    if context is None:
        later = isinstance(value, Later) or value is Later
    else:
        later = context.answer.pending(value)
    if not later:
        return False
    if context is None or not consumer.takes_context:
        raise ConsumerError(
            consumer.qualname,
            "answers later, but nobody could: it needs a Context, whose finish() is called",
        )
    return True


def returned(
    value: Any, run_s: float, outputs: tuple[File, ...] = (), *, folder: bool = True
) -> Ran:
    """
    Return what comes of a consumer that returned ``value``; raise ``PayloadError``.

    A ``Retry`` or ``Cancel`` that was returned is raised: it says the same.

    Args:
        value: May hold files.
        run_s: How long it took.
        outputs: Files that travel too, if ``value`` does not hold them.
        folder: Whether it was told of its private folder.
    """
    if isinstance(value, (Retry, Cancel)) or value is Retry or value is Cancel:
        raise value
    encoded = payload.encode(value, "result", rebuilt=False)
    files = _output_files(encoded.files, outputs) if encoded.files or outputs else ()
    return Ran(Outcome(Result.SUCCEEDED, value=encoded.data, run_s=run_s), files, folder)


def _output_files(held: tuple[File, ...], declared: tuple[File, ...]) -> tuple[File, ...]:
    every = (*held, *(file for file in declared if file not in held))
    files = tuple(arrived(file.path.absolute(), file.travels_as) for file in every)
    for file in files:
        if not (file.path.is_dir() if isinstance(file, Directory) else file.path.is_file()):
            raise PayloadError("result", f"the output file {file.path} {_what_is_wrong(file)}")
    return files


def _what_is_wrong(file: File) -> str:
    if not file.path.exists():
        return "does not exist"
    if isinstance(file, Directory):
        return "is no folder"
    return "is a folder; return a Directory" if file.path.is_dir() else "is no regular file"


def failed(error: BaseException, give_up_on: tuple[type[BaseException], ...], run_s: float) -> Ran:
    """Return what comes of a consumer that raised ``error``, whatever that does if asked."""
    return Ran(
        Outcome(
            Result.FAILED,
            reason=_reason(error),
            error_type=type(error).__name__,
            traceback=_traceback(error),
            final=_is(error, *_FINAL, *give_up_on) and not _is(error, Retry),
            retry_after_s=_after_s(error),
            run_s=run_s,
        )
    )


def ended(result: Result, reason: str, run_s: float) -> Ran:
    """Return what comes of a consumer that was ended from outside."""
    return Ran(Outcome(result, reason=reason, run_s=run_s))


def _is(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Say whether it is of such a kind; ``isinstance`` would ask its ``__class__`` too."""
    try:
        return issubclass(type(error), kinds)
    except BaseException:  # it is a metaclass of the user's
        return False


def _after_s(error: BaseException) -> float | None:
    try:
        if not _is(error, Retry):
            return None
        after = getattr(error, "after_s", None)
        return None if after is None else seconds(after)
    except BaseException:  # it may be a property of the user's, or nothing that we know
        return None


def _reason(error: BaseException) -> str:
    try:
        words = str.__str__(str(error))  # plain text, whatever class of text it is
    except BaseException:  # it is the user's __str__
        words = "(its message cannot be shown)"
    if _is(error, SystemExit):
        return _cut(f"called sys.exit({words})", REASON_LIMIT)
    if not _is(error, Retry, Cancel, *_FINAL) or not words:
        words = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return _cut(words, REASON_LIMIT)


def _traceback(error: BaseException) -> str:
    """Return the traceback as text, from the first frame that is not ours."""
    try:
        frame = _users_part(error.__traceback__)
        cause = error.__cause__
        if cause is not None:
            cause.__traceback__ = _users_part(cause.__traceback__)
        elif frame is None:
            return ""  # it never came to the user's code
        lines = traceback.format_exception(type(error), error, frame)
    except BaseException:  # it runs the user's __str__ and __repr__
        lines = [f"{type(error).__name__} (its traceback cannot be shown)\n"]
    return _cut("".join(lines), TRACEBACK_LIMIT)


def _users_part(frame: TracebackType | None) -> TracebackType | None:
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_OURS):
        frame = frame.tb_next
    return frame


def _valid(text: str) -> str:
    """Return ``text`` as text that can be stored: names of files may hold what is none."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _cut(text: str, limit: int) -> str:
    """Return ``text`` as valid text of ``limit`` characters at most, without its middle."""
    text = _valid(text)
    if len(text) <= limit:
        return text
    half = limit // 2 - 2
    return f"{text[:half]} … {text[-half:]}"


def flush() -> None:
    """Pass on what Python has kept of what the consumer printed."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # the consumer closed it, or put None there
            continue
