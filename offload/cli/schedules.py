"""``offload schedules``: what is made when it is time."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import typer

from offload.cli.asking import Common, asking, by_default, gathered, saying
from offload.cli.tables import table
from offload.cli.terminal import SHORT_INSTANCE, facts, say, say_json
from offload.cli.wishes import FilesArgument, Wishes
from offload.client import Client

schedules: Final = typer.Typer(help="Jobs that are made when it is time.")
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id, or its start.")]
_SHORT: Final = 10


def _when(text: str) -> Any:
    return typer.Option(metavar="TIME", help=text)


def _list(found: list[dict[str, Any]]) -> None:
    if found:
        columns = ("ID", "TOPIC", "WHEN", "ZONE", "SCOPE", "STATE", "NEXT", "FIRES", "")
        table(columns, [_row(entry) for entry in found])
    else:
        say("no schedules")


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        entry["id"][:_SHORT],
        entry["topic"],
        entry["when"],
        entry["zone"],
        entry["scope"],
        entry["state"],
        _moment(entry["next"][0]) if entry["next"] else "-",
        entry["fires_name"] or entry["fires"][:SHORT_INSTANCE],
        entry["trouble"],
    )


def _show(entry: dict[str, Any]) -> None:
    facts(
        [
            ("schedule", entry["id"]),
            ("topic", entry["topic"]),
            *_said("argument", entry),
            *_said("option", entry),
            ("when", f"{entry['when']} ({entry['zone']})" if entry["when"] else ""),
            ("misfire", entry["misfire"]),
            ("scope", _scope(entry)),
            ("state", entry["state"]),
            ("last", _moment(entry["last"]) if entry["last"] else ""),
            *(("next" if not n else " ", _moment(at)) for n, at in enumerate(entry["next"])),
            ("trouble", entry["trouble"]),
        ]
    )


def _scope(entry: dict[str, Any]) -> str:
    return f"{entry['scope']}, fired by {entry['fires_name']}" if entry["scope"] else ""


def _said(kind: str, entry: dict[str, Any]) -> list[tuple[str, str]]:
    """Return lines for what is said for the jobs; an instance of an earlier version does not."""
    said = sorted((entry.get(f"{kind}s") or {}).items())
    return [(kind, _assigned(name, value)) for name, value in said]


def _assigned(name: str, value: Any) -> str:
    if name.endswith("_s"):
        return f"{name.removesuffix('_s')} = {value:g} s"
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"


def _moment(text: str) -> str:
    """Return a moment as the clocks of its zone show it."""
    return datetime.fromisoformat(text).strftime("%a %Y-%m-%d %H:%M:%S %z")


@by_default(schedules, "Jobs that are made when it is time; without a command: list them.")
@schedules.command("list")
@asking(_list)
async def listed(client: Client) -> list[dict[str, Any]]:
    """List the schedules, the next to fire first."""
    return await client.schedules()


@dataclass(frozen=True, kw_only=True)
class Times:
    """When a schedule fires: exactly one of these is said."""

    every: Annotated[str | None, _when("A duration, such as 90s or 2h.")] = None
    hourly: Annotated[str | None, _when("The minute, such as 5.")] = None
    daily: Annotated[str | None, _when("Such as 10:05.")] = None
    weekly: Annotated[str | None, _when('Such as "wed 19:12".')] = None
    monthly: Annotated[str | None, _when('Such as "1 10:05" or "last 10:05".')] = None
    yearly: Annotated[str | None, _when('Such as "12-24 18:00".')] = None
    at: Annotated[str | None, _when('Once, such as "2030-01-31 10:05".')] = None
    cron: Annotated[str | None, _when('Five fields, such as "*/15 8-18 * * mon-fri".')] = None


@dataclass(frozen=True, kw_only=True)
class How:
    """In which zone a schedule fires, who fires, and what becomes of what was missed."""

    zone: Annotated[
        str, typer.Option(help="Time zone, such as Europe/Berlin (default: the machine's).")
    ] = ""
    misfire: Annotated[
        Literal["skip", "once", "all"], typer.Option(help="How many of the missed ones to make up.")
    ] = "once"
    scope: Annotated[
        Literal["instance", "topology"],
        typer.Option(help="Whether this instance fires, or one in the whole topology."),
    ] = "instance"


@schedules.command()
@gathered
def add(
    topic: Annotated[str, typer.Argument(help="Topic of the jobs, such as backup/photos.")],
    files: FilesArgument = None,
    *,
    times: Times,
    how: How,
    wishes: Wishes,
    common: Common,
) -> None:
    """Add a schedule; the same one again changes nothing. Say when in exactly one way."""
    encoded, options = wishes.arguments(files), wishes.options()

    async def work(client: Client) -> dict[str, Any]:
        return await client.schedule_encoded(topic, encoded, vars(times), options, **vars(how))

    made = common.ask(work)
    say_json(made) if common.as_json else _show(made)


@schedules.command()
@asking(_show)
async def show(client: Client, schedule_id: IdArgument) -> dict[str, Any]:
    """Show a schedule and its next five firings."""
    return await client.schedule_info(schedule_id)


@schedules.command()
@asking(_show)
async def suspend(client: Client, schedule_id: IdArgument) -> dict[str, Any]:
    """Let a schedule fire no more until it is resumed, also after a restart."""
    return await client.suspend_schedule(schedule_id)


@schedules.command()
@asking(_show)
async def resume(client: Client, schedule_id: IdArgument) -> dict[str, Any]:
    """Let a suspended schedule fire from now on."""
    return await client.resume_schedule(schedule_id)


@schedules.command()
@asking(saying("removed"))
async def remove(client: Client, schedule_id: IdArgument) -> dict[str, Any]:
    """Remove a schedule; jobs that it has made stay."""
    await client.remove_schedule(schedule_id)
    return {"id": schedule_id, "removed": True}
