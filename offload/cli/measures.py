"""``offload statistics`` and ``offload events``: what is measured of jobs, and what happens."""

import json
from typing import Annotated, Any

import typer

from offload.cli.asking import ask, asking
from offload.cli.tables import table
from offload.cli.terminal import (
    SHORT_JOB,
    ConfigOption,
    DataDirOption,
    JsonOption,
    age,
    clock_time,
    printable,
    say,
)
from offload.client import Client


def _measured(found: dict[str, Any]) -> None:
    lines = [
        ("all", found["total"]),
        *((f"queue {name}", line) for name, line in found["queues"].items()),
        *(found["topics"].items()),
    ]
    columns = ("", "WAIT", "RUN", "DONE", "RETRIED", "ELSE", "DONE/MIN", "WAITING", "PROCESSING")
    table((*columns, "LAST"), [_row(name, line) for name, line in lines])
    say()
    say("WAITING and PROCESSING: seconds, average / p50 / p95 / p99, of what succeeded")


@asking(_measured)
async def statistics(
    client: Client,
    reset: Annotated[bool, typer.Option("--reset", help="Count anew from now on.")] = False,
) -> dict[str, Any]:
    """Show what was counted and measured, by queue and by topic."""
    if reset:
        await client.reset_statistics()
    return await client.statistics()


def events(
    topic: Annotated[str, typer.Argument(metavar="PATTERN", help="Topic or pattern.")] = "**",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Tell what happens to jobs from now on, until interrupted; with --json a line each."""

    async def work(client: Client) -> None:
        async for event in client.events(topic):
            say(json.dumps(event, ensure_ascii=False) if as_json else _told(event))

    ask(data_dir, config, work)


def _row(name: str, line: dict[str, Any]) -> tuple[str, ...]:
    numbers = ("queued", "active", "finished", "failed", "cancelled")
    return (
        name,
        *(str(line[number]) for number in numbers),
        f"{line['ended_per_s'] * 60:.0f}",
        _spread(line["waiting"]),
        _spread(line["processing"]),
        age(line["last_finished"]) or "never",
    )


def _spread(spread: dict[str, float]) -> str:
    return " / ".join(f"{value:.3g}" for value in spread.values())


def _told(event: dict[str, Any]) -> str:
    what = event["kind"] if event["kind"] != "state" else event["state"]
    more = event.get("text") or event.get("reason") or ""
    where = event.get("topic") or ""
    parts = (clock_time(event["wall"]), event["id"][:SHORT_JOB], where, what, printable(more))
    return "  ".join(filter(None, parts))
