"""
``offload group``: who belongs to it, and how others come and go.

Each command works through the instance, if it runs, so that all peers learn of it at once, and
else on its files; what only the other way needs is not imported.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

import offload
from offload.cli import ways
from offload.cli.terminal import (
    SHORT_INSTANCE,
    ConfigOption,
    DataDirOption,
    JsonOption,
    printable,
    say,
    say_json,
)
from offload.datadir import locate
from offload.errors import NotRunning, Refused, UsageError
from offload.peers import pairing

if TYPE_CHECKING:
    from offload.affairs import GroupAffairs

_T = TypeVar("_T")
MemberArgument = Annotated[
    str, typer.Argument(metavar="INSTANCE", help="A member, by its name or id.")
]


def init(
    name: Annotated[str, typer.Argument(help="What people call the group.")] = "home",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make a group, whose CA is kept on this machine; others join it by: offload invite."""
    told = do(
        data_dir,
        config,
        lambda client: client.change_group("init", name=name),
        lambda affairs: affairs.init(name),
    )
    if as_json:
        say_json(told)
        return
    say(f"made the group {told['name']}; let another machine join it with: offload invite")
    _say_where(data_dir, config)


def invite(
    token: Annotated[
        bool, typer.Option("--token", help="Print one line for scripts instead of a code.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """
    Let one other machine join within ten minutes: with a code for a person, or a token.

    Waits until it has joined; only a token of an instance that runs is printed at once.
    """
    joined = asyncio.run(_invite(data_dir, config, token=token, as_json=as_json))
    if not joined:
        raise Refused("nobody has joined")


def join(
    code: Annotated[
        str, typer.Argument(help="The code; -: it, or a token, is read from the standard input.")
    ] = "",
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where the inviter is, if it is not found.")
    ] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Join the group of whoever has run: offload invite."""
    if code.strip().lower().startswith(pairing.PREFIX):
        raise UsageError(
            "a token on the command line can be seen by all users of this machine;"
            " let it be read from the standard input: offload join -"
        )
    if code == "-":
        code = sys.stdin.readline()
    code = code or typer.prompt("code")

    async def through(client: "offload.Client") -> dict[str, Any]:
        told = await client.change_group("join", code=code, host=host)
        for warning in told["warnings"]:
            warn(warning)
        return told

    told = do(data_dir, config, through, lambda affairs: affairs.join(code, host, warn))
    if as_json:
        say_json(told)
        return
    say(f"joined the group {told['name']} ({len(told['members'])} members)")
    _say_where(data_dir, config)


def remove(
    instance: MemberArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Remove a member: all others cut their links to it, and refuse it from then on."""
    told = do(
        data_dir,
        config,
        lambda client: client.change_group("remove", instance=instance),
        lambda affairs: affairs.remove(instance),
    )
    say_json(told) if as_json else say("removed")


def promote(
    instance: MemberArgument,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Let a member keep the CA's key too, so that it may invite, remove and sign."""
    told = do(
        data_dir,
        config,
        lambda client: client.change_group("promote", instance=instance),
        lambda affairs: affairs.promote(instance),
    )
    say_json(told) if as_json else say(
        "promoted; it gets the key as soon as it is linked with a keeper"
    )


def rekey(
    as_json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None
) -> None:
    """Give the group a new CA; its members move over while their jobs run."""
    told = do(
        data_dir,
        config,
        lambda client: client.change_group("rekey"),
        lambda affairs: affairs.rekey(),
    )
    words = "the group has a new CA; members move when they are linked"
    say_json(told) if as_json else say(words)


def leave(
    as_json: JsonOption = False, config: ConfigOption = None, data_dir: DataDirOption = None
) -> None:
    """Leave the group, and forget it; jobs and files of the instance stay."""
    told = do(
        data_dir,
        config,
        lambda client: client.change_group("leave"),
        lambda affairs: affairs.leave(),
    )
    unnoted = "left; no keeper was reached: have one run offload group remove"
    say_json(told) if as_json else say("left" if told["noted"] else unnoted)


def do(
    data_dir: Path | None,
    config: Path | None,
    running: "Callable[[offload.Client], Awaitable[_T]]",
    resting: "Callable[[GroupAffairs], Awaitable[_T]]",
) -> _T:
    """Return what ``running`` makes of the instance, or, if none runs, ``resting`` of its files."""

    async def done() -> _T:
        if _runs(data_dir, config):
            with suppress(NotRunning):
                async with offload.connect(data_dir, config=config) as client:
                    return await running(client)
        return await resting(ways.affairs(data_dir, config))

    return asyncio.run(done())


def warn(text: str) -> None:
    """Show a sentence that a person should see, on stderr."""
    typer.secho(printable(text), err=True, fg=typer.colors.YELLOW)


# --- inside --------------------------------------------------------------------------------------


async def _invite(
    data_dir: Path | None, config: Path | None, *, token: bool, as_json: bool
) -> bool:
    show = _Shown(token=token, as_json=as_json)
    if _runs(data_dir, config):
        with suppress(NotRunning):
            async with offload.connect(data_dir, config=config) as client:
                return await _follow(client.invite(token=token), show, stays=token)
    affairs = ways.affairs(data_dir, config)
    try:
        return await _follow(affairs.invite(token=token), show, stays=False)
    finally:
        await affairs.close()


async def _follow(
    events: AsyncGenerator[dict[str, Any], None], show: "_Shown", *, stays: bool
) -> bool:
    """Show what happens to an invitation; return whether somebody has joined, or still may."""
    joined = False
    async with aclosing(events) as happening:
        async for event in happening:
            show.event(event)
            joined = joined or event["kind"] == "joined"
            if stays:
                return True
    return joined


@dataclass(frozen=True, slots=True)
class _Shown:
    """How an invitation is shown: to a person, or to a script."""

    token: bool
    as_json: bool

    def event(self, event: dict[str, Any]) -> None:
        if self.as_json:
            say_json(event)
            return
        match event["kind"]:
            case "open" if self.token:
                say(event["code"])
            case "open":
                _say_code(event)
            case "wrong":
                warn(f"a wrong code from {event['host']}; {event['tries_left']} tries left")
            case "joined":
                who = f"{event['name']} ({event['id'][:SHORT_INSTANCE]})"
                say(f"{who} has joined", err=self.token)
            case "closed" if event["reason"] != "it was used":
                warn(f"the invitation is closed: {event['reason']}")


def _say_code(event: dict[str, Any]) -> None:
    minutes = event["valid_s"] / 60
    say(f"code {event['code']}, good for one machine and {minutes:.0f} minutes; there:")
    say(f"  offload join {event['code']}")
    where = ", ".join(f"{host}:{event['port']}" for host in event["hosts"])
    say(f"if it is not found, with --host {where}; Ctrl-C here withdraws it")


def _say_where(data_dir: Path | None, config: Path | None) -> None:
    """Say what is left to do where the instance can be reached from this machine only."""
    if ways.listens_here_only(data_dir, config):
        say("the configuration lets it listen on this machine only (node.listen)")
    elif asyncio.run(_runs_here_only(data_dir, config)):
        say("the instance that runs can be reached from other machines once it is started again")


async def _runs_here_only(data_dir: Path | None, config: Path | None) -> bool:
    if _runs(data_dir, config):
        with suppress(NotRunning):
            async with offload.connect(data_dir, config=config) as client:
                return all(map(ways.is_loopback, (await client.status())["listen"]))
    return False


def _runs(data_dir: Path | None, config: Path | None) -> bool:
    return locate(data_dir, config)[0].answers()
