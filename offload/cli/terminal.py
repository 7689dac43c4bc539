"""What all commands share: options, and how things look in a terminal."""

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from offload.moments import at_wall

SHORT_INSTANCE: Final = 8
SHORT_JOB: Final = 14  # 10 characters of time, 4 of chance

DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="The instance's data directory."),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Its offload.toml (default: ./offload.toml)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def say(text: str = "", *, err: bool = False) -> None:
    """Print text at once; it may come from anywhere, so nothing in it steers the terminal."""
    typer.echo(_mended(text, printable), err=err)


def say_json(value: Any) -> None:
    """
    Print ``value`` as JSON for programs.

    Numbers that JSON does not know are text in it, characters that could steer a terminal escaped.
    """
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str)
    typer.echo(_mended(text, lambda char: json.dumps(char)[1:-1]))


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values below each other, leaving out what is empty."""
    shown = [(name, printable(value)) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        say(f"{name.ljust(width)}  {value}")


def printable(value: Any) -> str:
    """Return text without what could steer a terminal: it may come from another machine."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\t\n\r" else "�" for c in text)


def _mended(text: str, mend: Callable[[str], str]) -> str:
    """Return ``text`` with what is not printable mended, apart from line ends and tabs."""
    return "\n".join(
        line
        if line.isprintable()
        else "".join(c if c == "\t" or c.isprintable() else mend(c) for c in line)
        for line in text.split("\n")
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def clock_time(wall: float) -> str:
    """Return a point in time as hours, minutes and seconds here."""
    moment = at_wall(wall)
    return "--:--:--" if moment is None else _here(moment).strftime("%H:%M:%S")


def age(moment: str | None, now: datetime | None = None) -> str:
    """Return how long ago an ISO 8601 moment was, such as ``5 min``."""
    if not moment:
        return ""
    past_s = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    for unit, size_s in (("d", 86_400), ("h", 3600), ("min", 60)):
        if past_s >= 2 * size_s:
            return f"{past_s / size_s:.0f} {unit}"
    return f"{max(past_s, 0):.0f} s"


def local_time(moment: str | None) -> str:
    """Return an ISO 8601 moment as date and time here."""
    if not moment:
        return ""
    return _here(datetime.fromisoformat(moment)).strftime("%Y-%m-%d %H:%M:%S")


def _here(moment: datetime) -> datetime:
    try:
        return moment.astimezone()
    except (OSError, OverflowError, ValueError):  # the first or last day that there is, elsewhere
        return moment


def size(count_bytes: float) -> str:
    """Return a number of bytes in a unit that people read."""
    for unit in ("B", "KiB", "MiB"):
        if count_bytes < 1024:
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1024
    return f"{count_bytes:.1f} GiB"
