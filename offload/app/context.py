"""What a consumer learns of its job, and what it may say, keep, and answer later."""

import base64
import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sized
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Final, TypeVar

from offload import payload
from offload.durations import seconds
from offload.errors import ConsumerError, PayloadError, UsageError
from offload.payload import Directory, File, arrived

PARTIAL_LIMIT: Final = 16 * 1024  # bytes, packed: it travels and is kept as a line of news
PROGRESS_TEXT_LIMIT: Final = 1_000  # characters
PROPERTY_LIMIT: Final = 8 * 1024  # characters of one value, as JSON
PROPERTIES_LIMIT: Final = 32 * 1024  # … and of all of them: they travel with every attempt
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_T = TypeVar("_T")


class Retry(Exception):
    """
    Raised, or returned, by a consumer: this attempt failed, another may succeed.

    Args:
        reason: One sentence for a person.
        after: When to try again, such as ``"30s"`` or seconds; by default the queue decides.
    """

    reason: str = ""  # of a class of the user's that does not call ours
    after_s: float | None = None

    def __init__(self, reason: str = "", *, after: str | float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = None if after is None else seconds(after)

    def __str__(self) -> str:
        return self.reason


class Cancel(Exception):
    """Raised, or returned, by a consumer: this job can never succeed; it is not tried again."""


class Later:
    """Returned by a consumer, from ``Context.later``: the job is finished from elsewhere."""


class Answer:
    """
    One answer to one job, at once or later; its methods may be called from any thread.

    Whoever settles it first wins, everybody after that is told so.
    """

    __slots__ = ("_error", "_job_id", "_lock", "_state", "_value", "_wake")

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._lock = threading.Lock()
        self._state = "running"  # promised, settled, closed
        self._value: Any = None
        self._error: BaseException | None = None
        self._wake: Callable[[], None] | None = None

    def promise(self) -> None:
        """Say that the answer comes later; raise ``UsageError`` if it is over."""
        with self._lock:
            if self._state == "closed":
                raise UsageError(f"job {self._job_id} has been finished already")
            if self._state == "running":
                self._state = "promised"

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Answer; raise ``UsageError`` if that was done already, or the attempt is over."""
        with self._lock:
            if self._state in ("settled", "closed"):
                raise UsageError(f"job {self._job_id} has been finished already")
            self._state, self._value, self._error = "settled", value, error
            wake = self._wake
        if wake is not None:
            wake()

    def pending(self, value: Any) -> bool:
        """
        Say whether the answer is another than ``value``, which the consumer has just returned.

        Raises:
            ConsumerError: If it returned a value though it had promised to answer later.
        """
        promises = isinstance(value, Later) or value is Later
        with self._lock:
            if self._state == "running" and not promises:
                self._state = "closed"
                return False
            if promises or value is None:
                self._state = "settled" if self._state == "settled" else "promised"
                return True
            self._state = "closed"
        raise ConsumerError("the consumer", "answers later, and returned a value as well")

    def on_settled(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` once it is settled or closed: now, or in the thread that does it."""
        with self._lock:
            if self._state == "promised":
                self._wake = wake
                return
        wake()

    def close(self) -> None:
        """Take no answer any more; the attempt has ended otherwise."""
        with self._lock:
            waited, self._wake = self._wake, None
            if self._state != "settled":
                self._state = "closed"
        if waited is not None:
            waited()

    def take(self) -> Any:
        """Return the value of the settled answer, or raise what it failed with."""
        if self._error is not None:
            raise self._error
        return self._value


class Properties(MutableMapping[str, Any]):
    """
    Facts about a job that last: each is on its way to where the job was added at once.

    They are there again in the next attempt, wherever that runs. Values are what JSON knows,
    names are letters, digits, ``.``, ``_`` and ``-``.
    """

    __slots__ = ("_kept", "_say")

    def __init__(self, kept: Mapping[str, Any], say: Callable[[str, str], None]) -> None:
        self._kept = dict(kept)
        self._say = say

    def __getitem__(self, name: str) -> Any:
        return self._kept[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(f"property {name!r}: letters, digits, '.', '_' and '-' only (64)")
        if value is None:
            raise UsageError(f"property {name}: None is no value; delete it instead")
        try:
            text = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"property {name}: {error}") from None
        kept = {**self._kept, name: json.loads(text)}
        if len(text) > PROPERTY_LIMIT or len(json.dumps(kept)) > PROPERTIES_LIMIT:
            raise UsageError(f"property {name}: too much to be kept with a job; return a File")
        self._kept = kept
        self._say("properties", f"{{{json.dumps(name)}: {text}}}")

    def __delitem__(self, name: str) -> None:
        kept = dict(self._kept)
        del kept[name]
        self._kept = kept
        self._say("properties", json.dumps({name: None}))

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"Properties({self._kept!r})"


class Context:
    """
    What a consumer learns of its job, and may say about it: ask with a parameter of this type.

    Attributes:
        job_id: Id of the job.
        attempt: Number of the attempt: rises with every start of the job anywhere, so that an
            effect outside can be fenced by it.
        retry_count: How often it has failed before.
        topic: Its topic.
        answer: How it is answered; see ``later``.
    """

    __slots__ = (
        *("_began", "_done", "_folder", "_kept", "_outputs", "_properties", "_say", "_stopping"),
        *("_total", "answer", "attempt", "job_id", "retry_count", "topic"),
    )

    def __init__(
        self,
        *,
        job_id: str,
        attempt: int,
        retry_count: int,
        topic: str,
        folder: str,
        say: Callable[[str, str], None],
        stopping: Callable[[], bool],
        properties: str = "",
    ) -> None:
        self.job_id, self.attempt, self.retry_count = job_id, attempt, retry_count
        self.topic, self._folder = topic, folder
        self._say, self._stopping = say, stopping
        self._kept = properties
        self._properties: Properties | None = None
        self._outputs: dict[str, File] = {}
        self._began = self._done = 0.0
        self._total: float | None = None
        self.answer = Answer(job_id)

    # --- what it has ---------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """A private folder of this attempt, there from now on; it goes when the attempt ends."""
        folder = Path(self._folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def stopping(self) -> bool:
        """Whether the job was asked to stop: whoever returns soon is not killed."""
        return self._stopping()

    @property
    def properties(self) -> Properties:
        """Facts that are kept at once, and are there again in the next attempt."""
        if self._properties is None:
            kept = json.loads(self._kept) if self._kept else {}
            self._properties = Properties(kept, self._say)
        return self._properties

    def output(self, name: str) -> File:
        """
        Return a file to be written, which travels home with the result, returned or not.

        One whose name ends in ``/`` is a ``Directory``, to be filled.

        Raises:
            UsageError: If ``name`` is not the plain name of a file.
        """
        plain = name.removesuffix("/")
        if Path(plain).name != plain or plain in ("", ".", ".."):
            raise UsageError(f"output {name!r} must be a plain file name")
        if name not in self._outputs:
            folder = self.folder / "out"
            folder.mkdir(exist_ok=True)
            self._outputs[name] = made = arrived(folder / plain, name)
            if isinstance(made, Directory):
                made.path.mkdir()
        return self._outputs[name]

    @property
    def outputs(self) -> tuple[File, ...]:
        """The files that ``output`` has returned."""
        return tuple(self._outputs.values())

    # --- what it says --------------------------------------------------------------------------

    def log(self, text: object) -> None:
        """Add a line to the job's log, which travels to where the job was added."""
        self._say("log", str(text))

    def progress(
        self,
        done: float,
        total: float | None = None,
        text: str = "",
        *,
        eta: str | float | None = None,
    ) -> None:
        """
        Say how far the job is; call it as often as you like, only some of it travels.

        Args:
            done: How many steps are done …
            total: … of how many; None if nobody knows.
            text: What is being done.
            eta: How long it will take from now; by default as long as it took so far, per step.

        Raises:
            UsageError: If ``done`` or ``total`` is no number.
        """
        done, total = _number("done", done), None if total is None else _number("total", total)
        now = time.monotonic()
        self._began = self._began or now
        self._done, self._total = done, total
        eta_s = None if eta is None else seconds(eta)
        if eta_s is None and total and 0 < done <= total and now > self._began:
            left_s = (now - self._began) * (total / done - 1)
            eta_s = round(left_s, 3) if math.isfinite(left_s) else None
        shown = str(text)[:PROGRESS_TEXT_LIMIT]
        told = {"done": done, "total": total, "text": shown, "eta_s": eta_s}
        self._say("progress", json.dumps(told))

    def advance(self, steps: float = 1, text: str = "") -> None:
        """Say that so many more steps are done."""
        done = self._done + _number("steps", steps)
        self.progress(done if self._total is None else min(done, self._total), self._total, text)

    def steps(
        self, items: Iterable[_T], total: float | None = None, text: str = ""
    ) -> Iterator[_T]:
        """Yield ``items``, and say after each that one more step of ``total`` is done."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        self.progress(0, total, text)
        for item in items:
            yield item
            self.advance(1, text)

    def partial(self, value: Any) -> None:
        """
        Send ``value`` ahead of the result; whoever follows the job sees it at once.

        Raises:
            PayloadError: If it cannot travel, holds files, or has more than 16 KiB.
        """
        encoded = payload.encode(value, "partial", rebuilt=False)
        if encoded.files:
            raise PayloadError("partial", "files travel with the result only")
        if len(encoded.data) > PARTIAL_LIMIT:
            raise PayloadError("partial", f"is larger than {PARTIAL_LIMIT} bytes")
        self._say("partial", base64.b64encode(encoded.data).decode("ascii"))

    # --- what it answers -----------------------------------------------------------------------

    def later(self) -> Later:
        """
        Return what the consumer is to return if the job is finished from elsewhere.

        The job keeps its place until somebody in this process calls ``finish`` or ``fail``.
        """
        self.answer.promise()
        return Later()

    def finish(self, value: Any = None) -> None:
        """Succeed with ``value``; raise ``UsageError`` if the job has been finished already."""
        self.answer.settle(value, None)

    def fail(self, error: BaseException | str) -> None:
        """
        Fail as if the consumer had raised ``error``: a ``Retry``, a ``Cancel``, or any other.

        Raises:
            UsageError: If the job has been finished already.
        """
        if isinstance(error, type) and issubclass(error, BaseException):
            error = error()
        if not isinstance(error, BaseException):  # a library may call it with anything, also None
            error = Retry(str(error))
        self.answer.settle(None, error)


def _number(name: str, value: Any) -> float:
    """Return ``value`` as JSON knows it; raise ``UsageError`` if it is no finite number."""
    try:
        if isinstance(value, Real) and math.isfinite(value):
            return int(value) if isinstance(value, Integral) else float(value)
    except OverflowError:  # an integer or a fraction beyond what is reckoned with
        raise UsageError(f"progress: {name} is too large a number") from None
    raise UsageError(f'progress: {name} must be a number, got {value!r}; a text goes to text="..."')


def partial_value(text: str) -> Any:
    """Return the value of a line of the kind ``partial``; raise ``Malformed``, ``ValueError``."""
    return payload.decode(base64.b64decode(text, validate=True))
