"""
What a submitter says on the command line: arguments, and wishes for the job.

``Wishes`` are for each job that is made, at once or by a schedule; ``SubmitWishes`` also for one
that is added now.
"""

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from offload.blobs import safe_name
from offload.durations import seconds
from offload.errors import UsageError
from offload.job import Options, moment
from offload.payload import Directory, Encoded, File, encode
from offload.work.jobs import written_needs, written_where

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
    str | None, typer.Option(help="Of all jobs with this key and the same content one is made.")
]
IfKeyOption = Annotated[
    Literal["same", "existing", "replace", "refuse"],
    typer.Option(help="What to do if a job with the key has not ended."),
]
OrderByOption = Annotated[
    str | None, typer.Option(metavar="VALUE", help="Jobs with the same value run in order.")
]
PriorityOption = Annotated[
    int | None, typer.Option(help="Higher ones go first; by default that of the queue.")
]
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


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """Arguments and wishes for each job that is made."""

    arg: ArgOption = None
    into: IntoOption = None
    if_exists: IfExistsOption = "keep-both"
    order_by: OrderByOption = None
    priority: PriorityOption = None
    policy: PolicyOption = ""
    needs: NeedsOption = None
    where: WhereOption = None
    idempotent: IdempotentOption = False
    delivery: DeliveryOption = None
    timeout: TimeoutOption = None
    retries: RetriesOption = None
    retry_delay: RetryDelayOption = None
    expires_in: ExpiresInOption = None
    deadline_in: DeadlineInOption = None

    def arguments(self, files: list[Path] | None) -> Encoded:
        """Return the job's arguments, of which ``files`` are the first; raise ``UsageError``."""
        return encode(dict(sorted(arguments(files or [], self.arg or []).items())))

    def options(self) -> Options:
        """Return what they mean; raise ``UsageError`` that names the option that is wrong."""
        return Options(
            into=str(self.into.absolute()) if self.into else "",
            if_exists=self.if_exists,
            order_by=_named("--order-by", self.order_by),
            priority=self.priority,
            policy=self.policy,
            needs=dict(map(written_needs, self.needs or ())),
            where=dict(map(written_where, self.where or ())),
            idempotent=self.idempotent,
            delivery=self.delivery,
            timeout_s=duration("--timeout", self.timeout),
            retries=self.retries,
            retry_delay_s=duration("--retry-delay", self.retry_delay),
            expires_in_s=duration("--expires-in", self.expires_in),
            deadline_in_s=duration("--deadline-in", self.deadline_in),
        )


@dataclass(frozen=True, kw_only=True)
class SubmitWishes(Wishes):
    """Arguments and wishes for one job that is added now."""

    key: KeyOption = None
    if_key: IfKeyOption = "same"
    if_full: IfFullOption = "fail"
    after: AfterOption = None
    at: AtOption = None

    def options(self) -> Options:
        """Return what they mean; raise ``UsageError`` that names the option that is wrong."""
        return replace(
            super().options(),
            key=_named("--key", self.key),
            if_key=self.if_key,
            if_full=self.if_full,
            run_after_s=duration("--after", self.after) or 0.0,
            run_at=None if self.at is None else moment("--at", self.at),
        )


def _named(option: str, text: str | None) -> str:
    """Return ``text``, "" if it was not given; an empty one was meant to be something."""
    if text == "":
        raise UsageError(f"{option}: is empty; leave it out for none")
    return text or ""


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
    try:
        kind = Directory if path.is_dir() else File
    except OSError as error:  # the name is too long, or a folder above may not be entered
        raise UsageError(f"{path}: {error.strerror}") from None
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
