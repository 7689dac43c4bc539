"""``offload topics``: which instance runs what, and the switches of that, for every instance."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import typer

from offload.cli.terminal import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    ask,
    say,
    say_json,
    table,
)
from offload.client import Client

topics: Final = typer.Typer(help="Look at what each instance runs; enable, disable, reset it.")
_MARKS: Final = {"enabled": "yes", "disabled": "disabled", "absent": "-"}
TopicsArgument = Annotated[list[str], typer.Argument(metavar="TOPIC...", help="Or patterns.")]
AnyTopicsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[TOPIC...]", help="Or patterns; none: all.")
]
OnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--on", metavar="INSTANCE", help="Name or id; may be repeated (default: the own one)."
    ),
]


@topics.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Look at what each instance runs; without a command: the matrix of topics and instances."""
    if context.invoked_subcommand is None:
        listed(as_json=as_json, config=config, data_dir=data_dir)


@topics.command("list")
def listed(
    as_json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None
) -> None:
    """Show what each instance runs: enabled (with its version), disabled, or not there."""
    found = ask(data_dir, config, lambda client: client.topics.all())
    if as_json:
        say_json(found)
        return
    instances = found["instances"]
    columns = ("TOPIC", *(f"{i['name']}{' (own)' if i['own'] else ''}" for i in instances))
    ids = [instance["id"] for instance in instances]
    table(columns, [_row(line, ids) for line in found["topics"]])


@topics.command()
def enable(
    patterns: TopicsArgument,
    on: OnOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Run topics again; done there, and kept, when this returns."""
    _switch(on, "enabled", lambda c, i: c.topics.enable(*patterns, on=i), config, data_dir)


@topics.command()
def disable(
    patterns: TopicsArgument,
    on: OnOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Run topics no more, over restarts too; what runs goes on, what waits there goes back."""
    _switch(on, "disabled", lambda c, i: c.topics.disable(*patterns, on=i), config, data_dir)


@topics.command()
def only(
    patterns: TopicsArgument,
    on: OnOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Let an instance run these topics and no others."""
    _switch(on, "exclusive", lambda c, i: c.topics.only(*patterns, on=i), config, data_dir)


@topics.command()
def reset(
    patterns: AnyTopicsArgument = None,
    on: OnOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Forget what was switched: the instance runs what its configuration allows."""
    _switch(on, "reset", lambda c, i: c.topics.reset(*patterns or (), on=i), config, data_dir)


def _switch(
    on: list[str] | None,
    done: str,
    work: Callable[[Client, str], Awaitable[Any]],
    config: Any,
    data_dir: Any,
) -> None:
    """Do it on each instance, one after the other, and say so."""
    for instance in on or [""]:

        async def switch(client: Client, instance: str = instance) -> None:
            await work(client, instance)

        ask(data_dir, config, switch)
        say(f"{done} on {instance}" if instance else done)


def _row(line: dict[str, Any], ids: list[str]) -> tuple[str, ...]:
    cells = (line["instances"][i] for i in ids)
    return line["topic"], *(_MARKS[c["state"]] + _version(c) for c in cells)


def _version(cell: dict[str, str]) -> str:
    return f" ({cell['version']})" if cell["version"] else ""
