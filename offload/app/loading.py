"""Finding the App of a program: the one place where users' files are imported."""

import importlib
import sys
import traceback
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeGuard

from offload.app.declaring import MAIN, App, Home, listed
from offload.errors import AppError

_LOADING: Final = "__offload_loading__"  # an attribute of that module while it is imported


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
        raise AppError(source, f"has several Apps: {listed(apps)}; say which: {where}:{min(apps)}")
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
