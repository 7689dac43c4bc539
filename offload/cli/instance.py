"""``offload topology`` and ``offload status``: who is there, and how the own instance is."""

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from offload.cli import drawing
from offload.cli.asking import ask, asking
from offload.cli.tables import clear, table
from offload.cli.terminal import (
    SHORT_INSTANCE,
    SHORT_JOB,
    ConfigOption,
    DataDirOption,
    JsonOption,
    facts,
    local_time,
    printable,
    say,
    say_json,
    size,
)
from offload.client import Client
from offload.errors import UsageError

topology: Final = typer.Typer(help="Look at the instances, and at what happened to them.")
_WATCH_S: Final = 1.0


@topology.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    tree: Annotated[bool, typer.Option("--tree", help="Show who is linked to whom.")] = False,
    dot: Annotated[bool, typer.Option("--dot", help="Print a graph for Graphviz.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, until interrupted.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the instances, as the own one sees them."""
    if context.invoked_subcommand is not None:
        return
    if sum((tree, dot, as_json)) > 1:
        raise UsageError("--tree, --dot and --json: choose one")
    show = say_json if as_json else _show_dot if dot else _show_tree if tree else _show_table
    if watch:
        ask(data_dir, config, lambda client: _watched(client, show))
    else:
        show(ask(data_dir, config, Client.topology))


def _history(found: list[dict[str, Any]]) -> None:
    columns = ("AT", "INSTANCE", "WHAT", "WHY")
    table(columns, [(local_time(e["at"]), e["name"], e["kind"], e["text"]) for e in found])


@topology.command()
@asking(_history)
async def history(
    client: Client,
    limit: Annotated[int, typer.Option(min=1, help="So many at most, the latest ones.")] = 100,
) -> list[dict[str, Any]]:
    """Show what changed in the topology since the start, with times and causes."""
    return await client.topology_history(limit)


async def _watched(client: Client, show: Callable[[dict[str, Any]], None]) -> None:
    """Show the topology again and again in a terminal, elsewhere whenever it has changed."""
    last: object = None
    while True:
        view = await client.topology()
        if sys.stdout.isatty():
            clear()
            show(view)
        elif drawing.essence(view) != last:
            last = drawing.essence(view)
            show(view)
            sys.stdout.flush()
        await asyncio.sleep(_WATCH_S)


def _show_table(view: dict[str, Any]) -> None:
    if view.get("insecure"):
        warn_of_plain_links()
    table(
        (
            "NAME",
            "ID",
            "TOPICS",
            "SLOTS",
            "STATE",
            "",
            "ADDRESS",
            "RTT",
            "LINKED",
            "TRUST",
            "VERSION",
        ),
        [_row(instance) for instance in view["instances"]],
    )
    for words in drawing.clocks(view):
        say(words, err=True)
    for found in view.get("stranded") or ():
        say(f"nobody can take {printable(_stranded(found))}")
    for refused in view.get("refused", ()):
        who = f"{refused['name']} at {refused['address']}".removeprefix(" at ")
        say(printable(f"no link with {who}: {refused['reason']}"))


def _show_tree(view: dict[str, Any]) -> None:
    if view.get("insecure"):
        warn_of_plain_links()
    for line in drawing.tree(view):
        say(line)


def _show_dot(view: dict[str, Any]) -> None:
    say(drawing.dot(view))


def _status(found: dict[str, Any]) -> None:
    if found.get("insecure"):
        warn_of_plain_links()
    outbox, blobs, disk = (found.get(name) or {} for name in ("outbox", "blobs", "disk"))
    facts(
        [
            ("instance", f"{found['name']} ({found['id']}), boot {found['boot']}"),
            ("version", str(found["version"])),
            ("process", str(found["pid"])),
            ("data", str(found["data_dir"])),
            ("link", f"port {found['port']}, realm {found['realm']}{_insecure(found)}"),
            ("works", _works(found)),
            ("group", _group(found)),
            ("peers", str(len(found["peers"]))),
            ("jobs", _counts(found["jobs"])),
            ("unreadable", f"{n} jobs" if (n := found.get("unreadable")) else ""),
            ("running", ", ".join(found["running"])),
            ("for others", f"{found['held']} held{_closed(found.get('closed'))}"),
            ("outbox", f"{outbox.get('jobs', 0)} outcomes, {size(outbox.get('bytes', 0))}"),
            ("dead letters", str(found.get("dead_letters") or "")),
            ("files", f"{blobs.get('count', 0)}, {size(blobs.get('bytes', 0))}"),
            ("disk", f"{size(disk['free'])} free" if "free" in disk else ""),
            *(("nobody can take", _stranded(found)) for found in found.get("stranded") or ()),
            *((f"queue {name}", _queue(queue)) for name, queue in found["queues"].items()),
        ]
    )


@asking(_status)
async def status(client: Client) -> dict[str, Any]:
    """Show how the own instance is."""
    return await client.status()


def warn_of_plain_links() -> None:
    """Say in red what an insecure instance is."""
    words = "INSECURE: links are plain, and whoever reaches this instance can have jobs run on it"
    typer.secho(words, fg=typer.colors.RED, err=True)


def topic_names(instance: dict[str, Any]) -> list[str]:
    """Return the patterns that an instance of the topology has announced."""
    return [topic if isinstance(topic, str) else topic[0] for topic in instance["topics"]]


def _row(instance: dict[str, Any]) -> tuple[str, ...]:
    marks = [word for word in ("own", "leader") if instance[word]]
    return (
        instance["name"],
        instance["id"][:SHORT_INSTANCE],
        ", ".join(topic_names(instance)) or "-",
        _slots(instance.get("load")),
        _state(instance),
        " ".join(marks),
        instance.get("address") or "",
        drawing.rtt(instance),
        drawing.linked_for(instance),
        str(instance.get("trust") or ""),
        str(instance.get("version") or ""),
    )


def _state(instance: dict[str, Any]) -> str:
    if instance["silent"]:
        return "silent"
    if instance["draining"]:
        return "draining"
    return instance.get("closed") or "up"


def _slots(load: Any) -> str:
    """Return how many places are taken of how many, in all queues; a peer may say anything."""
    queues = load.get("queues") if isinstance(load, dict) else None
    taken = there = 0
    for entry in queues.values() if isinstance(queues, dict) else ():
        match entry:
            case [_, int(busy), int(places)]:
                taken, there = taken + busy, there + places
    return f"{taken}/{there}" if there else "-"


def _stranded(found: dict[str, Any]) -> str:
    return f"{found['topic']} (job {found['job'][:SHORT_JOB]}): {found['reason']}"


def _works(found: dict[str, Any]) -> str:
    if not found.get("processing", True):
        return "for nobody: processing is off (offload processing on)"
    return found.get("policy", {}).get("reason") or "for others"


def _closed(reason: str | None) -> str:
    return f"; takes no more: {reason}" if reason else ""


def _counts(jobs: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in jobs.items() if count) or "none"


def _queue(queue: dict[str, Any]) -> str:
    return f"{queue['running']} of {queue['max_parallel']} running, {queue['waiting']} waiting"


def _group(found: dict[str, Any]) -> str:
    """Return the group in words; "" if the instance is insecure and belongs to none."""
    group = found.get("group")
    if not group:
        return ""
    name = group["name"] or "none made: this user's instances on this machine"
    return f"{name}, {group['members']} members" + (", keeper" if group["keeper"] else "")


def _insecure(found: dict[str, Any]) -> str:
    return ", INSECURE" if found["insecure"] else ""
