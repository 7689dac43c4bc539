"""``offload doctor``: why two machines do not see each other."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from offload.cli.terminal import ConfigOption, DataDirOption, JsonOption, printable, say, say_json
from offload.client import connect
from offload.config import Config
from offload.datadir import locate
from offload.doctor import told
from offload.errors import ConfigError, NotRunning
from offload.node import resting

_COLOURS: Final = {
    "ok": typer.colors.GREEN,
    "warning": typer.colors.YELLOW,
    "fault": typer.colors.RED,
    "not tested": typer.colors.BRIGHT_BLACK,
}
_WIDTH: Final = max(map(len, _COLOURS)) + 2


def doctor(
    host: Annotated[
        str,
        typer.Argument(metavar="[HOST[:PORT]]", help="A machine, or a member, to look at as well."),
    ] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """
    Say what keeps this machine and others from seeing each other, and what to do about it.

    Ends with 1 if there is a fault; a warning is none. It starts nothing and changes nothing.
    """
    found = asyncio.run(_examined(data_dir, config, host))
    if as_json:
        say_json(found)
    else:
        _show(found)
    if found["faults"]:
        raise typer.Exit(1)


async def _examined(data_dir: Path | None, config: Path | None, host: str) -> dict[str, Any]:
    """Have the instance that runs look for itself; look at its files if none does."""
    try:
        async with connect(data_dir, config=config) as client:
            return await client.doctor(host)
    except NotRunning:
        place, path = locate(data_dir, config)
        try:
            loaded = Config.load(path, flags={"node.data_dir": str(place.path)})
        except ConfigError as error:
            return told([resting.unusable(error)], host)
        return await resting.examine(loaded, place, host)


def _show(found: dict[str, Any]) -> None:
    for finding in found["findings"]:
        about = f" {finding['about']}" if finding["about"] else ""
        state = typer.style(finding["state"].ljust(_WIDTH), fg=_COLOURS.get(finding["state"]))
        words = f"{finding['check']}{about} ({finding['tested']}): {finding['text']}"
        typer.echo(f"{state}{printable(words)}")
        if finding["remedy"]:
            say(f"{'':{_WIDTH}}-> {printable(finding['remedy'])}")
    say()
    say(_summary(found))


def _summary(found: dict[str, Any]) -> str:
    warnings = sum(finding["state"] == "warning" for finding in found["findings"])
    if not found["faults"] and not warnings:
        return "nothing is wrong"
    return f"{_counted(found['faults'], 'fault')}, {_counted(warnings, 'warning')}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
