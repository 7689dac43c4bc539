"""``offload adopt``: take over the jobs of an instance whose machine is dead."""

from pathlib import Path
from typing import Annotated, Any

import typer

from offload.cli.asking import asking
from offload.cli.terminal import SHORT_JOB, printable, say
from offload.client import Client


def _told(found: dict[str, Any]) -> None:
    say(f"{found['adopted']} jobs adopted")
    if found["lost"]:
        say(f"  {found['lost']} of them are LOST: they may have run, and must not start twice")
    if found["stopped"]:
        say(f"  {found['stopped']} of them were being stopped, and are STOPPED")
    if found["known"]:
        say(f"{found['known']} were here already")
    if found["letters"]:
        say(f"{found['letters']} outcomes that it had for others are dead letters here")
    for job in found["left"]:
        say(f"left: {job['id'][:SHORT_JOB]}: {printable(job['reason'])}")


@asking(_told)
async def adopt(
    client: Client,
    data_dir_of_the_dead: Annotated[
        Path, typer.Argument(metavar="DATA_DIR", help="The dead instance's folder, or a copy.")
    ],
) -> dict[str, Any]:
    """Take over the jobs of an instance that will not come back; its folder is closed for good."""
    return await client.adopt(data_dir_of_the_dead)
