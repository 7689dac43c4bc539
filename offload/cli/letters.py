"""``offload dead-letters``: outcomes that nobody took, kept until a person removes them."""

import json
from typing import Annotated, Any, Final

import typer

from offload.cli.asking import Common, asking, by_default, gathered
from offload.cli.tables import table
from offload.cli.terminal import SHORT_JOB, age, facts, local_time, say, say_json, size
from offload.client import Client
from offload.errors import UsageError

letters: Final = typer.Typer(help="Look at outcomes that nobody took; remove some.")
NumberArgument = Annotated[int, typer.Argument(metavar="NUMBER", help="The letter's number.")]


def _list(found: list[dict[str, Any]]) -> None:
    if found:
        columns = ("NO", "JOB", "TOPIC", "RESULT", "ORIGIN", "WORKER", "FILES", "AGE", "REASON")
        table(columns, [_row(entry) for entry in found])
    else:
        say("no dead letters")


def _show(found: dict[str, Any]) -> None:
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


@by_default(letters, "Look at outcomes that nobody took; without a command: list them.")
@letters.command("list")
@asking(_list)
async def listed(client: Client) -> list[dict[str, Any]]:
    """List the dead letters, the newest first."""
    return await client.dead_letters()


@letters.command()
@asking(_show)
async def show(client: Client, number: NumberArgument) -> dict[str, Any]:
    """Show a dead letter: its value, where its files are, or its error."""
    return await client.dead_letter(number)


@letters.command()
@gathered
def remove(
    numbers: Annotated[
        list[int] | None, typer.Argument(metavar="NUMBER...", help="The letters' numbers.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove all of them.")] = False,
    *,
    common: Common,
) -> None:
    """Remove dead letters for good, and with them their files."""
    if bool(numbers) is everything:
        raise UsageError("dead-letters remove: name letters by their numbers, or say --all")

    async def work(client: Client) -> int:
        wanted = numbers or [entry["number"] for entry in await client.dead_letters()]
        for number in wanted:
            await client.remove_dead_letter(number)
        return len(wanted)

    gone = common.ask(work)
    say_json({"removed": gone}) if common.as_json else say(f"{gone} removed")


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
