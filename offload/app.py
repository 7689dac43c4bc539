"""
What users import to declare which jobs their program can run.

An ``App`` is a list of consumers: functions, each with the pattern of the topics it takes. The
module costs little to import, because every child process imports it.
"""

import difflib
import importlib
import inspect
import json
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, TypeGuard, TypeVar, get_args

from offload.durations import seconds
from offload.errors import AppError, ConsumerError, UsageError
from offload.topics import check_pattern, matches, specificity

# The name under which the user's file is imported: what it does only as ``__main__`` is not done.
MAIN: Final = "__offload_main__"
_LOADING: Final = "__offload_loading__"  # an attribute of that module while it is imported
Isolate = Literal["coroutine", "thread", "process"]
DELIVERIES: Final = ("at-least-once", "exclusive", "at-most-once")
_F = TypeVar("_F", bound=Callable[..., Any])


class Retry(Exception):
    """
    Raised by a consumer: this attempt failed, another may succeed.

    Args:
        reason: One sentence for a person.
        after: When to try again, such as ``"30s"`` or seconds; by default the queue decides.
    """

    def __init__(self, reason: str = "", *, after: str | float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after_s = None if after is None else seconds(after)

    def __str__(self) -> str:
        return self.reason


class Cancel(Exception):
    """Raised by a consumer: this job can never succeed; it is not tried again."""


class Context:
    """
    What a consumer learns of its job, and may say about it: ask with a parameter of this type.

    Attributes:
        job_id: Id of the job.
        attempt: Number of the attempt: rises with every start of the job anywhere, so that an
            effect outside can be fenced by it.
        retry_count: How often it has failed before.
        topic: Its topic.
        folder: A private folder of this attempt, made when it is asked for: the input files are
            there, outputs may be.
    """

    __slots__ = ("_folder", "_say", "_stopping", "attempt", "job_id", "retry_count", "topic")

    def __init__(
        self,
        *,
        job_id: str,
        attempt: int,
        retry_count: int,
        topic: str,
        folder: Path,
        say: Callable[[str, str], None],
        stopping: Callable[[], bool],
    ) -> None:
        self.job_id, self.attempt, self.retry_count = job_id, attempt, retry_count
        self.topic, self._folder = topic, folder
        self._say, self._stopping = say, stopping

    @property
    def folder(self) -> Path:
        """A private folder, there from now on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    @property
    def stopping(self) -> bool:
        """Whether the job was asked to stop: whoever returns soon is not killed."""
        return self._stopping()

    def log(self, text: object) -> None:
        """Add a line to the job's log, which travels to where the job was added."""
        self._say("log", str(text))

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Say how far the job is; call it as often as you like, only some of it travels."""
        self._say("progress", json.dumps({"done": done, "total": total, "text": text}))


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


@dataclass(frozen=True, slots=True)
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


class App:
    """The consumers of one program, in the order in which they were declared."""

    def __init__(self) -> None:
        self._consumers: list[Consumer] = []

    def consumer(
        self,
        pattern: str,
        *,
        isolate: Isolate | None = None,
        timeout: str | float | None = None,
        ranking: int = 0,
        give_up_on: tuple[type[BaseException], ...] = (),
        delivery: str | None = None,
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
            delivery: ``at-least-once``, ``exclusive`` or ``at-most-once``.

        Raises:
            InvalidTopic: If ``pattern`` is none.
            ConsumerError: If the function cannot be a consumer; the reason names the remedy.
        """
        check_pattern(pattern)

        def declare(function: _F) -> _F:
            name = getattr(function, "__qualname__", repr(function))
            kind = _isolation(function, name, isolate)
            self._consumers.append(
                Consumer(
                    pattern,
                    function,
                    kind,
                    _timeout_s(name, timeout),
                    ranking,
                    _exceptions(name, give_up_on),
                    _delivery(name, delivery),
                    _home(function, name) if kind == "process" else None,
                    name,
                    _takes_context(function, name),
                )
            )
            return function

        return declare

    @property
    def consumers(self) -> tuple[Consumer, ...]:
        """All that are declared, the first one first."""
        return tuple(self._consumers)

    def remove(self, function: Callable[..., Any]) -> None:
        """Take ``function`` out, with every topic it was declared for."""
        self._consumers = [c for c in self._consumers if c.function is not function]

    def find(self, topic: str) -> Consumer | None:
        """Return who runs ``topic``: highest ranking, then most specific, then first declared."""
        return max(
            (c for c in self._consumers if matches(c.pattern, topic)),
            key=lambda c: (c.ranking, specificity(c.pattern)),
            default=None,
        )

    def topic_of(self, function: Callable[..., Any]) -> str:
        """Return the topic that ``function`` stands for; raise ``UsageError`` if it is not one."""
        patterns = [c.pattern for c in self._consumers if c.function is function]
        name = getattr(function, "__qualname__", repr(function))
        if not patterns:
            raise UsageError(f"{name} is no consumer of this app; name the topic instead")
        exact = [pattern for pattern in patterns if "*" not in pattern]
        if not exact:
            raise UsageError(f"{name} takes {patterns[0]!r}, which is no topic; name the topic")
        return exact[0]


# --- what may be declared ----------------------------------------------------------------------


def _isolation(function: Any, name: str, isolate: str | None) -> Isolate:
    if not callable(function):
        raise ConsumerError(name, "is no function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConsumerError(name, "yields; return one value instead")
    is_async = inspect.iscoroutinefunction(function)
    chosen = isolate or ("coroutine" if is_async else "process")
    if chosen not in get_args(Isolate):
        near = difflib.get_close_matches(str(chosen), get_args(Isolate), n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConsumerError(name, f"isolate={chosen!r} is none of {_list(get_args(Isolate))}{hint}")
    if is_async and chosen != "coroutine":
        raise ConsumerError(
            name, f"is async and runs on the event loop; write def for isolate={chosen!r}"
        )
    if not is_async and chosen == "coroutine":
        raise ConsumerError(
            name, "would block the event loop; write async def, or isolate='thread'"
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


def _timeout_s(name: str, timeout: str | float | None) -> float | None:
    if timeout is None:
        return None
    try:
        timeout_s = seconds(timeout)
    except ValueError as error:
        raise ConsumerError(name, f"timeout: {error}") from None
    if timeout_s == 0:
        raise ConsumerError(name, "timeout: 0 would end every attempt at once; None is no limit")
    return timeout_s


def _exceptions(name: str, kinds: Any) -> tuple[type[BaseException], ...]:
    several = kinds if isinstance(kinds, tuple) else (kinds,)
    for kind in several:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConsumerError(name, f"give_up_on: {kind!r} is no exception class")
    return several


def _delivery(name: str, delivery: str | None) -> str | None:
    if delivery is not None and delivery not in DELIVERIES:
        raise ConsumerError(name, f"delivery={delivery!r} is none of {_list(DELIVERIES)}")
    return delivery


def _takes_context(function: Any, name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some functions written in C do not tell
        return False
    asking = [p.name for p in parameters if is_context(p.annotation)]
    if len(asking) > 1:
        raise ConsumerError(name, f"asks for the Context twice: {_list(asking)}")
    return bool(asking)


def is_context(annotation: Any) -> bool:
    """Say whether a parameter with this annotation (or its text) is given the ``Context``."""
    if isinstance(annotation, str):
        return re.fullmatch(r"(\w+\.)*Context(\s*\|\s*None)?", annotation.strip()) is not None
    return annotation is Context or Context in get_args(annotation)


def _list(names: Any) -> str:
    return ", ".join(map(repr, names))


# --- finding the app of a program --------------------------------------------------------------


def load_app(source: str) -> App:
    """
    Import the program ``source`` and return its ``App``.

    Args:
        source: ``app.py``, ``package.module``, or either with ``:name`` if it has several Apps.

    Raises:
        AppError: In one sentence: it is not there, does not import, or declares no single App.
    """
    where, _, name = source.rpartition(":")
    if not where:
        where, name = source, ""
    module = _load(where)
    apps = {key: value for key, value in vars(module).items() if is_app(value)}
    if name:
        if name not in apps:
            raise AppError(where, f"has no App named {name!r}")
        return apps[name]
    if not apps:
        raise AppError(source, "declares no App; write: app = App()")
    if len({id(app) for app in apps.values()}) > 1:
        raise AppError(source, f"has several Apps: {_list(apps)}; say which: {where}:{min(apps)}")
    return next(iter(apps.values()))


def loading() -> bool:
    """Say whether a program is being imported for its App: what it starts then is not meant."""
    return hasattr(sys.modules.get(MAIN), _LOADING)


def load_home(home: Home) -> ModuleType:
    """Import where a consumer was declared; raise ``AppError`` if that fails."""
    if home.kind == "module" and home.file and not _findable(home.where):
        return _load(home.file)
    return _load(home.where)


def is_app(value: Any) -> TypeGuard[App]:
    """Say whether ``value`` is an ``App``, without asking objects that only pretend to be one."""
    return issubclass(type(value), App)


def apps_known(module: ModuleType) -> Iterator[App]:
    """Yield the Apps in ``module``, then those in all others that are loaded."""
    for place in (module, *list(sys.modules.values())):
        for value in list(getattr(place, "__dict__", {}).values()):
            if is_app(value):
                yield value


def _findable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # one of its packages
        return False


def _load(where: str) -> ModuleType:
    path = Path(where)
    is_file = where.endswith(".py") or "/" in where or path.is_file()
    if is_file and not path.is_file():
        raise AppError(where, "is a directory" if path.is_dir() else "no such file")
    try:
        return _import_file(path.absolute()) if is_file else _import_module(where)
    except (AppError, KeyboardInterrupt):
        raise
    except BaseException as error:  # whatever the user's program does while it is imported
        raise AppError(where, _trouble(where, error)) from error


def _import_file(path: Path) -> ModuleType:
    """Import the file as ``python FILE`` would, but for its name."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    loader = SourceFileLoader(MAIN, str(path))
    spec = spec_from_loader(MAIN, loader)
    assert spec is not None  # noqa: S101 - a loader of source files always has one
    module = module_from_spec(spec)
    sys.modules[MAIN] = module
    setattr(module, _LOADING, True)
    loader.exec_module(module)
    delattr(module, _LOADING)
    return module


def _import_module(name: str) -> ModuleType:
    """Import the module as ``python -m NAME`` would."""
    if not all(part.isidentifier() for part in name.split(".")):
        raise AppError(name, "is neither a file nor a module; write app.py or package.module")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return importlib.import_module(name)


def _trouble(where: str, error: BaseException) -> str:
    """Say in one sentence why ``where`` does not import."""
    words = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        at = f" in {Path(error.filename or where).name}, line {error.lineno}" * bool(error.lineno)
        return f"syntax error{at}: {error.msg}"
    if isinstance(error, ModuleNotFoundError) and f"{where}.".startswith(f"{error.name}."):
        return "no such module"
    if isinstance(error, OSError) and error.filename == str(Path(where).absolute()):
        return f"cannot be read: {error.strerror}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename == str(Path(where).absolute())]
    user = own or [f for f in frames if not f.filename.startswith("<") and f.filename != __file__]
    at = f"line {user[-1].lineno}: " if user else ""
    if isinstance(error, SystemExit):
        return f"{at}ends the program (sys.exit) while it is imported"
    return f"{at}{type(error).__name__}: {words}".rstrip(": ")
