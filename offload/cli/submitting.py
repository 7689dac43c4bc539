"""``offload submit``: add a job to the running instance, and follow it if asked to."""

import asyncio
import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from offload.blobs import safe_name
from offload.cli.following import follow, show_result
from offload.cli.instance import topic_names
from offload.cli.terminal import ConfigOption, DataDirOption, JsonOption, ask, say, say_json
from offload.client import Client, RemoteJob
from offload.durations import seconds
from offload.errors import Refused, UsageError
from offload.job import Options, moment
from offload.payload import File, encode
from offload.topics import check_topic, matches

_ARGUMENT: Final = re.compile(r"([^\W\d]\w*|\d+)=(.*)", re.DOTALL)
_MEET_LIMIT_S: Final = 2.0  # an instance that has just started may not have met the others yet
_SUCCEEDED: Final = "succeeded"


def submit(
    topic: Annotated[str, typer.Argument(help="What is to be done, such as image/thumbnail.")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Input files, the first arguments in this order.")
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option(
            "--arg", "-a", metavar="NAME=VALUE", help="An argument: JSON, or text; @FILE: a file."
        ),
    ] = None,
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where output files shall be placed.")
    ] = None,
    if_exists: Annotated[
        Literal["keep-both", "overwrite", "refuse"],
        typer.Option(help="What to do if there is such a file already."),
    ] = "keep-both",
    key: Annotated[
        str, typer.Option(help="Of all jobs with this key and the same content one is made.")
    ] = "",
    if_key: Annotated[
        Literal["same", "existing", "replace", "refuse"],
        typer.Option(help="What to do if a job with the key has not ended."),
    ] = "same",
    order_by: Annotated[
        str, typer.Option(metavar="VALUE", help="Jobs with the same value run in order.")
    ] = "",
    priority: Annotated[int, typer.Option(help="Higher ones go first.")] = 0,
    policy: Annotated[
        Literal["", "local-first", "remote-first", "remote-only", "local-only", "balanced"],
        typer.Option(help="Where it shall run.", show_default=False),
    ] = "",
    delivery: Annotated[
        Literal["at-least-once", "exclusive", "at-most-once"] | None,
        typer.Option(help="How often it may be started."),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Longest run of an attempt.")
    ] = None,
    retries: Annotated[int | None, typer.Option(min=-1, help="Tries after the first.")] = None,
    after: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Not to be started before.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="The same, such as 2030-01-31T10:05.")
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Not started by then, it expires.")
    ] = None,
    deadline_in: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Not finished by then, it is stopped.")
    ] = None,
    follow_it: Annotated[
        bool, typer.Option("--follow", "-f", help="Show log, progress and result.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also if nobody takes the topic yet: the job waits.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Add a job; when its id appears it is on the disk, and will be run."""
    encoded = encode(arguments(files or [], arg or []))
    options = Options(
        priority=priority,
        key=key,
        policy=policy,
        into=str(into.absolute()) if into else "",
        if_exists=if_exists,
        delivery=delivery,
        timeout_s=_duration("--timeout", timeout),
        retries=retries,
        run_after_s=_duration("--after", after) or 0.0,
        order_by=order_by,
        if_key=if_key,
        expires_in_s=_duration("--expires-in", expires_in),
        deadline_in_s=_duration("--deadline-in", deadline_in),
        run_at=None if at is None else moment("--at", at),
    )

    async def work(client: Client) -> int:
        check_topic(topic)
        if not anyway:
            await _check_taken(client, topic)
        job = await client.submit_encoded(topic, encoded, options)
        return await _report(client, job, follow_it=follow_it, as_json=as_json)

    raise typer.Exit(ask(data_dir, config, work))


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
    return File(path, safe_name(path.name))


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(word)  # NaN, Infinity and 1e400 are text on a command line
    return number


def _duration(option: str, text: str | None) -> float | None:
    try:
        return None if text is None else seconds(float(text) if text.isdecimal() else text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


async def _check_taken(client: Client, topic: str) -> None:
    """Raise ``Refused`` if no instance takes ``topic``: most often it is misspelt."""
    known: set[str] = set()
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + _MEET_LIMIT_S
    while True:
        view = await client.topology()
        known.update(name for instance in view["instances"] for name in topic_names(instance))
        if any(matches(pattern, topic) for pattern in known):
            return
        if loop.time() >= give_up_at:
            break
        await asyncio.sleep(0.1)
    there = f"known are {', '.join(sorted(known))}" if known else "no instance has a consumer"
    raise Refused(f"no instance takes topic {topic!r} ({there}); --anyway lets the job wait")


async def _report(client: Client, job: RemoteJob, *, follow_it: bool, as_json: bool) -> int:
    if not follow_it:
        say_json({"id": job.id, "topic": job.topic}) if as_json else say(job.id)
        return 0
    if as_json:
        end = await job.wait()
        say_json(end)
    else:
        end = await follow(client, job)
        show_result(end)
    return 0 if end["state"] == _SUCCEEDED else 1
