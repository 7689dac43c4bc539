"""Groups of verbs of the running instance, as seen from another program; see ``client``."""

from collections.abc import Awaitable, Callable
from typing import Any


class Topics:
    """The topics of all instances; what is switched is done there when the call returns."""

    def __init__(self, ask: Callable[..., Awaitable[dict[str, Any]]]) -> None:
        self._ask = ask

    async def all(self) -> dict[str, Any]:
        """Return the matrix of topics and instances."""
        return await self._ask("GET", "/api/topics")

    async def enable(self, *topics: str, on: str = "") -> None:
        """Run topics (or patterns) again, there or ``on`` another instance; see ``Enablement``."""
        await self._switch("enable", topics, on)

    async def disable(self, *topics: str, on: str = "") -> None:
        """Run topics no more until they are enabled; what waits goes back."""
        await self._switch("disable", topics, on)

    async def only(self, *topics: str, on: str = "") -> None:
        """Let an instance run these topics and no others."""
        await self._switch("only", topics, on)

    async def reset(self, *topics: str, on: str = "") -> None:
        """Forget what was switched of topics (none: of all)."""
        await self._switch("reset", topics, on)

    async def _switch(self, verb: str, topics: tuple[str, ...], on: str) -> None:
        body = {"topics": list(topics), "on": on}
        await self._ask("POST", f"/api/topics/{verb}", body=body)
