"""``offload jobs``, ``offload job …``, ``offload explain``: what has become of jobs, and why."""

import json
from typing import Annotated, Any, Final

import typer

from offload.cli.asking import asking, saying
from offload.cli.tables import table
from offload.cli.terminal import SHORT_INSTANCE, SHORT_JOB, age, facts, local_time, printable, say
from offload.client import Client
from offload.errors import Refused
from offload.work.jobs import condition

job: Final = typer.Typer(help="Look at one job, or change what becomes of it.")
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or how it starts.")]


# --- how it is shown ---------------------------------------------------------------------------


def _list(found: Any) -> None:
    if isinstance(found, dict):
        say(str(found["count"]))
    elif found:
        columns = ("ID", "TOPIC", "STATE", "TRY", "WORKER", "AGE", "SEQ", "REASON")
        table(columns, [_row(entry) for entry in found])
    else:
        say("no jobs")


def _log(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        if line["kind"] != "progress":
            say(f"{local_time(line['at'])}  {printable(line['text'])}")


def _explained(found: dict[str, Any]) -> None:
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
        str(entry["seq"] or ""),
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
            ("repeats", found.get("again_of") or ""),
            ("priority", str(found["priority"] or "")),
            ("delivery", found.get("delivery") or ""),
            ("key", found.get("key") or ""),
            ("order by", found.get("order_by") or ""),
            (
                "needs",
                ", ".join(f"{n}={amount:g}" for n, amount in (found.get("needs") or {}).items()),
            ),
            (
                "where",
                ", ".join(condition(n, text) for n, text in (found.get("where") or {}).items()),
            ),
            ("worker", _worker(found)),
            ("created", local_time(found["created"])),
            ("not before", local_time(found.get("not_before"))),
            ("expires", local_time(found.get("expires"))),
            ("deadline", local_time(found.get("deadline"))),
            ("started", local_time(found["started"])),
            ("finished", local_time(found["finished"])),
            ("failures", str(found["failures"] or "")),
            ("crashes", str(found["crashes"] or "")),
            ("into", found["into"] or ""),
            *(("output", path) for path in found.get("outputs") or ()),
            ("value", _value(found.get("value"))),
            ("error", _error(error.get("type") or "", error.get("message") or "")),
        ]
    )
    if error.get("traceback"):
        say()
        say(error["traceback"].rstrip())
    if found.get("attempts"):
        say()
        columns = ("TRY", "WORKER", "RESULT", "SECONDS", "ENDED", "REASON")
        table(columns, [_attempt(attempt) for attempt in found["attempts"]])


def _attempt(attempt: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(attempt["number"]),
        _worker(attempt),
        attempt["result"],
        "?" if attempt["run_s"] is None else f"{attempt['run_s']:.2f}",
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


def _error(kind: str, message: str) -> str:
    """Return what went wrong, with the error's name, which many reasons begin with already."""
    return message if not kind or message.startswith(kind) else f"{kind}: {message}"


def _value(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- what may be asked -------------------------------------------------------------------------


@asking(_list)
async def jobs(
    client: Client,
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only in this state, or: live, history, unreadable. Repeatable."),
    ] = None,
    topic: Annotated[str, typer.Option(help="Only of this topic or pattern.")] = "**",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COND", help="Only with such an argument: 'size>=256'. Repeatable."),
    ] = None,
    any_of: Annotated[bool, typer.Option("--any", help="One --where is enough.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Added since: 2h (ago), 2026-07-01T12:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Added before.")] = None,
    worker: Annotated[str, typer.Option(metavar="NAME", help="Run, or run last, there.")] = "",
    origin: Annotated[
        str, typer.Option(metavar="NAME", help="That instance's jobs which are here.")
    ] = "",
    queue: Annotated[str, typer.Option(metavar="NAME", help="Only of this queue.")] = "",
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many.")] = 50,
    before: Annotated[
        int | None, typer.Option(metavar="SEQ", help="The next page: older than this one's seq.")
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Only say how many there are.")] = False,
) -> Any:
    """List the jobs that were added here, newest first."""
    query: dict[str, Any] = {
        "states": state or (),
        "topic": topic,
        "where": where or (),
        "match": "any" if any_of else "all",
        "since": since,
        "until": until,
        "worker": worker or None,
        "origin": origin or None,
        "queue": queue or None,
    }
    if count:
        return {"count": await client.count(**query)}
    return await client.jobs(limit=limit, before_seq=before, **query)


@job.command()
@asking(_show)
async def show(client: Client, job_id: IdArgument) -> dict[str, Any]:
    """Show all about a job: its attempts, its result or why there is none."""
    return await client.describe(job_id)


@job.command()
@asking(_log)
async def logs(client: Client, job_id: IdArgument) -> list[dict[str, Any]]:
    """Show what a job has logged."""
    return await client.logs(job_id)


@job.command()
@asking(saying("stopped"))
async def stop(client: Client, job_id: IdArgument) -> dict[str, Any]:
    """Stop a job wherever it is: no outcome of it will count any more."""
    meant = await client.job(job_id)
    if not await client.stop(meant.id):
        raise Refused(f"job {job_id} has ended already")
    return {"id": meant.id, "stopped": True}


@job.command()
@asking(saying("{id}"))
async def retry(client: Client, job_id: IdArgument) -> dict[str, Any]:
    """Add a finished job anew, and print the new one's id."""
    fresh = await client.retry(job_id)
    return {"id": fresh.id, "topic": fresh.topic}


@job.command()
@asking(saying("queued"))
async def requeue(client: Client, job_id: IdArgument) -> dict[str, Any]:
    """Let a job that failed, or waits for a retry or a time, go again now, under its id."""
    again = await client.requeue(job_id)
    return {"id": again.id, "topic": again.topic}


@job.command(context_settings={"ignore_unknown_options": True})  # -5 is a number
@asking(saying("priority {priority}"))
async def priority(
    client: Client,
    job_id: IdArgument,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Higher runs first.")],
) -> dict[str, Any]:
    """Give a job that waits another priority."""
    changed = await client.set_priority(job_id, number)
    return {"id": changed.id, "priority": number}


@job.command()
@asking(saying("removed"))
async def remove(client: Client, job_id: IdArgument) -> dict[str, Any]:
    """Drop a job; one that is finished already is deleted for good."""
    meant = await client.job(job_id)
    if not await client.remove(meant.id):
        raise Refused(f"job {job_id} is under way; stop it first")
    return {"id": meant.id, "removed": True}


@asking(_explained)
async def explain(
    client: Client,
    what: Annotated[str, typer.Argument(metavar="ID|TOPIC", help="A job, or a topic.")],
) -> dict[str, Any]:
    """Say why a job is where it is, or who would run a topic."""
    return await client.explain(what)
