"""
From arguments to the command that they name, and from what went wrong to a sentence.

Exit codes: 0 done, 1 failed job or refused, 2 usage or configuration, 3 store fault, 4 no running
instance; 130 interrupted.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from itertools import dropwhile
from typing import Annotated, Any

import typer

from offload.cli.contents import COMMANDS, Entry, Group
from offload.cli.terminal import printable
from offload.errors import OffloadError
from offload.version import VERSION


def run(args: Sequence[str]) -> int:
    """Run the command of ``args`` and return the exit code; errors of users are one line."""
    try:
        command_line(args)(args=list(args), prog_name="offload")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except OffloadError as error:
        return refuse(error)
    except BaseExceptionGroup as group:
        known = next((leaf for leaf in _leaves(group) if isinstance(leaf, OffloadError)), None)
        if known is None:
            raise
        return refuse(known)
    return 0


def refuse(error: OffloadError) -> int:
    """Say on stderr what went wrong; return the exit code."""
    sentence = printable(" ".join(str(error).split()))
    typer.secho(f"offload: {sentence}", err=True, fg=typer.colors.RED)
    return error.exit_code


def command_line(args: Sequence[str]) -> typer.Typer:
    """Return all commands; of them only the one that ``args`` name is imported."""
    app = _listed(COMMANDS, args, "Independent machines on a LAN share their heavy work.")
    app.callback()(_general)
    return app


def load(entry: Entry) -> Any:
    """Import a command."""
    return getattr(import_module(f"offload.cli.{entry.module}"), entry.attribute)


# --- inside --------------------------------------------------------------------------------------


def _listed(
    commands: Mapping[str, Entry | Group], args: Sequence[str], summary: str
) -> typer.Typer:
    app = typer.Typer(
        help=summary,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    args = list(dropwhile(_is_option, args))
    for name, entry in commands.items():
        wanted = args[:1] == [name]
        if isinstance(entry, Group):
            below = _listed(entry.commands, args[1:] if wanted else [], entry.summary)
            app.add_typer(below, name=name)
        elif not wanted:
            app.command(name, help=entry.summary)(_only_listed)
        elif isinstance(command := load(entry), typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _is_option(word: str) -> bool:
    return word.startswith("-")


def _only_listed() -> None:
    """Stand in the list for a command that is not wanted."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"offload {VERSION}")
        raise typer.Exit


def _general(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """Independent machines on a LAN share their heavy work."""


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
