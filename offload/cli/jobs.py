"""``offload jobs``, ``offload job …``, ``offload explain``: what has become of jobs, and why."""

import json
from typing import Annotated, Any, Final

import typer

from offload.cli.terminal import (
    SHORT_INSTANCE,
    SHORT_JOB,
    ConfigOption,
    DataDirOption,
    JsonOption,
    age,
    ask,
    facts,
    local_time,
    printable,
    say,
    say_json,
    table,
)
from offload.client import Client
from offload.errors import Refused

job: Final = typer.Typer(help="Look at one job, or change what becomes of it.")
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or how it starts.")]


def jobs(
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state.")] = None,
    topic: Annotated[str, typer.Option(help="Only jobs of this topic or pattern.")] = "**",
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List the jobs that were added here, newest first."""

    async def work(client: Client) -> list[dict[str, Any]]:
        return await client.jobs(states=state or (), topic=topic, limit=limit)

    found = ask(data_dir, config, work)
    if as_json:
        say_json(found)
    elif found:
        columns = ("ID", "TOPIC", "STATE", "TRY", "WORKER", "AGE", "REASON")
        table(columns, [_row(entry) for entry in found])
    else:
        say("no jobs")


@job.command()
def show(
    job_id: IdArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show all about a job: its attempts, its result or why there is none."""

    async def work(client: Client) -> dict[str, Any]:
        return await client.describe(job_id)

    found = ask(data_dir, config, work)
    if as_json:
        say_json(found)
    else:
        _show(found)


@job.command()
def logs(
    job_id: IdArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show what a job has logged."""

    async def work(client: Client) -> list[dict[str, Any]]:
        return await client.logs(job_id)

    lines = ask(data_dir, config, work)
    if as_json:
        say_json(lines)
        return
    for line in lines:
        if line["kind"] != "progress":
            say(f"{local_time(line['at'])}  {printable(line['text'])}")


@job.command()
def stop(job_id: IdArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Stop a job wherever it is: no outcome of it will count any more."""

    async def work(client: Client) -> bool:
        return await client.stop(job_id)

    if not ask(data_dir, config, work):
        raise Refused(f"job {job_id} has ended already")
    say("stopped")


@job.command()
def retry(job_id: IdArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Add a finished job anew, and print the new one's id."""

    async def work(client: Client) -> str:
        return (await client.retry(job_id)).id

    say(ask(data_dir, config, work))


@job.command()
def remove(job_id: IdArgument, config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Drop a job; one that is finished already is deleted for good."""

    async def work(client: Client) -> bool:
        return await client.remove(job_id)

    if not ask(data_dir, config, work):
        raise Refused(f"job {job_id} is under way; stop it first")
    say("removed")


def explain(
    what: Annotated[str, typer.Argument(metavar="ID|TOPIC", help="A job, or a topic.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Say why a job is where it is, or who would run a topic."""

    async def work(client: Client) -> dict[str, Any]:
        return await client.explain(what)

    found = ask(data_dir, config, work)
    if as_json:
        say_json(found)
        return
    say(printable(found["sentence"]))
    if found["candidates"]:
        table(("", "INSTANCE", "REASONS"), [_candidate(c) for c in found["candidates"]])


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        entry["id"][:SHORT_JOB],
        entry["topic"],
        entry["state"],
        str(entry["attempt"]),
        _worker(entry),
        age(entry["created"]),
        entry["reason"] or "",
    )


def _show(found: dict[str, Any]) -> None:
    error = found.get("error") or {}
    facts(
        [
            ("job", found["id"]),
            ("topic", found["topic"]),
            ("queue", found["queue"]),
            ("state", found["state"]),
            ("reason", found["reason"] or ""),
            ("priority", str(found["priority"] or "")),
            ("worker", _worker(found)),
            ("created", local_time(found["created"])),
            ("started", local_time(found["started"])),
            ("finished", local_time(found["finished"])),
            ("failures", str(found["failures"] or "")),
            ("crashes", str(found["crashes"] or "")),
            ("into", found["into"] or ""),
            *(("output", path) for path in found.get("outputs") or ()),
            ("value", _value(found.get("value"))),
            ("error", f"{error.get('type')}: {error.get('message')}" if error else ""),
        ]
    )
    if error.get("traceback"):
        say()
        for line in error["traceback"].rstrip().split("\n"):
            say(printable(line))
    if found.get("attempts"):
        say()
        columns = ("TRY", "WORKER", "RESULT", "SECONDS", "ENDED", "REASON")
        table(columns, [_attempt(attempt) for attempt in found["attempts"]])


def _attempt(attempt: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(attempt["number"]),
        _worker(attempt),
        attempt["result"],
        f"{attempt['run_s']:.2f}",
        local_time(attempt["ended"]),
        attempt["reason"] or "",
    )


def _candidate(candidate: dict[str, Any]) -> tuple[str, ...]:
    return (
        "*" if candidate["chosen"] else "",
        candidate.get("name") or candidate["instance"][:SHORT_INSTANCE],
        "; ".join(candidate["reasons"]),
    )


def _worker(entry: dict[str, Any]) -> str:
    return entry.get("worker_name") or (entry.get("worker") or "")[:SHORT_INSTANCE]


def _value(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
