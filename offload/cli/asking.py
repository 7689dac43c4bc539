"""
A command that asks the running instance.

``asking`` makes it of what is to be asked and how the answer is shown. Options that several
commands have are a dataclass, written down once: ``gathered`` makes its fields options.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, get_type_hints

import typer

from offload.cli.terminal import ConfigOption, DataDirOption, JsonOption, say, say_json
from offload.client import Client, connect

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Command = Callable[..., None]
_OPTION: Final = inspect.Parameter.KEYWORD_ONLY


def ask(data_dir: Path | None, config: Path | None, work: Callable[[Client], Awaitable[_T]]) -> _T:
    """Return what ``work`` makes of the running instance; raise ``NotRunning``."""

    async def session() -> _T:
        async with connect(data_dir, config=config) as client:
            return await work(client)

    return asyncio.run(session())


@dataclass(frozen=True, kw_only=True)
class Common:
    """What all commands are told: which instance is asked, and for whom the answer is."""

    as_json: JsonOption = False
    config: ConfigOption = None
    data_dir: DataDirOption = None

    def ask(self, work: Callable[[Client], Awaitable[_T]]) -> _T:
        """Return what ``work`` makes of the running instance; raise ``NotRunning``."""
        return ask(self.data_dir, self.config, work)


def gathered(command: _Command) -> _Command:
    """Give ``command`` the options that the fields of its dataclasses are, each in its place."""
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters.values()
    groups = {p.name: hints[p.name] for p in parameters if is_dataclass(hints[p.name])}

    @wraps(command)
    def told(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{f.name: given.pop(f.name) for f in fields(group)})
        command(**given)

    known: list[inspect.Parameter] = []
    for p in parameters:
        own = [p.replace(annotation=hints[p.name], kind=_OPTION)]
        known += _options(groups[p.name]) if p.name in groups else own
    told.__annotations__ = {p.name: p.annotation for p in known}
    told.__signature__ = inspect.Signature(known)  # type: ignore[attr-defined]  # inspect reads it
    return told


def asking(
    show: Callable[[_T], None],
) -> Callable[[Callable[Concatenate[Client, _P], Awaitable[_T]]], _Command]:
    """
    Make a command of ``async def work(client, …)``, with the options that all commands have.

    What ``work`` returns is printed as JSON, or by ``show``.
    """

    def made(work: Callable[Concatenate[Client, _P], Awaitable[_T]]) -> _Command:
        @wraps(work)
        def command(*, common: Common, **asked: Any) -> None:
            question: Callable[[Client], Awaitable[_T]] = partial(work, **asked)
            found = common.ask(question)
            say_json(found) if common.as_json else show(found)

        hints = get_type_hints(work, include_extras=True)
        _client, *own = inspect.signature(work).parameters.values()
        last = inspect.Parameter("common", _OPTION, annotation=Common)
        known = [*(p.replace(annotation=hints[p.name], kind=_OPTION) for p in own), last]
        command.__annotations__ = {p.name: p.annotation for p in known}
        command.__signature__ = inspect.Signature(known)  # type: ignore[attr-defined]  # inspect reads it
        return gathered(command)

    return made


def by_default(commands: typer.Typer, words: str) -> Callable[[_Command], _Command]:
    """Let ``commands`` do what the decorated one does if none of them is named."""

    def made(command: _Command) -> _Command:
        @commands.callback(invoke_without_command=True, help=words)
        @gathered
        def default(context: typer.Context, common: Common) -> None:
            if context.invoked_subcommand is None:
                command(**vars(common))

        return command

    return made


def saying(sentence: str) -> Callable[[Any], None]:
    """Show an answer by a sentence alone, in which ``{name}`` stands for a part of it."""
    return lambda found: say(sentence.format(**found))


def _options(group: type[Any]) -> list[inspect.Parameter]:
    """Return the fields of a dataclass as parameters."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(f.name, _OPTION, default=f.default, annotation=hints[f.name])
        for f in fields(group)
    ]
