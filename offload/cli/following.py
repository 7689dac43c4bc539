"""A job as it happens: a progress bar in a terminal, lines of text elsewhere."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from operator import itemgetter
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from offload.cli.terminal import SHORT_INSTANCE, clock_time, printable, say
from offload.client import Client, RemoteJob


async def follow(client: Client, job: RemoteJob) -> dict[str, Any]:
    """Show what happens to ``job`` until it has ended; return all about it then."""
    say(f"job {job.id}")
    try:
        if sys.stdout.isatty():
            await _draw(_story(client, job), _Names(client))
        else:
            await _tell(_story(client, job), _Names(client))
    except asyncio.CancelledError:
        typer.echo(f"the job goes on; see it with: offload job show {job.id}", err=True)
        raise
    return await job.wait()


def show_result(job: dict[str, Any]) -> None:
    """Print what came of a job that has ended; why it failed goes to stderr."""
    if job["state"] == "succeeded":
        outputs = job.get("outputs") or []
        for path in outputs:
            say(printable(path))
        value = job.get("value")
        if value is not None and not (outputs and isinstance(value, str)):
            say(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        return
    error = job.get("error") or {}
    reason = job.get("reason") or error.get("message") or "no reason was given"
    if error.get("traceback"):
        say(error["traceback"].rstrip(), err=True)
    typer.secho(
        f"offload: job {job['id']} is {job['state']}: {printable(reason)}",
        err=True,
        fg=typer.colors.RED,
    )


def describe(event: dict[str, Any], worker: str = "") -> str:
    """Return an event as words; ``worker`` is the name of the one where the job is."""
    if event["kind"] == "state":
        where = f" on {printable(worker)}" if worker else ""
        reason = f": {printable(event['reason'])}" if event.get("reason") else ""
        return f"{event['state']}{where}{reason}"
    if event["kind"] == "progress":
        done, total, eta_s = (_number(event.get(name)) for name in ("done", "total", "eta_s"))
        share = f"{done or 0:g} of {total:g}" if total else f"{done or 0:g}"
        left = f" ({eta_s:.0f} s left)" if eta_s else ""
        return f"progress {share}{left} {printable(event['text'] or '')}".rstrip()
    if event["kind"] in ("partial", "properties"):
        told = event["value"] if event["kind"] == "partial" else event["properties"]
        return f"{event['kind']} {printable(json.dumps(told, ensure_ascii=False, default=str))}"
    return f"| {printable(event['text'])}"


def _number(value: Any) -> float | None:
    """Return a number of a job's progress, if it is one: what is told of it may be anything."""
    return value if isinstance(value, int | float) and -1e18 < value < 1e18 else None


class _Names:
    """Names of workers, asked for when one is new."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._names: dict[str, str] = {"": ""}

    async def of(self, event: dict[str, Any]) -> str:
        worker = event.get("worker") or ""
        if worker not in self._names:
            view = await self._client.topology()
            self._names |= {i["id"]: i["name"] for i in view["instances"]}
        return self._names.get(worker, worker[:SHORT_INSTANCE])


async def _story(client: Client, job: RemoteJob) -> AsyncIterator[dict[str, Any]]:
    """Yield what happens to ``job``, and the lines of its log that were there before."""
    known: Counter[tuple[int, str]] | None = None
    async for event in job.events():
        if known is None:
            earlier = [_logged(line) for line in await client.logs(job.id) if line["kind"] == "log"]
            known = Counter(map(_heard, earlier))
            for one in sorted([event, *earlier], key=itemgetter("wall")):
                yield one
        elif event["kind"] == "log" and known[_heard(event)]:
            known[_heard(event)] -= 1
        else:
            yield event


def _logged(line: dict[str, Any]) -> dict[str, Any]:
    """Return a kept line of a log as the event that it was."""
    wall = datetime.fromisoformat(line["at"]).timestamp()
    return {"kind": "log", "wall": wall, "text": line["text"]}


def _heard(event: dict[str, Any]) -> tuple[int, str]:
    """Return what a line is known by; of its time, milliseconds are kept."""
    return round(event["wall"] * 1e6) // 1000, event["text"]


async def _tell(story: AsyncIterator[dict[str, Any]], names: _Names) -> None:
    async for event in story:
        words = describe(event, await names.of(event))
        say(f"{clock_time(event['wall'])}  {words}")


async def _draw(story: AsyncIterator[dict[str, Any]], names: _Names) -> None:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(), transient=True) as bars:
        bar = bars.add_task("queued", total=None)
        async for event in story:
            words = describe(event, await names.of(event))
            if event["kind"] == "progress":
                done, total = _number(event["done"]), _number(event["total"])
                bars.update(bar, completed=done or 0, total=total)
                if event["text"]:
                    bars.update(bar, description=printable(event["text"]))
            elif event["kind"] == "state":
                bars.update(bar, description=words)
            else:
                bars.console.print(Text(words))
