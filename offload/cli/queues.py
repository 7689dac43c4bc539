"""``offload queues``, ``offload processing``: what waits, and what may start here."""

from typing import Annotated, Any, Final, Literal

import typer

from offload.cli.asking import asking, by_default, saying
from offload.cli.tables import table
from offload.cli.terminal import SHORT_JOB, age
from offload.client import Client

queues: Final = typer.Typer(help="Look at the queues; suspend, resume or clear one.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The queue's name.")]


def _list(found: list[dict[str, Any]]) -> None:
    numbers = ("WAITING", "RUNNING", "UNDER WAY", "IN/S", "OUT/S")
    columns = ("NAME", "TYPE", "STATE", *numbers, "RATE", "OLDEST")
    table(columns, [_row(entry) for entry in found])


@by_default(queues, "Look at the queues; without a command: list them.")
@queues.command("list")
@asking(_list)
async def listed(client: Client) -> list[dict[str, Any]]:
    """List the queues: what waits in them, what runs, and whether they are open."""
    return await client.queues()


@queues.command()
@asking(saying("suspended"))
async def suspend(client: Client, name: NameArgument) -> dict[str, Any]:
    """Start no more jobs of a queue until it is resumed, over restarts too; what runs goes on."""
    await client.suspend_queue(name)
    return {"name": name, "suspended": True}


@queues.command()
@asking(saying("resumed"))
async def resume(client: Client, name: NameArgument) -> dict[str, Any]:
    """Start the jobs of a queue again."""
    await client.resume_queue(name)
    return {"name": name, "suspended": False}


@queues.command()
@asking(saying("{dropped} jobs dropped"))
async def clear(client: Client, name: NameArgument) -> dict[str, Any]:
    """Drop all jobs of a queue that wait."""
    return {"dropped": await client.clear_queue(name)}


@asking(saying("processing is {processing}"))
async def processing(
    client: Client,
    switch: Annotated[Literal["on", "off"], typer.Argument(help="Whether jobs may start here.")],
) -> dict[str, Any]:
    """Let jobs start on this instance, or none, over restarts too; what runs goes on."""
    await client.set_processing(enabled=switch == "on")
    return {"processing": switch}


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
        _oldest(entry),
    )


def _oldest(entry: dict[str, Any]) -> str:
    """Return the job that waits longest, and for how long if that is known."""
    return f"{(entry['oldest_job'] or '')[:SHORT_JOB]} {age(entry['oldest'])}".strip()
