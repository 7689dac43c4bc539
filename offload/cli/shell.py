"""
From arguments to the command that they name, and from what went wrong to a sentence.

Exit codes: 0 done, 1 failed job or refused, 2 usage or configuration, 3 store fault, 4 no running
instance; 130 interrupted.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Final

import typer

from offload.cli.terminal import printable
from offload.errors import OffloadError

# name -> module and function (or group) in it; only what is wanted is imported
COMMANDS: Final = {
    "run": ("serving", "run"),
    "submit": ("submitting", "submit"),
    "jobs": ("jobs", "jobs"),
    "job": ("jobs", "job"),
    "explain": ("jobs", "explain"),
    "adopt": ("adopting", "adopt"),
    "dead-letters": ("letters", "letters"),
    "topics": ("topics", "topics"),
    "queues": ("queues", "queues"),
    "processing": ("queues", "processing"),
    "schedules": ("schedules", "schedules"),
    "events": ("measures", "events"),
    "statistics": ("measures", "statistics"),
    "topology": ("instance", "topology"),
    "status": ("instance", "status"),
    "doctor": ("doctor", "doctor"),
    "snooze": ("owner", "snooze"),
    "config": ("settings", "config"),
    "group": ("group", "group"),
    "init": ("group", "init"),
    "invite": ("group", "invite"),
    "join": ("group", "join"),
    "demo": ("showing", "demo"),
}


def run(args: Sequence[str]) -> int:
    """Run the command of ``args`` and return the exit code; errors of users are one line."""
    wanted = [args[0]] if args and args[0] in COMMANDS else list(COMMANDS)
    try:
        _command_line(wanted)(args=list(args), prog_name="offload")
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


def _command_line(names: Sequence[str]) -> typer.Typer:
    app = typer.Typer(
        help="Independent machines on a LAN share their heavy work.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_general)
    for name in names:
        module, attribute = COMMANDS[name]
        command = getattr(import_module(f"offload.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"offload {version('offload')}")
        except PackageNotFoundError:
            typer.echo("offload, not installed as a package")
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
