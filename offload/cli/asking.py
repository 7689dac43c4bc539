"""
A command that asks the running instance.

``asking`` makes it of what is to be asked and how the answer is shown; the options that all such
commands have are written down here, once.
"""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, get_type_hints

from offload.cli.terminal import ConfigOption, DataDirOption, JsonOption, ask, say, say_json
from offload.client import Client

_P = ParamSpec("_P")
_T = TypeVar("_T")
_COMMON: Final = {
    "as_json": (JsonOption, False),
    "config": (ConfigOption, None),
    "data_dir": (DataDirOption, None),
}


def asking(
    show: Callable[[_T], None],
) -> Callable[[Callable[Concatenate[Client, _P], Awaitable[_T]]], Callable[..., None]]:
    """
    Make a command of ``async def work(client, …)``, with ``--json``, ``--config``, ``--data-dir``.

    What ``work`` returns is printed as JSON, or by ``show``.
    """

    def made(work: Callable[Concatenate[Client, _P], Awaitable[_T]]) -> Callable[..., None]:
        @wraps(work)
        def command(
            *, as_json: bool, config: Path | None, data_dir: Path | None, **asked: Any
        ) -> None:
            question: Callable[[Client], Awaitable[_T]] = partial(work, **asked)
            found = ask(data_dir, config, question)
            say_json(found) if as_json else show(found)

        parameters = _parameters(work)
        command.__annotations__ = {name: p.annotation for name, p in parameters.items()}
        command.__signature__ = inspect.Signature([*parameters.values()])  # type: ignore[attr-defined]  # inspect reads it
        return command

    return made


def saying(sentence: str) -> Callable[[Any], None]:
    """Show an answer by a sentence alone, in which ``{name}`` stands for a part of it."""
    return lambda found: say(sentence.format(**found))


def _parameters(work: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of ``work`` after its client, and those that all commands have."""
    hints = get_type_hints(work, include_extras=True)
    _client, *own = inspect.signature(work).parameters.values()
    kind = inspect.Parameter.KEYWORD_ONLY
    named = {p.name: p.replace(annotation=hints[p.name], kind=kind) for p in own}
    for name, (annotation, default) in _COMMON.items():
        named[name] = inspect.Parameter(name, kind, default=default, annotation=annotation)
    return named
