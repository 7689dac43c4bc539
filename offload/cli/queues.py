"""``offload queues``, ``offload processing``: what waits, and what may start here."""

from typing import Annotated, Any, Final, Literal

import typer

from offload.cli.terminal import (
    SHORT_JOB,
    ConfigOption,
    DataDirOption,
    JsonOption,
    age,
    ask,
    say,
    say_json,
    table,
)
from offload.client import Client

queues: Final = typer.Typer(help="Look at the queues; suspend, resume or clear one.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]


@queues.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Look at the queues; without a command: list them."""
    if context.invoked_subcommand is None:
        listed(as_json=as_json, config=config, data_dir=data_dir)


@queues.command("list")
def listed(
    as_json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None
) -> None:
    """List the queues: what waits in them, what runs, and whether they are open."""
    found = ask(data_dir, config, Client.queues)
    if as_json:
        say_json(found)
        return
    numbers = ("WAITING", "RUNNING", "UNDER WAY", "IN/S", "OUT/S")
    columns = ("NAME", "TYPE", "STATE", *numbers, "RATE", "OLDEST")
    table(columns, [_row(entry) for entry in found])


@queues.command()
def suspend(
    name: NameArgument, config: ConfigOption = None, data_dir: DataDirOption = None
) -> None:
    """Start no more jobs of a queue until it is resumed, over restarts too; what runs goes on."""
    ask(data_dir, config, lambda client: client.suspend_queue(name))
    say("suspended")


@queues.command()
def resume(name: NameArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Start the jobs of a queue again."""
    ask(data_dir, config, lambda client: client.resume_queue(name))
    say("resumed")


@queues.command()
def clear(
    name: NameArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Drop all jobs of a queue that wait."""
    dropped = ask(data_dir, config, lambda client: client.clear_queue(name))
    say_json({"dropped": dropped}) if as_json else say(f"{dropped} jobs dropped")


def processing(
    switch: Annotated[Literal["on", "off"], typer.Argument(help="Whether jobs may start here.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Let jobs start on this instance, or none, over restarts too; what runs goes on."""
    ask(data_dir, config, lambda client: client.set_processing(enabled=switch == "on"))
    say(f"processing is {switch}")


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        entry["name"],
        entry["type"] or "",
        entry["state"],
        str(entry["depth"]),
        f"{entry['running']} of {entry['max_parallel']}",
        str(entry["under_way"]),
        f"{entry['added_per_s']:.3g}",
        f"{entry['ended_per_s']:.3g}",
        entry["rate"] or "",
        f"{entry['oldest_job'][:SHORT_JOB]} {age(entry['oldest'])}" if entry["oldest"] else "",
    )
