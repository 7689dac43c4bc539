"""``offload topology`` and ``offload status``: who is there, and how the own instance is."""

from typing import Any

from offload.cli.asking import asking
from offload.cli.terminal import SHORT_INSTANCE, facts, size, table
from offload.client import Client


def _view(view: dict[str, Any]) -> None:
    table(
        ("NAME", "ID", "TOPICS", "SLOTS", "STATE", "", "ADDRESS"),
        [_row(instance) for instance in view["instances"]],
    )


@asking(_view)
async def topology(client: Client) -> dict[str, Any]:
    """Show the instances, as the own one sees them."""
    return await client.topology()


def _status(found: dict[str, Any]) -> None:
    outbox, blobs, disk = (found.get(name) or {} for name in ("outbox", "blobs", "disk"))
    facts(
        [
            ("instance", f"{found['name']} ({found['id']}), boot {found['boot']}"),
            ("version", str(found["version"])),
            ("process", str(found["pid"])),
            ("data", str(found["data_dir"])),
            ("link", f"port {found['port']}, realm {found['realm']}{_insecure(found)}"),
            ("works", found.get("policy", {}).get("reason") or "for others"),
            ("peers", str(len(found["peers"]))),
            ("jobs", _counts(found["jobs"])),
            ("unreadable", f"{n} jobs" if (n := found.get("unreadable")) else ""),
            ("running", ", ".join(found["running"])),
            ("for others", f"{found['held']} held"),
            ("outbox", f"{outbox.get('jobs', 0)} outcomes, {size(outbox.get('bytes', 0))}"),
            ("files", f"{blobs.get('count', 0)}, {size(blobs.get('bytes', 0))}"),
            ("disk", f"{size(disk['free'])} free" if "free" in disk else ""),
            *((f"queue {name}", _queue(queue)) for name, queue in found["queues"].items()),
        ]
    )


@asking(_status)
async def status(client: Client) -> dict[str, Any]:
    """Show how the own instance is."""
    return await client.status()


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


def _counts(jobs: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in jobs.items() if count) or "none"


def _queue(queue: dict[str, Any]) -> str:
    return f"{queue['running']} of {queue['max_parallel']} running, {queue['waiting']} waiting"


def _insecure(found: dict[str, Any]) -> str:
    return ", INSECURE" if found["insecure"] else ""
