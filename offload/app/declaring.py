"""Declaring consumers: what is checked before anything runs, and who runs a topic."""

import difflib
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args, get_type_hints

from offload.app.context import Context
from offload.durations import seconds
from offload.errors import ConsumerError, InvalidTopic, UsageError
from offload.sizes import size_bytes
from offload.topics import check_pattern, matches, specificity

# The name under which the user's file is imported: what it does only as ``__main__`` is not done.
MAIN: Final = "__offload_main__"
Isolate = Literal["coroutine", "thread", "process"]
DELIVERIES: Final = ("at-least-once", "exclusive", "at-most-once")
TOPICS_REMEMBERED: Final = 4096
VERSION_LIMIT: Final = 64
Provider = Callable[[], Any]  # gives a map of property names and values, or awaits to
_P = TypeVar("_P", bound=Provider)
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Home:
    """
    Where a consumer is declared, so that a child process of this machine can import it.

    Attributes:
        kind: ``module`` or ``file``.
        where: Name of the module, or absolute path of the file.
        file: The module's file, for a module that a child cannot find by its name.
    """

    kind: Literal["module", "file"]
    where: str
    file: str = ""


@dataclass(frozen=True, slots=True, eq=False)  # known by identity: its function may be anything
class Consumer:
    """A function that runs the jobs of the topics that ``pattern`` takes; see ``App.consumer``."""

    pattern: str
    function: Callable[..., Any]
    isolate: Isolate
    timeout_s: float | None
    ranking: int
    give_up_on: tuple[type[BaseException], ...]
    delivery: str | None
    home: Home | None
    qualname: str
    takes_context: bool
    memory_bytes: int | None = None
    lease_s: float | None = None
    version: str = ""

    def isolated(self, isolate: Isolate) -> "Consumer":
        """Return it with another isolation; raise ``ConsumerError`` if it cannot have that."""
        if isolate == self.isolate:
            return self
        _isolation(self.function, self.qualname, isolate, self.delivery)
        home = _home(self.function, self.qualname) if isolate == "process" else None
        return replace(self, isolate=isolate, home=home)


class App:
    """The consumers of one program, in the order in which they were declared."""

    def __init__(self) -> None:
        self._consumers: list[Consumer] = []
        self._found = lru_cache(TOPICS_REMEMBERED)(self._best)
        self._listeners: list[Callable[[], None]] = []
        self._providers: list[Provider] = []

    def consumer(
        self,
        pattern: str,
        *,
        isolate: Isolate | None = None,
        timeout: str | float | None = None,
        ranking: int = 0,
        give_up_on: tuple[type[BaseException], ...] = (),
        delivery: str | None = None,
        memory: str | int | None = None,
        lease: str | float | None = None,
        version: str = "",
    ) -> Callable[[_F], _F]:
        """
        Declare the decorated function as a consumer; the function stays as it is.

        Args:
            pattern: A topic, or a pattern such as ``"media/*"`` or ``"media/**"``.
            isolate: Where it runs: ``coroutine`` (on the event loop; the default for
                ``async def``), ``process`` (a child process that can be killed; the default for
                ``def``) or ``thread``.
            timeout: Longest run of one attempt, such as ``"2m"``; then it is ended.
            ranking: Of several consumers for a topic the highest runs it, then the most specific.
            give_up_on: Exceptions after which another try is pointless.
            delivery: ``at-least-once``, ``exclusive`` (only for a process: nothing else can be
                ended for certain) or ``at-most-once``.
            memory: What its process and those it starts may use together, such as ``"2GiB"``;
                then the attempt is ended.
            lease: For so long a silent worker keeps a job that was added here, if that is more
                than ``timing.lease``.
            version: Of what it does, such as ``"2"``; all instances see it.

        Raises:
            InvalidTopic: If ``pattern`` is none.
            ConsumerError: If the function cannot be a consumer; the reason names the remedy.
        """
        if callable(pattern):  # of ``@app.consumer`` without a call
            name = getattr(pattern, "__qualname__", repr(pattern))
            raise ConsumerError(name, 'has no topic; write @app.consumer("media/transcode")')
        check_pattern(pattern)

        wishes = _Wishes(isolate, timeout, ranking, give_up_on, delivery, memory, lease, version)

        def declare(function: _F) -> _F:
            self._consumers.append(_made(function, pattern, wishes))
            self._tell()
            return function

        return declare

    def properties(self, provider: _P) -> _P:
        """
        Declare the decorated function as a provider of properties, which all instances see.

        It is called without arguments, twice a second, in a thread (or awaited, if it is async),
        and returns a map of names (letters, digits, ``.``, ``_``, ``-``) to texts, numbers or
        truths.
        """
        self._providers.append(provider)
        self._tell()
        return provider

    @property
    def providers(self) -> tuple[Provider, ...]:
        """All providers of properties."""
        return tuple(self._providers)

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """All that are declared, the first one first."""
        return tuple(self._consumers)

    def remove(self, function: Callable[..., Any]) -> None:
        """Take ``function`` out, with every topic it was declared for."""
        self._consumers = [c for c in self._consumers if c.function is not function]
        self._tell()

    def listen(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` when a consumer was added or removed; return how to stop that."""
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed)

    def find(self, topic: str) -> Consumer | None:
        """Return who runs ``topic``: highest ranking, then most specific, then first declared."""
        return self._found(topic)

    def topic_of(self, function: Callable[..., Any]) -> str:
        """Return the topic that ``function`` stands for; raise ``UsageError``, ``InvalidTopic``."""
        if not callable(function):
            raise InvalidTopic(repr(function), "is no text")
        patterns = [c.pattern for c in self._consumers if c.function is function]
        name = getattr(function, "__qualname__", repr(function))
        if not patterns:
            raise UsageError(f"{name} is no consumer of this app; name the topic instead")
        exact = [pattern for pattern in patterns if "*" not in pattern]
        if not exact:
            raise UsageError(f"{name} takes {patterns[0]!r}, which is no topic; name the topic")
        return exact[0]

    def _best(self, topic: str) -> Consumer | None:
        return max(
            (c for c in self._consumers if matches(c.pattern, topic)),
            key=lambda c: (c.ranking, specificity(c.pattern)),
            default=None,
        )

    def _tell(self) -> None:
        self._found = lru_cache(TOPICS_REMEMBERED)(self._best)  # another thread may be asking
        for changed in tuple(self._listeners):
            changed()


# --- what may be declared ----------------------------------------------------------------------


class _Wishes(NamedTuple):
    """What is said of a consumer, as it was said; see ``App.consumer``."""

    isolate: Isolate | None
    timeout: str | float | None
    ranking: int
    give_up_on: tuple[type[BaseException], ...]
    delivery: str | None
    memory: str | int | None
    lease: str | float | None
    version: str


def _made(function: Callable[..., Any], pattern: str, wishes: _Wishes) -> Consumer:
    """Return the consumer that is meant; raise ``ConsumerError`` for the first that is wrong."""
    name = getattr(function, "__qualname__", repr(function))
    kind = _isolation(function, name, wishes.isolate, _delivery(name, wishes.delivery))
    return Consumer(
        pattern=pattern,
        function=function,
        isolate=kind,
        timeout_s=_duration_s(name, "timeout", wishes.timeout),
        ranking=_ranking(name, wishes.ranking),
        give_up_on=_exceptions(name, wishes.give_up_on),
        delivery=wishes.delivery,
        home=_home(function, name) if kind == "process" else None,
        qualname=name,
        takes_context=_takes_context(function, name),
        memory_bytes=_memory_bytes(name, kind, wishes.memory),
        lease_s=_duration_s(name, "lease", wishes.lease),
        version=_version(name, wishes.version),
    )


def _isolation(
    function: Any, name: str, isolate: str | None, delivery: str | None = None
) -> Isolate:
    if not callable(function):
        raise ConsumerError(name, "is no function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConsumerError(name, "yields; return one value instead")
    is_async = inspect.iscoroutinefunction(function)
    chosen = isolate or ("coroutine" if is_async else "process")
    if chosen not in get_args(Isolate):
        near = difflib.get_close_matches(str(chosen), get_args(Isolate), n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = listed(get_args(Isolate))
        raise ConsumerError(name, f"isolate={chosen!r} is none of {known}{hint}")
    if is_async and chosen != "coroutine":
        raise ConsumerError(
            name, f"is async and runs on the event loop; write def for isolate={chosen!r}"
        )
    if not is_async and chosen == "coroutine":
        raise ConsumerError(
            name, "would block the event loop; write async def, or isolate='thread'"
        )
    if delivery == "exclusive" and chosen != "process":
        raise ConsumerError(
            name,
            f"is a {chosen}, which nobody can end for certain when its lease is over;"
            " delivery='exclusive' needs a process: write def, without isolate",
        )
    return chosen  # type: ignore[return-value]  # it is one of the arguments of Isolate


def _home(function: Any, name: str) -> Home:
    """Return where a child finds ``function``; raise ``ConsumerError`` if it cannot."""
    if "<lambda>" in name:
        raise ConsumerError(name, "a lambda has no name that a child process could find; write def")
    if "<locals>" in name:
        raise ConsumerError(
            name,
            "is inside another function, where a child process cannot find it;"
            " move it to the top of its module, or use isolate='thread'",
        )
    if inspect.ismethod(function) or not inspect.isroutine(function):
        raise ConsumerError(
            name,
            "belongs to an object, which a child process does not have;"
            " declare a function, or use isolate='thread'",
        )
    module = sys.modules.get(function.__module__)
    file = getattr(module, "__file__", None)
    path = str(Path(file).absolute()) if file else ""
    spec = getattr(module, "__spec__", None)
    if function.__module__ not in ("__main__", "__mp_main__", MAIN):
        return Home("module", function.__module__, path)
    if spec is not None and function.__module__ != MAIN:
        return Home("module", spec.name, path)  # python -m package.module
    if path:
        return Home("file", path)
    raise ConsumerError(
        name,
        "was typed into a session, where a child process cannot find it;"
        " put it into a file, or use isolate='thread'",
    )


def _duration_s(name: str, option: str, value: str | float | None) -> float | None:
    if value is None:
        return None
    try:
        value_s = seconds(value)
    except ValueError as error:
        raise ConsumerError(name, f"{option}: {error}") from None
    if value_s == 0:
        raise ConsumerError(name, f"{option}: must be above 0; None is no limit")
    return value_s


def _ranking(name: str, ranking: int) -> int:
    if type(ranking) is not int:
        raise ConsumerError(name, f"ranking: {ranking!r} is no whole number")
    return ranking


def _memory_bytes(name: str, isolate: Isolate, memory: str | int | None) -> int | None:
    if memory is None:
        return None
    if isolate != "process":
        raise ConsumerError(name, "memory: only a process can be held to it; use isolate='process'")
    try:
        return size_bytes(memory)
    except ValueError as error:
        raise ConsumerError(name, f"memory: {error}") from None


def _version(name: str, version: str) -> str:
    if not isinstance(version, str) or len(version) > VERSION_LIMIT or not version.isprintable():
        reason = f"version={version!r} is no text of at most {VERSION_LIMIT} printable characters"
        raise ConsumerError(name, reason)
    return version


def _exceptions(name: str, kinds: Any) -> tuple[type[BaseException], ...]:
    several = kinds if isinstance(kinds, tuple) else (kinds,)
    for kind in several:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConsumerError(name, f"give_up_on: {kind!r} is no exception class")
    return several


def _delivery(name: str, delivery: str | None) -> str | None:
    if delivery is not None and delivery not in DELIVERIES:
        raise ConsumerError(name, f"delivery={delivery!r} is none of {listed(DELIVERIES)}")
    return delivery


def _takes_context(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some functions written in C do not tell
        return False
    hints = _hints(function)
    asking = [p.name for p in parameters if is_context(hints.get(p.name, p.annotation))]
    if len(asking) > 1:
        raise ConsumerError(name, f"asks for the Context twice: {listed(asking)}")
    return bool(asking)


def _hints(function: Any) -> dict[str, Any]:
    """Return what annotations that are written as text mean, if all of that is known by now."""
    function = inspect.unwrap(function)
    if not any(isinstance(hint, str) for hint in getattr(function, "__annotations__", {}).values()):
        return {}
    try:
        return get_type_hints(function)
    except Exception:  # it runs the user's text, whose names may be defined further down
        return {}


def is_context(annotation: Any) -> bool:
    """Say whether a parameter with this annotation (or its text) is given the ``Context``."""
    if isinstance(annotation, str):
        return re.fullmatch(r"(\w+\.)*Context(\s*\|\s*None)?", annotation.strip()) is not None
    return annotation is Context or Context in get_args(annotation)


def listed(names: Any) -> str:
    """Return ``names`` as they are shown to a person."""
    return ", ".join(map(repr, names))
