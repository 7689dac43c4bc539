"""How a call such as ``submit(thumbnail, "in.jpg", size=256)`` becomes arguments by name."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, Protocol

from offload.app import is_context
from offload.errors import UsageError
from offload.job import Job, Options
from offload.mapping import Maps
from offload.payload import Encoded, encode
from offload.wording import apart


class Taker(Protocol):
    """What takes encoded jobs and schedules: a node."""

    def topic_of(self, what: str | Callable[..., Any]) -> str:
        """Return the topic that a string or a consumer function names."""
        ...

    async def submit_encoded(self, topic: str, encoded: Encoded, options: Options) -> Job:
        """Add a job."""
        ...

    async def schedule_encoded(
        self, topic: str, encoded: Encoded, when: Mapping[str, Any], options: Options, **how: str
    ) -> dict[str, Any]:
        """Add a schedule."""
        ...


class Submitter(Maps):
    """``submit``, ``offload`` and ``map`` of a node, with options."""

    def __init__(self, node: Taker, options: Options) -> None:
        self._node = node
        self._options = options

    async def submit(self, what: str | Callable[..., Any], /, *args: Any, **arguments: Any) -> Job:
        """Add a job; see ``Node.submit``."""
        topic = self._node.topic_of(what)
        encoded = encode(_named(what, args, arguments))
        return await self._node.submit_encoded(topic, encoded, self._options)

    async def offload(self, what: str | Callable[..., Any], /, *args: Any, **arguments: Any) -> Any:
        """Add a job and return its value; see ``Node.offload``."""
        job = await self.submit(what, *args, **arguments)
        return await job.result()

    async def schedule(
        self, what: str | Callable[..., Any], /, *args: Any, **when: Any
    ) -> dict[str, Any]:
        """Make jobs when it is time; see ``Node.schedule``."""
        times, how, arguments = apart(when)
        topic = self._node.topic_of(what)
        encoded = encode(dict(sorted(_named(what, args, arguments).items())))
        return await self._node.schedule_encoded(topic, encoded, times, self._options, **how)


def _named(
    what: str | Callable[..., Any], args: tuple[Any, ...], arguments: Mapping[str, Any]
) -> Mapping[str, Any]:
    """
    Return all arguments by name, or positional ones by their number where the worker has to bind.

    Raises:
        UsageError: If they do not fit the function.
    """
    if isinstance(what, str) and not args:
        return arguments
    numbered = {str(index): value for index, value in enumerate(args)}
    if isinstance(what, str):
        return {**numbered, **arguments}
    asked = signature(what)
    given = [p for p in asked.parameters.values() if not is_context(p.annotation)]
    try:
        bound = asked.replace(parameters=given).bind(*args, **arguments).arguments
    except TypeError as error:
        raise UsageError(f"{getattr(what, '__qualname__', what)}: {error}") from None
    if any(p.kind in (p.VAR_POSITIONAL, p.POSITIONAL_ONLY) for p in given):
        return {**numbered, **arguments}
    rest = next((p.name for p in given if p.kind is p.VAR_KEYWORD), None)
    more = bound.pop(rest, {}) if rest else {}
    return {**bound, **more}
