"""``offload dead-letters``: outcomes that nobody took, kept until a person removes them."""

import json
from typing import Annotated, Any, Final

import typer

from offload.cli.terminal import (
    SHORT_JOB,
    ConfigOption,
    DataDirOption,
    JsonOption,
    age,
    ask,
    facts,
    local_time,
    say,
    say_json,
    size,
    table,
)
from offload.client import Client
from offload.errors import UsageError

letters: Final = typer.Typer(help="Look at outcomes that nobody took; remove some.")
NumberArgument = Annotated[int, typer.Argument(metavar="NUMBER", help="The letter's number.")]


@letters.callback(invoke_without_command=True)
def default(
    context: typer.Context,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Look at outcomes that nobody took; without a command: list them."""
    if context.invoked_subcommand is None:
        listed(as_json=as_json, config=config, data_dir=data_dir)


@letters.command("list")
def listed(
    as_json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None
) -> None:
    """List the dead letters, the newest first."""
    found = ask(data_dir, config, Client.dead_letters)
    if as_json:
        say_json(found)
    elif found:
        columns = ("NO", "JOB", "TOPIC", "RESULT", "ORIGIN", "WORKER", "FILES", "AGE", "REASON")
        table(columns, [_row(entry) for entry in found])
    else:
        say("no dead letters")


@letters.command()
def show(
    number: NumberArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show a dead letter: its value, where its files are, or its error."""
    found = ask(data_dir, config, lambda client: client.dead_letter(number))
    if as_json:
        say_json(found)
        return
    error = found["error"] or {}
    value = found["value"]
    facts(
        [
            ("letter", str(found["number"])),
            ("reason", found["reason"]),
            ("kept", local_time(found["kept"])),
            ("job", f"{found['job']} of store {found['store']}, attempt {found['attempt']}"),
            ("topic", found["topic"]),
            ("origin", found["origin_name"] or found["origin"]),
            ("worker", found["worker_name"] or found["worker"]),
            ("result", found["result"]),
            ("value", "" if value is None else json.dumps(value, ensure_ascii=False)),
            *(("file", f"{file['name']}: {file['path']}") for file in found["files"]),
            ("error", f"{error.get('type')}: {error.get('message')}" if error else ""),
        ]
    )


@letters.command()
def remove(
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="NUMBER...", help="The letters' numbers.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all of them.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Remove dead letters for good, and with them their files."""
    if bool(numbers) is everything:
        raise UsageError("dead-letters remove: name letters by their numbers, or say --all")

    async def work(client: Client) -> int:
        wanted = numbers or [entry["number"] for entry in await client.dead_letters()]
        for number in wanted:
            await client.remove_dead_letter(number)
        return len(wanted)

    gone = ask(data_dir, config, work)
    say_json({"removed": gone}) if as_json else say(f"{gone} removed")


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    files = entry["files"]
    return (
        str(entry["number"]),
        entry["job"][:SHORT_JOB],
        entry["topic"],
        entry["result"],
        entry["origin_name"] or entry["origin"],
        entry["worker_name"] or entry["worker"],
        f"{len(files)}, {size(sum(file['size'] for file in files))}" if files else "",
        age(entry["kept"]),
        entry["reason"],
    )
