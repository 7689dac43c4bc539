"""``offload topics``: which instance runs what, and the switches of that, for every instance."""

from typing import Annotated, Any, Final

import typer

from offload.cli.asking import asking, by_default
from offload.cli.tables import table
from offload.cli.terminal import say
from offload.client import Client
from offload.errors import UsageError

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


def _matrix(found: dict[str, Any]) -> None:
    instances = found["instances"]
    columns = ("TOPIC", *(f"{i['name']}{' (own)' if i['own'] else ''}" for i in instances))
    ids = [instance["id"] for instance in instances]
    table(columns, [_row(line, ids) for line in found["topics"]])


def _switched(found: dict[str, Any]) -> None:
    for instance in found["on"]:
        say(f"{found['done']} on {instance}")


@by_default(
    topics,
    "Look at what each instance runs; without a command: all of it.",
)
@topics.command("list")
@asking(_matrix)
async def listed(client: Client) -> dict[str, Any]:
    """Show what each instance runs: enabled (with its version), disabled, or not there."""
    return await client.topics.all()


@topics.command()
@asking(_switched)
async def enable(client: Client, patterns: TopicsArgument, on: OnOption = None) -> dict[str, Any]:
    """Run topics again; done there, and kept, when this returns."""
    for instance in _where(on):
        await client.topics.enable(*patterns, on=instance)
    return _done("enabled", patterns, client, on)


@topics.command()
@asking(_switched)
async def disable(client: Client, patterns: TopicsArgument, on: OnOption = None) -> dict[str, Any]:
    """Run topics no more, over restarts too; what runs goes on, what waits there goes back."""
    for instance in _where(on):
        await client.topics.disable(*patterns, on=instance)
    return _done("disabled", patterns, client, on)


@topics.command()
@asking(_switched)
async def only(client: Client, patterns: TopicsArgument, on: OnOption = None) -> dict[str, Any]:
    """Let an instance run these topics and no others."""
    for instance in _where(on):
        await client.topics.only(*patterns, on=instance)
    return _done("exclusive", patterns, client, on)


@topics.command()
@asking(_switched)
async def reset(
    client: Client, patterns: AnyTopicsArgument = None, on: OnOption = None
) -> dict[str, Any]:
    """Forget what was switched: the instance runs what its configuration allows."""
    for instance in _where(on):
        await client.topics.reset(*patterns or (), on=instance)
    return _done("reset", patterns or ["**"], client, on)


def _where(on: list[str] | None) -> list[str]:
    """Return what ``on`` names; an empty name, as of an unset variable, is not the own instance."""
    if on and not all(on):
        raise UsageError("--on: '' names no instance")
    return on or [""]


def _done(done: str, patterns: list[str], client: Client, on: list[str] | None) -> dict[str, Any]:
    return {"done": done, "topics": patterns, "on": on or [client.name]}


def _row(line: dict[str, Any], ids: list[str]) -> tuple[str, ...]:
    cells = (line["instances"][i] for i in ids)
    return line["topic"], *(_MARKS[c["state"]] + _version(c) for c in cells)


def _version(cell: dict[str, str]) -> str:
    return f" ({cell['version']})" if cell["version"] else ""
