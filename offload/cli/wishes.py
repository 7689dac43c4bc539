"""What a submitter says on the command line: arguments, and wishes for the job."""

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from offload.blobs import safe_name
from offload.durations import seconds
from offload.errors import UsageError
from offload.payload import Directory, File

FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(help="Input files and folders, the first arguments in this order."),
]
ArgOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arg", "-a", metavar="NAME=VALUE", help="An argument: JSON, or text; @FILE: a file."
    ),
]
IntoOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where output files shall be placed.")
]
IfExistsOption = Annotated[
    Literal["keep-both", "overwrite", "refuse"],
    typer.Option(help="What to do if there is such a file already."),
]
KeyOption = Annotated[
    str, typer.Option(help="Of all jobs with this key and the same content one is made.")
]
IfKeyOption = Annotated[
    Literal["same", "existing", "replace", "refuse"],
    typer.Option(help="What to do if a job with the key has not ended."),
]
OrderByOption = Annotated[
    str, typer.Option(metavar="VALUE", help="Jobs with the same value run in order.")
]
PriorityOption = Annotated[int, typer.Option(help="Higher ones go first.")]
IdempotentOption = Annotated[
    bool, typer.Option("--idempotent", help="It may run twice: if it takes long, it does.")
]
IfFullOption = Annotated[
    Literal["fail", "wait"], typer.Option(help="What to do if too many jobs wait already.")
]
NeedsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=AMOUNT", help="It takes so much there: gpu=1. Repeatable."),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(metavar="COND", help="Only where room=lab, 'cores>=8'. Repeatable."),
]
PolicyOption = Annotated[
    Literal["", "local-first", "remote-first", "remote-only", "local-only", "balanced"],
    typer.Option(help="Where it shall run.", show_default=False),
]
DeliveryOption = Annotated[
    Literal["at-least-once", "exclusive", "at-most-once"] | None,
    typer.Option(help="How often it may be started."),
]
TimeoutOption = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Longest run of an attempt.")
]
RetriesOption = Annotated[int | None, typer.Option(min=-1, help="Tries after the first.")]
RetryDelayOption = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Between one try and the next.")
]
AfterOption = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Not to be started before.")
]
AtOption = Annotated[
    str | None, typer.Option(metavar="MOMENT", help="The same, such as 2030-01-31T10:05.")
]
ExpiresInOption = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Not started by then, it expires.")
]
DeadlineInOption = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Not finished by then, it is stopped.")
]
_ARGUMENT: Final = re.compile(r"([^\W\d]\w*|\d+)=(.*)", re.DOTALL)


def arguments(files: list[Path], pairs: list[str]) -> dict[str, Any]:
    """Return the arguments that a command line means; raise ``UsageError``."""
    meant: dict[str, Any] = {str(i): _file(path) for i, path in enumerate(files)}
    for pair in pairs:
        match = _ARGUMENT.fullmatch(pair)
        if match is None:
            raise UsageError(f"--arg {pair!r}: write NAME=VALUE")
        if match[1] in meant:
            raise UsageError(f"--arg {match[1]}: is given twice")
        meant[match[1]] = _value(match[2])
    return meant


def _value(text: str) -> Any:
    if text.startswith("@@"):
        return text[1:]
    if text.startswith("@"):
        return _file(Path(text[1:]))
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return text


def _file(path: Path) -> File:
    kind = Directory if path.is_dir() else File
    return kind(path, safe_name(path.resolve().name if path.name in ("", "..") else path.name))


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(word)  # NaN, Infinity and 1e400 are text on a command line
    return number


def duration(option: str, text: str | None) -> float | None:
    """Return the seconds that a duration means; raise ``UsageError`` that names the option."""
    try:
        return None if text is None else seconds(float(text) if text.isdecimal() else text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
