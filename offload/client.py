"""
The instance that already runs on this machine, as seen from another program.

``connect()`` finds it as every command does; a ``Client`` has the verbs of a ``Node``, with topics
in place of functions.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from offload.datadir import DataDir, locate
from offload.errors import NotAnswering, NotRunning, Refused, UsageError
from offload.mapping import Maps
from offload.payload import Directory, Encoded, File, decode, encode
from offload.remote import Topics
from offload.topics import check_pattern, check_topic
from offload.web.wire import (
    as_asked,
    encoded_from_json,
    encoded_to_json,
    error_from_json,
    options_to_json,
)
from offload.wording import apart, as_said
from offload.work.jobs import Options, wished

_ANSWER_S: Final = 10.0  # an instance that is only busy says within that that it is there
_ASKING: Final = 20  # connections for short questions, so that they need not queue behind waits
_WAITING: Final = 200
_LINE_LIMIT_BYTES: Final = 1024 * 1024


def connect(data_dir: str | Path | None = None, *, config: str | Path | None = None) -> "Client":
    """
    Return a client of the running instance, to be opened with ``async with``.

    Args:
        data_dir: Its data directory; by default it is found as commands find it.
        config: Its configuration file.

    Raises:
        NotRunning: On entering, if no instance runs there; ``NotAnswering`` if it says nothing.
    """
    return Client(locate(data_dir, config)[0])


class Client(Maps):
    """The running instance of one data directory."""

    _map_buffer = _WAITING  # each is waited for on a connection of its own

    def __init__(self, data_dir: DataDir) -> None:
        self.data_dir = data_dir
        self.id = ""
        self.name = ""
        self._asking: aiohttp.ClientSession | None = None
        self._waiting: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        path = self.data_dir.asked_at()
        self._asking = _session(path, _ASKING)
        self._waiting = _session(path, _WAITING)
        try:
            async with asyncio.timeout(_ANSWER_S):
                pong = await self._ask("GET", "/api/ping")
        except TimeoutError:
            await self.close()
            raise NotAnswering(str(self.data_dir.path)) from None
        except BaseException:
            await self.close()
            raise
        self.id, self.name = pong["id"], pong["name"]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the instance and its jobs go on."""
        for session in (self._asking, self._waiting):
            if session is not None:
                await session.close()

    # --- jobs ---

    async def submit(self, topic: str, /, *args: Any, **arguments: Any) -> "RemoteJob":
        """Add a job; when this returns it is on the disk of the instance."""
        return await self._submit(topic, args, arguments, Options())

    async def offload(self, topic: str, /, *args: Any, **arguments: Any) -> Any:
        """Add a job and return its value; raise ``JobFailed``."""
        return await (await self.submit(topic, *args, **arguments)).result()

    def options(self, **options: Any) -> "Submitter":
        """Return ``submit``, ``offload`` and ``map`` with these ``Options``."""
        return Submitter(self, wished(options))

    async def submit_encoded(self, topic: str, encoded: Encoded, options: Options) -> "RemoteJob":
        """Add a job whose arguments are packed already."""
        for file in encoded.files:
            _check_readable(file)
        body = {"topic": topic, **encoded_to_json(encoded), "options": options_to_json(options)}
        made = await self._ask("POST", "/api/jobs", body=body, long=options.if_full == "wait")
        return RemoteJob(self, made["id"], made["topic"])

    async def job(self, id_or_prefix: str) -> "RemoteJob":
        """Return the job whose id starts so; raise ``JobNotFound`` or ``AmbiguousId``."""
        found = await self.describe(id_or_prefix)
        return RemoteJob(self, found["id"], found["topic"])

    async def jobs(
        self,
        *,
        limit: int = 100,
        before_seq: int | None = None,
        **query: Any,
    ) -> list[dict[str, Any]]:
        """Return jobs in short, newest first; ``query`` as in ``Node.jobs``."""
        asked = [("limit", str(limit)), *as_asked(query)]
        if before_seq is not None:
            asked.append(("before", str(before_seq)))
        found: list[dict[str, Any]] = (await self._ask("GET", "/api/jobs", asked))["jobs"]
        return found

    async def find(
        self, *, limit: int = 100, before_seq: int | None = None, **query: Any
    ) -> list["RemoteJob"]:
        """Return the handles of jobs that were added there; ``query`` as in ``Node.jobs``."""
        found = await self.jobs(limit=limit, before_seq=before_seq, **query)
        return [RemoteJob(self, entry["id"], entry["topic"]) for entry in found]

    async def count(self, **query: Any) -> int:
        """Return how many jobs there are; ``query`` as in ``Node.jobs``."""
        return int((await self._ask("GET", "/api/count", as_asked(query)))["count"])

    async def describe(self, job_id: str) -> dict[str, Any]:
        """Return all about one job."""
        return await self._ask("GET", f"/api/jobs/{_segment(job_id)}")

    async def logs(self, job_id: str, after: int = 0) -> list[dict[str, Any]]:
        """Return the lines of its log that follow number ``after``."""
        path = f"/api/jobs/{_segment(job_id)}/logs"
        lines: list[dict[str, Any]] = (await self._ask("GET", path, [("after", str(after))]))[
            "logs"
        ]
        return lines

    async def stop(self, job_id: str) -> bool:
        """Stop the job wherever it is; return whether no outcome of it will be applied."""
        return bool((await self._ask("POST", f"/api/jobs/{_segment(job_id)}/stop"))["done"])

    async def retry(self, job_id: str) -> "RemoteJob":
        """Add a finished job anew."""
        made = await self._ask("POST", f"/api/jobs/{_segment(job_id)}/retry")
        return RemoteJob(self, made["id"], made["topic"])

    async def requeue(self, job_id: str) -> "RemoteJob":
        """Let a job that failed, or waits for a retry or a time, go again now, under its id."""
        made = await self._ask("POST", f"/api/jobs/{_segment(job_id)}/requeue")
        return RemoteJob(self, made["id"], made["topic"])

    async def set_priority(self, job_id: str, priority: int) -> "RemoteJob":
        """Give a job that waits another priority; raise ``Refused`` if it does not wait."""
        path = f"/api/jobs/{_segment(job_id)}/priority"
        made = await self._ask("POST", path, body={"priority": priority})
        return RemoteJob(self, made["id"], made["topic"])

    async def remove(self, job_id: str) -> bool:
        """Drop a job that is not finished, or delete a finished one for good."""
        return bool((await self._ask("DELETE", f"/api/jobs/{_segment(job_id)}"))["done"])

    async def adopt(self, data_dir: str | Path) -> dict[str, Any]:
        """Take over the jobs of a dead instance's data directory; see ``Node.adopt``."""
        path = str(Path(data_dir).expanduser().absolute())
        return await self._ask("POST", "/api/adopt", body={"data_dir": path}, long=True)

    async def dead_letters(self) -> list[dict[str, Any]]:
        """Return the outcomes that nobody took, or that came too late, the newest first."""
        answer = await self._ask("GET", "/api/dead-letters")
        found: list[dict[str, Any]] = answer["dead_letters"]
        return found

    async def dead_letter(self, number: int) -> dict[str, Any]:
        """Return one of them; raise ``LetterNotFound``."""
        return await self._ask("GET", f"/api/dead-letters/{number}")

    async def remove_dead_letter(self, number: int) -> None:
        """Remove one of them for good, with its files; raise ``LetterNotFound``."""
        await self._ask("DELETE", f"/api/dead-letters/{number}")

    # --- topics ---

    @property
    def topics(self) -> Topics:
        """Which instance runs which topics, and the switches of that; see ``Node.topics``."""
        return Topics(self._ask)

    # --- queues ---

    async def queues(self) -> list[dict[str, Any]]:
        """Return all queues by name: what waits in them, what runs, and whether they are open."""
        found: list[dict[str, Any]] = (await self._ask("GET", "/api/queues"))["queues"]
        return found

    async def suspend_queue(self, name: str) -> None:
        """Start no more jobs of a queue, over restarts too; raise ``UsageError``."""
        await self._ask("POST", "/api/queues/suspend", [("name", name)])

    async def resume_queue(self, name: str) -> None:
        """Start the jobs of a queue again; raise ``UsageError``."""
        await self._ask("POST", "/api/queues/resume", [("name", name)])

    async def clear_queue(self, name: str) -> int:
        """Drop all jobs of a queue that wait, and return how many; raise ``UsageError``."""
        return int((await self._ask("POST", "/api/queues/clear", [("name", name)]))["dropped"])

    async def reload(self) -> dict[str, list[str]]:
        """Let the instance follow its file as it is now; see ``Node.reload``."""
        return await self._ask("POST", "/api/config/reload")

    async def set_processing(self, *, enabled: bool) -> None:
        """Start jobs on the instance, or none, over restarts too; what runs goes on."""
        await self._ask("POST", "/api/processing", body={"enabled": enabled})

    async def snooze(self, duration: str | float) -> dict[str, Any]:
        """Start nothing there for so long (``"1h"``), over restarts too; raise ``UsageError``."""
        return await self._ask("POST", "/api/snooze", body={"duration": duration})

    async def wake(self) -> dict[str, Any]:
        """End a snooze."""
        return await self._ask("POST", "/api/wake")

    # --- schedules ---

    async def schedule(self, topic: str, /, *args: Any, **when: Any) -> dict[str, Any]:
        """Make jobs when it is time; see ``Node.schedule``."""
        return await self.options().schedule(topic, *args, **when)

    async def schedule_encoded(
        self, topic: str, encoded: Encoded, when: Mapping[str, Any], options: Options, **how: str
    ) -> dict[str, Any]:
        """Add a schedule whose arguments are packed already; ``how``: zone, misfire, scope."""
        for file in encoded.files:
            _check_readable(file)
        body = {
            "topic": check_topic(topic),
            "when": as_said(when),
            **how,
            **encoded_to_json(encoded),
            "options": options_to_json(options),
        }
        return await self._ask("POST", "/api/schedules", body=body)

    async def schedules(self) -> list[dict[str, Any]]:
        """Return the schedules that the instance knows, the next to fire first."""
        found: list[dict[str, Any]] = (await self._ask("GET", "/api/schedules"))["schedules"]
        return found

    async def schedule_info(self, schedule_id: str) -> dict[str, Any]:
        """Return all about a schedule; raise ``ScheduleNotFound``."""
        return await self._ask("GET", f"/api/schedules/{_segment(schedule_id)}")

    async def suspend_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let a schedule fire no more until it is resumed; raise ``ScheduleNotFound``."""
        return await self._ask("POST", f"/api/schedules/{_segment(schedule_id)}/suspend")

    async def resume_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let a suspended schedule fire from now on; raise ``ScheduleNotFound``."""
        return await self._ask("POST", f"/api/schedules/{_segment(schedule_id)}/resume")

    async def remove_schedule(self, schedule_id: str) -> None:
        """Remove a schedule; raise ``ScheduleNotFound``, or ``Refused`` if it is configured."""
        await self._ask("DELETE", f"/api/schedules/{_segment(schedule_id)}")

    # --- the group ---

    async def group(self) -> dict[str, Any]:
        """Return the instance's group and its members."""
        return await self._ask("GET", "/api/group")

    async def change_group(self, verb: str, **words: str) -> dict[str, Any]:
        """Do one of ``offload group``, such as ``remove`` (instance)."""
        return await self._ask("POST", f"/api/group/{verb}", body=words, long=True)

    def invite(self, *, token: bool = False) -> AsyncGenerator[dict[str, Any], None]:
        """Open an invitation, and yield what happens to it; see ``GroupAffairs.invite``."""
        return self._lines("/api/group/invite", method="POST", body={"token": token})

    # --- the instance ---

    async def explain(self, job_or_topic: str) -> dict[str, Any]:
        """Return why a job is where it is, or who would run a topic."""
        return await self._ask("GET", "/api/explain", [("what", job_or_topic)])

    async def status(self) -> dict[str, Any]:
        """Return how the instance is."""
        return await self._ask("GET", "/api/status")

    async def doctor(self, host: str = "") -> dict[str, Any]:
        """Say what keeps the instance and others from seeing each other; see ``Node.doctor``."""
        return await self._ask("GET", "/api/doctor", [("host", host)], long=True)

    async def statistics(self) -> dict[str, Any]:
        """Return what was counted and measured, in total, by queue and by topic."""
        return await self._ask("GET", "/api/statistics")

    async def reset_statistics(self) -> None:
        """Count anew from now on; what waits and runs is still known."""
        await self._ask("POST", "/api/statistics/reset")

    def events(self, topic: str = "**") -> AsyncIterator[dict[str, Any]]:
        """Yield what happens from now on to jobs that were added there, by topic pattern."""
        return self._lines("/api/events", [("topic", check_pattern(topic))])

    async def topology(self) -> dict[str, Any]:
        """Return who is there, as the instance sees it."""
        return await self._ask("GET", "/api/topology")

    async def topology_history(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the last changes of the topology since the instance's start, latest at the end."""
        answer = await self._ask("GET", "/api/topology/history", [("limit", str(limit))])
        found: list[dict[str, Any]] = answer["history"]
        return found

    # --- below ---

    async def _submit(
        self, topic: str, args: tuple[Any, ...], arguments: Mapping[str, Any], options: Options
    ) -> "RemoteJob":
        if not isinstance(topic, str):
            raise UsageError("a running instance is asked by topic, such as 'image/thumbnail'")
        value = {**{str(i): argument for i, argument in enumerate(args)}, **arguments}
        return await self.submit_encoded(check_topic(topic), encode(value), options)

    async def _ask(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, str]] = (),
        body: Any = None,
        *,
        long: bool = False,
    ) -> dict[str, Any]:
        try:
            async with self._request(method, path, query, body, long=long) as response:
                answer: dict[str, Any] = await response.json(content_type=None)
        except ValueError:
            raise Refused("what answered is not an instance of offload") from None
        except (aiohttp.ClientError, OSError):
            raise NotRunning(str(self.data_dir.path)) from None
        if response.status >= 400:
            raise error_from_json(answer)
        return answer

    async def _lines(
        self,
        path: str,
        query: Iterable[tuple[str, str]] = (),
        *,
        method: str = "GET",
        body: Any = None,
    ) -> AsyncGenerator[dict[str, Any], None]:
        try:
            async with self._request(method, path, query, body, long=True) as response:
                if response.status >= 400:
                    raise error_from_json(await response.json(content_type=None))
                async for line in response.content:
                    event = json.loads(line)
                    if event.get("kind") == "error":
                        raise error_from_json(event)
                    yield event
        except (aiohttp.ClientError, OSError):
            raise NotRunning(str(self.data_dir.path)) from None

    def _request(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, str]] = (),
        body: Any = None,
        *,
        long: bool,
    ) -> Any:
        session = self._waiting if long else self._asking
        if session is None or session.closed:
            raise NotRunning(str(self.data_dir.path))
        return session.request(method, path, params=list(query), json=body)


class Submitter(Maps):
    """``submit``, ``offload`` and ``map`` of a client, with options."""

    _map_buffer = _WAITING

    def __init__(self, client: Client, options: Options) -> None:
        self._client, self._options = client, options

    def options(self, **options: Any) -> "Submitter":
        """Return the same with these options changed."""
        return Submitter(self._client, wished(options, self._options))

    async def submit(self, topic: str, /, *args: Any, **arguments: Any) -> "RemoteJob":
        """Add a job."""
        return await self._client._submit(topic, args, arguments, self._options)

    async def offload(self, topic: str, /, *args: Any, **arguments: Any) -> Any:
        """Add a job and return its value; raise ``JobFailed``."""
        return await (await self.submit(topic, *args, **arguments)).result()

    async def schedule(self, topic: str, /, *args: Any, **when: Any) -> dict[str, Any]:
        """Make jobs when it is time; see ``Node.schedule``."""
        times, how, arguments = apart(when)
        value = {**{str(i): argument for i, argument in enumerate(args)}, **arguments}
        return await self._client.schedule_encoded(
            topic, encode(dict(sorted(value.items()))), times, self._options, **how
        )


class RemoteJob:
    """A job of the running instance; it goes on whether or not this program does."""

    def __init__(self, client: Client, job_id: str, topic: str) -> None:
        self.id, self.topic = job_id, topic
        self._client = client

    def __repr__(self) -> str:
        return f"RemoteJob({self.id!r}, {self.topic!r})"

    async def info(self) -> dict[str, Any]:
        """Return all about it, as it is now."""
        return await self._client.describe(self.id)

    async def wait(self) -> dict[str, Any]:
        """Return all about it when it has ended."""
        return await self._client._ask("GET", f"/api/jobs/{self.id}/wait", long=True)

    async def result(self) -> Any:
        """Return its value when it has succeeded; raise ``JobFailed``."""
        answer = await self._client._ask("GET", f"/api/jobs/{self.id}/result", long=True)
        encoded = encoded_from_json(answer)
        return decode(encoded.data, encoded.files)

    async def stop(self) -> bool:
        """Stop it wherever it is; return whether no outcome of it will be applied."""
        return await self._client.stop(self.id)

    def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what happens to it, its log and its progress, up to its final state."""
        return self._client._lines(f"/api/jobs/{self.id}/events")


def _session(path: str, limit: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        "http://offload",
        connector=aiohttp.UnixConnector(path=path, limit=limit),
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=5),
        read_bufsize=_LINE_LIMIT_BYTES,
    )


def _segment(job_id: str) -> str:
    if not job_id.isalnum() or not job_id.isascii():
        raise UsageError(f"{job_id!r} is no id")
    return job_id


def _check_readable(file: File) -> None:
    path = file.path
    if path.is_dir() and not isinstance(file, Directory):
        raise UsageError(f"{path}: is a folder; give a Directory")
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path}: may not be read")
