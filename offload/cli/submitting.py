"""``offload submit``: add a job to the running instance, and follow it if asked to."""

import asyncio
from typing import Annotated, Final

import typer

from offload.cli.asking import Common, gathered
from offload.cli.following import follow, show_result
from offload.cli.instance import topic_names
from offload.cli.terminal import say, say_json
from offload.cli.wishes import FilesArgument, SubmitWishes
from offload.client import Client, RemoteJob
from offload.errors import Refused
from offload.topics import check_topic, matches

_MEET_LIMIT_S: Final = 2.0  # an instance that has just started may not have met the others yet
_SUCCEEDED: Final = "succeeded"


@gathered
def submit(
    topic: Annotated[str, typer.Argument(help="What is to be done, such as image/thumbnail.")],
    files: FilesArgument = None,
    *,
    wishes: SubmitWishes,
    follow_it: Annotated[
        bool, typer.Option("--follow", "-f", help="Show log, progress and result.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also if nobody takes the topic yet: the job waits.")
    ] = False,
    common: Common,
) -> None:
    """Add a job; when its id appears it is on the disk, and will be run."""
    encoded, options = wishes.arguments(files), wishes.options()

    async def work(client: Client) -> int:
        check_topic(topic)
        if not anyway:
            await _check_taken(client, topic)
        job = await client.submit_encoded(topic, encoded, options)
        return await _report(client, job, follow_it=follow_it, as_json=common.as_json)

    raise typer.Exit(common.ask(work))


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
