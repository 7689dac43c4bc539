"""``offload group members``."""

from typing import Any

from offload.cli.group import do, warn
from offload.cli.tables import table
from offload.cli.terminal import (
    SHORT_INSTANCE,
    ConfigOption,
    DataDirOption,
    JsonOption,
    say,
    say_json,
)


def members(
    as_json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None
) -> None:
    """Show who belongs to the group."""
    told = do(data_dir, config, lambda client: client.group(), lambda affairs: affairs.describe())
    if as_json:
        say_json(told)
        return
    say(f"group {told['name']}" if told["name"] else "no group was made: instances of this user")
    if told["name"] and not any(member.get("own") for member in told["members"]):
        warn("this instance is no member of it: it was removed, or has yet to join")
    if told.get("shut_out"):
        warn(
            "the others end every connection of this instance: it may have been removed while it"
            " was away; ask where it is kept: offload group members"
        )
    table(("NAME", "ID", ""), [_row(member) for member in told["members"]])


def _row(member: dict[str, Any]) -> tuple[str, ...]:
    marks = [word for word in ("own", "keeper", "linked") if member.get(word)]
    return member["name"], member["id"][:SHORT_INSTANCE], " ".join(marks)
