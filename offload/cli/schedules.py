"""``offload schedules``: what is made when it is time."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from offload.cli.submitting import arguments
from offload.cli.terminal import (
    SHORT_INSTANCE,
    ConfigOption,
    DataDirOption,
    JsonOption,
    ask,
    facts,
    say,
    say_json,
    table,
)
from offload.client import Client
from offload.job import Options
from offload.payload import encode

schedules: Final = typer.Typer(help="Jobs that are made when it is time.")
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id, or its start.")]
_SHORT: Final = 10


def _when(text: str) -> Any:
    return typer.Option(metavar="TIME", help=text)


@schedules.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Jobs that are made when it is time; without a command: list them."""
    if context.invoked_subcommand is None:
        listed(as_json=as_json, config=config, data_dir=data_dir)


@schedules.command("list")
def listed(
    as_json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None
) -> None:
    """List the schedules, the next to fire first."""
    found = ask(data_dir, config, Client.schedules)
    if as_json:
        say_json(found)
    elif found:
        columns = ("ID", "TOPIC", "WHEN", "ZONE", "SCOPE", "STATE", "NEXT", "FIRES", "")
        table(columns, [_row(entry) for entry in found])
    else:
        say("no schedules")


@schedules.command()
def add(
    topic: Annotated[str, typer.Argument(help="Topic of the jobs, such as backup/photos.")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Input files, read at each firing.")
    ] = None,
    every: Annotated[str | None, _when("A duration, such as 90s or 2h.")] = None,
    hourly: Annotated[str | None, _when("The minute, such as 5.")] = None,
    daily: Annotated[str | None, _when("Such as 10:05.")] = None,
    weekly: Annotated[str | None, _when('Such as "wed 19:12".')] = None,
    monthly: Annotated[str | None, _when('Such as "1 10:05" or "last 10:05".')] = None,
    yearly: Annotated[str | None, _when('Such as "12-24 18:00".')] = None,
    at: Annotated[str | None, _when('Once, such as "2030-01-31 10:05".')] = None,
    cron: Annotated[str | None, _when('Five fields, such as "*/15 8-18 * * mon-fri".')] = None,
    zone: Annotated[
        str, typer.Option(help="Time zone, such as Europe/Berlin (default: the machine's).")
    ] = "",
    misfire: Annotated[
        Literal["skip", "once", "all"], typer.Option(help="How many of the missed ones to make up.")
    ] = "once",
    scope: Annotated[
        Literal["instance", "topology"],
        typer.Option(help="Whether this instance fires, or one in the whole topology."),
    ] = "instance",
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", "-a", metavar="NAME=VALUE", help="An argument, as for submit."),
    ] = None,
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where output files shall be placed.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Higher ones go first.")] = 0,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Add a schedule; the same one again changes nothing. Say when in exactly one way."""
    said = {
        "every": every,
        "hourly": hourly,
        "daily": daily,
        "weekly": weekly,
        "monthly": monthly,
        "yearly": yearly,
        "at": at,
        "cron": cron,
    }
    value = arguments(files or [], arg or [])
    encoded = encode(dict(sorted(value.items())))
    options = Options(priority=priority, into=str(into.absolute()) if into else "")

    async def work(client: Client) -> dict[str, Any]:
        return await client.schedule_encoded(
            topic, encoded, said, options, zone=zone, misfire=misfire, scope=scope
        )

    _show(ask(data_dir, config, work), as_json=as_json)


@schedules.command()
def show(
    schedule_id: IdArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show a schedule and its next five firings."""

    async def work(client: Client) -> dict[str, Any]:
        return await client.schedule_info(schedule_id)

    _show(ask(data_dir, config, work), as_json=as_json)


@schedules.command()
def suspend(
    schedule_id: IdArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Let a schedule fire no more until it is resumed, also after a restart."""

    async def work(client: Client) -> dict[str, Any]:
        return await client.suspend_schedule(schedule_id)

    _show(ask(data_dir, config, work), as_json=as_json)


@schedules.command()
def resume(
    schedule_id: IdArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Let a suspended schedule fire from now on."""

    async def work(client: Client) -> dict[str, Any]:
        return await client.resume_schedule(schedule_id)

    _show(ask(data_dir, config, work), as_json=as_json)


@schedules.command()
def remove(
    schedule_id: IdArgument, config: ConfigOption = None, data_dir: DataDirOption = None
) -> None:
    """Remove a schedule; jobs that it has made stay."""

    async def work(client: Client) -> None:
        await client.remove_schedule(schedule_id)

    ask(data_dir, config, work)
    say("removed")


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


def _show(entry: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        say_json(entry)
        return
    facts(
        [
            ("schedule", entry["id"]),
            ("topic", entry["topic"]),
            ("when", f"{entry['when']} ({entry['zone']})"),
            ("misfire", entry["misfire"]),
            ("scope", f"{entry['scope']}, fired by {entry['fires_name']}"),
            ("state", entry["state"]),
            ("last", _moment(entry["last"]) if entry["last"] else ""),
            *(("next" if not n else " ", _moment(at)) for n, at in enumerate(entry["next"])),
            ("trouble", entry["trouble"]),
        ]
    )


def _moment(text: str) -> str:
    """Return a moment as the clocks of its zone show it."""
    return datetime.fromisoformat(text).strftime("%a %Y-%m-%d %H:%M:%S %z")
