"""``offload config``: what is set, and whether it is right."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import typer

from offload.cli.terminal import ConfigOption, DataDirOption, JsonOption, say, say_json
from offload.config import Config
from offload.datadir import locate

config: Final = typer.Typer(help="Look at the configuration.")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@config.command()
def check(path: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Say whether the configuration is right."""
    _load(path, data_dir)
    used = locate(data_dir, path)[1]
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
        text = json.dumps(value, ensure_ascii=False)
        say(f"# {key} is not set" if value is None else f"{key} = {text}")


def _load(path: Any, data_dir: Any) -> Config:
    place, used = locate(data_dir, path)
    return Config.load(used, flags={"node.data_dir": str(place.path)})


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = above + (name if _BARE_KEY.fullmatch(name) else json.dumps(name))
        if isinstance(value, dict):
            yield from _flat(value, key + ".")
        else:
            yield key, value
