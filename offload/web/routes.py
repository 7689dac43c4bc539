"""
The routes of the control API: each asks the node one thing, and answers in JSON.

What went wrong is answered as ``{error, message, exit_code, args}`` with status 400 (the request
cannot work), 404 (no such job), 409 (it contradicts what is) or 503 (not now).
"""

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from offload.calendar import Kind
from offload.errors import (
    Conflict,
    JobFailed,
    JobNotFound,
    LetterNotFound,
    OffloadError,
    Refused,
    ScheduleNotFound,
    StoreFault,
    UsageError,
)
from offload.payload import encode
from offload.topics import check_pattern, check_topic
from offload.web.group import GroupRoutes
from offload.web.wire import (
    encoded_from_json,
    encoded_to_json,
    error_to_json,
    options_from_json,
)
from offload.wording import HOW
from offload.work.jobs import query

if TYPE_CHECKING:
    from offload.node import Node

log = logging.getLogger(__name__)
BODY_LIMIT_BYTES: Final = 256 * 1024 * 1024  # the caller is the user of this machine
LIST_LIMIT: Final = 10_000


class Routes:
    """The control API of one node."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def application(self, *gates: Middleware) -> web.Application:
        """Return what an aiohttp runner serves to those whom ``gates`` let pass."""
        guards = _answer_errors, *gates
        app = web.Application(middlewares=guards, client_max_size=BODY_LIMIT_BYTES)
        app.add_routes(
            [
                web.get("/api/ping", self._ping),
                web.get("/api/status", self._status),
                web.get("/api/topology", self._topology),
                web.get("/api/topology/history", self._topology_history),
                web.get("/api/explain", self._explain),
                web.get("/api/doctor", self._doctor),
                web.get("/api/jobs", self._jobs),
                web.get("/api/count", self._count),
                web.get("/api/events", self._all_events),
                web.get("/api/statistics", self._statistics),
                web.post("/api/statistics/reset", self._reset_statistics),
                web.post("/api/jobs", self._submit),
                web.get("/api/jobs/{id}", self._describe),
                web.delete("/api/jobs/{id}", self._remove),
                web.get("/api/jobs/{id}/logs", self._logs),
                web.get("/api/jobs/{id}/events", self._events),
                web.get("/api/jobs/{id}/wait", self._wait),
                web.get("/api/jobs/{id}/result", self._result),
                web.post("/api/jobs/{id}/stop", self._stop),
                web.post("/api/jobs/{id}/retry", self._retry),
                web.post("/api/jobs/{id}/requeue", self._requeue),
                web.post("/api/jobs/{id}/priority", self._set_priority),
                web.post("/api/adopt", self._adopt),
                web.get("/api/dead-letters", self._letters),
                web.get("/api/dead-letters/{number}", self._letter),
                web.delete("/api/dead-letters/{number}", self._remove_letter),
                web.get("/api/topics", self._topics),
                web.post("/api/topics/{verb}", self._switch),
                web.post("/api/snooze", self._snooze),
                web.post("/api/wake", self._wake),
                web.get("/api/queues", self._queues),
                web.post("/api/queues/{verb}", self._queue),
                web.post("/api/processing", self._processing),
                web.post("/api/config/reload", self._reload),
                web.get("/api/schedules", self._schedules),
                web.post("/api/schedules", self._schedule),
                web.get("/api/schedules/{id}", self._schedule_info),
                web.delete("/api/schedules/{id}", self._unschedule),
                web.post("/api/schedules/{id}/suspend", self._suspend_schedule),
                web.post("/api/schedules/{id}/resume", self._resume_schedule),
                *GroupRoutes(self._node, _body, _json, _stream).routes(),
            ]
        )
        return app

    async def _ping(self, _request: web.Request) -> web.Response:
        return _json({"id": self._node.id, "name": self._node.name})

    async def _status(self, _request: web.Request) -> web.Response:
        return _json(await self._node.status())

    async def _topology(self, _request: web.Request) -> web.Response:
        return _json(self._node.topology_json())

    async def _topology_history(self, request: web.Request) -> web.Response:
        limit = min(_number("limit", request.query.get("limit", "100")), LIST_LIMIT)
        return _json({"history": self._node.topology_history(limit)})

    async def _explain(self, request: web.Request) -> web.Response:
        what = request.query.get("what", "")
        if not what:
            raise UsageError("explain: name a job or a topic")
        return _json(await self._node.explain(what))

    async def _doctor(self, request: web.Request) -> web.Response:
        return _json(await self._node.doctor(request.query.get("host", "")))

    async def _jobs(self, request: web.Request) -> web.Response:
        before = request.query.get("before")
        found = await self._node.jobs(
            **_wanted(request),
            limit=min(_number("limit", request.query.get("limit", "100")), LIST_LIMIT),
            before_seq=None if before is None else _number("before", before),
        )
        return _json({"jobs": found})

    async def _count(self, request: web.Request) -> web.Response:
        return _json({"count": await self._node.count(**_wanted(request))})

    async def _submit(self, request: web.Request) -> web.Response:
        body = await _body(request)
        topic = body.get("topic")
        if not isinstance(topic, str):
            raise UsageError("topic: is missing")
        job = await self._node.submit_encoded(
            check_topic(topic), encoded_from_json(body), options_from_json(body.get("options", {}))
        )
        return _json({"id": job.id, "topic": job.topic}, status=201)

    async def _describe(self, request: web.Request) -> web.Response:
        return _json(await self._node.describe(request.match_info["id"]))

    async def _logs(self, request: web.Request) -> web.Response:
        after = _number("after", request.query.get("after", "0"))
        return _json({"logs": await self._node.logs(request.match_info["id"], after)})

    async def _stop(self, request: web.Request) -> web.Response:
        return _json({"done": await self._node.stop(request.match_info["id"])})

    async def _remove(self, request: web.Request) -> web.Response:
        return _json({"done": await self._node.remove(request.match_info["id"])})

    async def _retry(self, request: web.Request) -> web.Response:
        job = await self._node.retry(request.match_info["id"])
        return _json({"id": job.id, "topic": job.topic}, status=201)

    async def _adopt(self, request: web.Request) -> web.Response:
        path = (await _body(request)).get("data_dir")
        if not isinstance(path, str) or not Path(path).is_absolute():
            raise UsageError("data_dir: must be an absolute path")
        return _json(await self._node.adopt(path))

    async def _letters(self, _request: web.Request) -> web.Response:
        return _json({"dead_letters": await self._node.dead_letters()})

    async def _letter(self, request: web.Request) -> web.Response:
        number = _number("number", request.match_info["number"])
        return _json(await self._node.dead_letter(number))

    async def _remove_letter(self, request: web.Request) -> web.Response:
        await self._node.remove_dead_letter(_number("number", request.match_info["number"]))
        return _json({"done": True})

    async def _topics(self, _request: web.Request) -> web.Response:
        return _json(await self._node.topics.all())

    async def _switch(self, request: web.Request) -> web.Response:
        body = await _body(request)
        topics, on = body.get("topics", []), body.get("on", "")
        if not isinstance(topics, list) or not all(isinstance(t, str) for t in [*topics, on]):
            raise UsageError("topics or on: is no text")
        face = self._node.topics
        verbs = {
            "enable": face.enable,
            "disable": face.disable,
            "only": face.only,
            "reset": face.reset,
        }
        verb = verbs.get(request.match_info["verb"])
        if verb is None:
            raise UsageError(f"{request.match_info['verb']!r}: is none of {', '.join(verbs)}")
        await verb(*topics, on=on)
        return _json({"done": True})

    async def _snooze(self, request: web.Request) -> web.Response:
        duration = (await _body(request)).get("duration")
        if not isinstance(duration, str | int | float):
            raise UsageError("duration: is missing")
        return _json(await self._node.snooze(duration))

    async def _wake(self, _request: web.Request) -> web.Response:
        return _json(await self._node.wake())

    async def _queues(self, _request: web.Request) -> web.Response:
        return _json({"queues": await self._node.queues()})

    async def _queue(self, request: web.Request) -> web.Response:
        name = request.query.get("name", "")
        match request.match_info["verb"]:
            case "suspend":
                await self._node.suspend_queue(name)
            case "resume":
                await self._node.resume_queue(name)
            case "clear":
                return _json({"dropped": await self._node.clear_queue(name)})
            case verb:
                raise UsageError(f"{verb!r}: is none of suspend, resume, clear")
        return _json({"done": True})

    async def _reload(self, _request: web.Request) -> web.Response:
        return _json(await self._node.reload())

    async def _processing(self, request: web.Request) -> web.Response:
        enabled = (await _body(request)).get("enabled")
        if not isinstance(enabled, bool):
            raise UsageError("enabled: must be true or false")
        await self._node.set_processing(enabled=enabled)
        return _json({"done": True})

    async def _schedules(self, _request: web.Request) -> web.Response:
        return _json({"schedules": await self._node.schedules()})

    async def _schedule(self, request: web.Request) -> web.Response:
        body = await _body(request)
        topic, when = body.get("topic"), body.get("when")
        how = {name: body[name] for name in HOW if name in body}
        if not isinstance(topic, str) or not isinstance(when, dict):
            raise UsageError("topic or when: is missing")
        if not all(isinstance(word, str) for word in how.values()) or not when.keys() <= set(Kind):
            raise UsageError("when: names no kind of times, or a word is no text")
        made = await self._node.schedule_encoded(
            check_topic(topic),
            encoded_from_json(body),
            when,
            options_from_json(body.get("options", {})),
            **how,
        )
        return _json(made, status=201)

    async def _schedule_info(self, request: web.Request) -> web.Response:
        return _json(await self._node.schedule_info(request.match_info["id"]))

    async def _unschedule(self, request: web.Request) -> web.Response:
        await self._node.remove_schedule(request.match_info["id"])
        return _json({"done": True})

    async def _suspend_schedule(self, request: web.Request) -> web.Response:
        return _json(await self._node.suspend_schedule(request.match_info["id"]))

    async def _resume_schedule(self, request: web.Request) -> web.Response:
        return _json(await self._node.resume_schedule(request.match_info["id"]))

    async def _requeue(self, request: web.Request) -> web.Response:
        job = await self._node.requeue(request.match_info["id"])
        return _json({"id": job.id, "topic": job.topic})

    async def _set_priority(self, request: web.Request) -> web.Response:
        priority = (await _body(request)).get("priority")
        if type(priority) is not int:
            raise UsageError("priority: is no whole number")
        job = await self._node.set_priority(request.match_info["id"], priority)
        return _json({"id": job.id, "topic": job.topic})

    async def _wait(self, request: web.Request) -> web.Response:
        job = await self._node.job(request.match_info["id"])
        return _json(await job.wait())

    async def _result(self, request: web.Request) -> web.Response:
        job = await self._node.job(request.match_info["id"])
        return _json(encoded_to_json(encode(await job.result(), "result")))

    async def _all_events(self, request: web.Request) -> web.StreamResponse:
        topic = check_pattern(request.query.get("topic", "**"))
        return await _stream(request, self._node.event_lines(topic))

    async def _statistics(self, _request: web.Request) -> web.Response:
        return _json(await self._node.statistics())

    async def _reset_statistics(self, _request: web.Request) -> web.Response:
        await self._node.reset_statistics()
        return _json({"done": True})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        job = await self._node.job(request.match_info["id"])
        return await _stream(request, job.events())


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except OffloadError as error:
        return _refusal(error)
    except web.HTTPException as error:
        return _refusal(
            UsageError(f"{request.method} {request.path}: {error.reason}"), error.status
        )
    except OSError as error:  # a file that the request names
        return _refusal(UsageError(f"{error.filename}: {error.strerror}"))
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _refusal(Refused("the instance met a bug of its own; its log has the details"), 500)


def _refusal(error: OffloadError, status: int | None = None) -> web.Response:
    return _json(error_to_json(error), status=_status_of(error) if status is None else status)


def _status_of(error: OffloadError) -> int:
    match error:
        case JobNotFound() | LetterNotFound() | ScheduleNotFound():
            return 404
        case Conflict() | JobFailed():
            return 409
        case StoreFault():
            return 503
    return 503 if error.retryable else 400


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.json_response(value, status=status, dumps=_dumps)


def _dumps(value: Any) -> str:
    return json.dumps(value, default=str)


async def _stream(request: web.Request, events: AsyncIterator[Any]) -> web.StreamResponse:
    """Send each event as a line of JSON, until they end or nobody listens."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    try:
        async for event in events:
            await response.write(_dumps(event).encode() + b"\n")
    except OffloadError as error:  # too late for a status
        await response.write(_dumps({"kind": "error", **error_to_json(error)}).encode() + b"\n")
    except ConnectionResetError:
        log.debug("nobody listens to %s any more", request.path)
    return response


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except (ValueError, RecursionError):
        raise UsageError("the body is not JSON") from None
    if not isinstance(body, dict):
        raise UsageError("the body must be an object")
    return body


def _wanted(request: web.Request) -> dict[str, Any]:
    """Return the words of a request by which jobs are found, checked as far as they can be here."""
    asked = request.query
    words: dict[str, Any] = {"states": asked.getall("state", []), "topic": asked.get("topic", "**")}
    if "where" in asked:
        words["where"] = asked.getall("where")
    given = ("match", "since", "until", "worker", "queue", "origin")
    words |= {name: asked[name] for name in given if name in asked}
    query(0.0, **{name: word for name, word in words.items() if name != "origin"})
    return words


def _number(name: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise UsageError(f"{name}: {text!r} is not a number")
    return int(text)
