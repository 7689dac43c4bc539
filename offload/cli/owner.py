"""``offload snooze``: this machine works for nobody for a while."""

from typing import Annotated, Any

import typer

from offload.cli.asking import asking
from offload.cli.terminal import say
from offload.client import Client


def _show(found: dict[str, Any]) -> None:
    say(found["reason"] or "does not snooze")


@asking(_show)
async def snooze(
    client: Client,
    duration: Annotated[
        str | None,
        typer.Argument(metavar="[DURATION|off]", help="Such as 1h or 90m; 'off' ends it."),
    ] = None,
) -> dict[str, Any]:
    """Start no job here for a while, over restarts too; without a duration: say how it is."""
    if duration is None:
        found: dict[str, Any] = (await client.status())["policy"]
        return found
    return await (client.wake() if duration == "off" else client.snooze(duration))
