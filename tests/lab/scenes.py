"""What tests of the lab begin with, and what they ask: who knows whom, and what is linked."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.lab.hosts import Host, Lan, until

CONSUMERS: Final = Path(__file__).with_name("consumers.py")
SLACK: Final = 3  # by which a machine of CI may be slower than the figures of the issue
SOON_S: Final = 30.0  # only what is broken takes longer
QUICK: Final = {"heartbeat": 0.5, "lease": 3, "event_delay": 0.5}


def takes(*topics: str, slots: int = 4) -> dict[str, dict[str, Any]]:
    """Return tables by which an instance runs only ``topics``, so many jobs at once."""
    return {"capabilities": {"allow": topics}, "queues.main": {"max_parallel": slots}}


async def start(
    lan: Lan,
    timing: dict[str, Any] | None = None,
    *,
    slots: int = 4,
    node: dict[str, Any] | None = None,
) -> list[Host]:
    """Start one, which runs nothing itself, two, and three; return when all know all topics."""
    tables = {"timing": timing or {}, "node": node or {}}
    one, two, three = hosts = [lan[name] for name in ("one", "two", "three")]
    one.run(None, **tables)
    two.run(CONSUMERS, **takes("lab/wait", "text/shout", slots=slots), **tables)
    three.run(CONSUMERS, **takes("lab/wait", slots=slots), **tables)
    await until(lambda: know_all(hosts), within_s=SOON_S, what="three hosts know one another")
    return hosts


async def know_all(hosts: Iterable[Host]) -> bool:
    """Say whether each of ``hosts`` is linked to the others and knows their topics."""
    topics = {"one": [], "two": ["lab/wait", "text/shout"], "three": ["lab/wait"]}
    wanted = {host.name: topics.get(host.name, ["lab/wait"]) for host in hosts}
    return all([await known(host) == wanted for host in hosts])


async def are_at_one(hosts: Iterable[Host], last: str) -> bool:
    """Say whether ``hosts`` see one order, in which ``last`` comes at the end."""
    orders = [await host.sees() for host in hosts]
    return orders[0][-1] == last and all(order == orders[0] for order in orders)


async def known(host: Host) -> dict[str, list[str]]:
    """Return the topics of all that ``host`` sees and that are not silent, by name."""
    seen = [i for i in await host.topology() if not i["silent"]]
    return {i["name"]: sorted(i["topics"]) for i in seen}


async def are_linked(hosts: Sequence[Host]) -> bool:
    """Say whether each of ``hosts`` is linked to all others, and sees nobody else."""
    for host in hosts:
        others = [i for i in await host.topology() if not i["own"]]
        if not all(i["linked"] and not i["silent"] for i in others):
            return False
        if {i["name"] for i in others} != {h.name for h in hosts if h is not host}:
            return False
    return True


async def is_alone(host: Host) -> bool:
    """Say whether ``host`` sees nobody else."""
    return await host.sees() == [host.name]


async def two_left(*others: Host) -> bool:
    """Say whether none of ``others`` sees two any more."""
    return all(["two" not in await host.sees() for host in others])


async def since(host: Host) -> dict[str, float]:
    """Return since when ``host`` has seen the others without a break."""
    return {i["name"]: i["since"] for i in await host.topology()}


async def changes(host: Host) -> list[dict[str, Any]]:
    """Return what ``host`` has noted of the topology: what ``topology history`` shows."""
    async with host.ask() as client:
        return await client.topology_history(1000)


async def outbox_is_empty(host: Host) -> bool:
    """Say whether all that was done at ``host`` has been acknowledged."""
    async with host.ask() as client:
        status = await client.status()
    return not status["outbox"]["jobs"] and not status["held"]


async def joined(one: Host, other: Host) -> bool:
    """Say whether ``one`` holds a link to ``other``."""
    return any(i["name"] == other.name and i["linked"] for i in await one.topology())


async def apart(one: Host, other: Host) -> bool:
    """Say whether the two hold no link."""
    return not await joined(one, other) and not await joined(other, one)
