"""``offload snooze``: this machine works for nobody for a while."""

from typing import Annotated, Any

import typer

from offload.cli.terminal import ConfigOption, DataDirOption, JsonOption, ask, say, say_json
from offload.client import Client


def snooze(
    duration: Annotated[
        str | None,
        typer.Argument(metavar="[DURATION|off]", help="Such as 1h or 90m; 'off' ends it."),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Start no job here for a while, over restarts too; without a duration: say how it is."""

    async def work(client: Client) -> dict[str, Any]:
        if duration is None:
            found: dict[str, Any] = (await client.status())["policy"]
            return found
        return await (client.wake() if duration == "off" else client.snooze(duration))

    found = ask(data_dir, config, work)
    say_json(found) if as_json else say(found["reason"] or "works for others")
