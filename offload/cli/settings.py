"""``offload config``: what is set, and whether it is right."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import typer

from offload.cli.asking import asking
from offload.cli.terminal import ConfigOption, DataDirOption, JsonOption, say, say_json
from offload.client import Client
from offload.config import Config
from offload.datadir import locate
from offload.errors import ConfigError
from offload.scheduler import declared
from offload.standing import check_listen

config: Final = typer.Typer(help="Look at the configuration.")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@config.command()
def check(
    path: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Say whether the configuration is right."""
    try:
        _load(path, data_dir)
    except ConfigError as error:
        if as_json:
            say_json({"right": False, "key": error.key, "reason": error.reason})
        raise
    used = locate(data_dir, path)[1]
    if as_json:
        say_json({"right": True, "file": str(used) if used else None})
    else:
        say(f"{used} is right" if used else "there is no offload.toml here; all is at its default")


@config.command()
def show(
    path: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Show every setting as it is in force, in the form of the file."""
    settings = _load(path, data_dir).model_dump(mode="json", by_alias=True)
    if as_json:
        say_json(settings)
        return
    for key, value in _flat(settings):
        say(f"# {key} is not set" if value is None else f"{key} = {_text(value)}")


def reloaded(found: Mapping[str, list[str]]) -> str:
    """Return in words what loading the configuration again has changed."""
    if not found["applied"] and not found["restart"]:
        return "configuration loaded again: nothing has changed"
    applied = f"in force: {', '.join(found['applied']) or 'nothing'}"
    waits = f"; needs a restart: {', '.join(found['restart'])}" if found["restart"] else ""
    return f"configuration loaded again; {applied}{waits}"


def _show_reloaded(found: Mapping[str, list[str]]) -> None:
    say(reloaded(found))


@config.command()
@asking(_show_reloaded)
async def reload(client: Client) -> dict[str, list[str]]:
    """Let the running instance follow its file as it is now; what runs goes on."""
    return await client.reload()


def _text(value: Any) -> str:
    """Return ``value`` as the file has it; what is not set is left out of inline tables."""
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        pairs = (f"{_key(k)} = {_text(v)}" for k, v in value.items() if v is not None)
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name)


def _load(path: Any, data_dir: Any) -> Config:
    place, used = locate(data_dir, path)
    loaded = Config.load(used, flags={"node.data_dir": str(place.path)})
    check_listen(loaded)
    declared(loaded.schedules, now=0.0)
    return loaded


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = above + _key(name)
        if isinstance(value, dict):
            yield from _flat(value, key + ".")
        else:
            yield key, value
