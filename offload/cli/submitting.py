"""``offload submit``: add a job to the running instance, and follow it if asked to."""

import asyncio
from typing import Annotated, Final

import typer

from offload.cli.following import follow, show_result
from offload.cli.instance import topic_names
from offload.cli.terminal import ConfigOption, DataDirOption, JsonOption, ask, say, say_json
from offload.cli.wishes import (
    AfterOption,
    ArgOption,
    AtOption,
    DeadlineInOption,
    DeliveryOption,
    ExpiresInOption,
    FilesArgument,
    IdempotentOption,
    IfExistsOption,
    IfFullOption,
    IfKeyOption,
    IntoOption,
    KeyOption,
    NeedsOption,
    OrderByOption,
    PolicyOption,
    PriorityOption,
    RetriesOption,
    RetryDelayOption,
    TimeoutOption,
    WhereOption,
    arguments,
    duration,
)
from offload.client import Client, RemoteJob
from offload.errors import Refused
from offload.job import Options, moment
from offload.payload import encode
from offload.topics import check_topic, matches
from offload.work.jobs import written_needs, written_where

_MEET_LIMIT_S: Final = 2.0  # an instance that has just started may not have met the others yet
_SUCCEEDED: Final = "succeeded"


def submit(
    topic: Annotated[str, typer.Argument(help="What is to be done, such as image/thumbnail.")],
    files: FilesArgument = None,
    arg: ArgOption = None,
    into: IntoOption = None,
    if_exists: IfExistsOption = "keep-both",
    key: KeyOption = "",
    if_key: IfKeyOption = "same",
    if_full: IfFullOption = "fail",
    order_by: OrderByOption = "",
    priority: PriorityOption = 0,
    policy: PolicyOption = "",
    needs: NeedsOption = None,
    where: WhereOption = None,
    idempotent: IdempotentOption = False,
    delivery: DeliveryOption = None,
    timeout: TimeoutOption = None,
    retries: RetriesOption = None,
    retry_delay: RetryDelayOption = None,
    after: AfterOption = None,
    at: AtOption = None,
    expires_in: ExpiresInOption = None,
    deadline_in: DeadlineInOption = None,
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
        timeout_s=duration("--timeout", timeout),
        retries=retries,
        retry_delay_s=duration("--retry-delay", retry_delay),
        run_after_s=duration("--after", after) or 0.0,
        order_by=order_by,
        if_key=if_key,
        if_full=if_full,
        idempotent=idempotent,
        expires_in_s=duration("--expires-in", expires_in),
        deadline_in_s=duration("--deadline-in", deadline_in),
        run_at=None if at is None else moment("--at", at),
        needs=dict(map(written_needs, needs or ())),
        where=dict(map(written_where, where or ())),
    )

    async def work(client: Client) -> int:
        check_topic(topic)
        if not anyway:
            await _check_taken(client, topic)
        job = await client.submit_encoded(topic, encoded, options)
        return await _report(client, job, follow_it=follow_it, as_json=as_json)

    raise typer.Exit(ask(data_dir, config, work))


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
