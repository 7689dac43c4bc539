"""
What an instance says of itself beside its topics: from the configuration, and from code (C058).

Providers are asked twice a second, so that a change is seen by all others within one. A provider
that fails, or gives what cannot be announced, changes nothing until it gives something better.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from offload.app import Provider
from offload.clock import Clock
from offload.errors import ConfigError
from offload.peers.topology import Property, check_properties
from offload.tasks import Tasks

log = logging.getLogger(__name__)
EVERY_S: Final = 0.5


class Properties:
    """
    The properties of one instance.

    Args:
        static: What the configuration says; providers do not change that.
        providers: Who else is asked, now.
        announce: Tells all what they are.
        clock: The time.
    """

    def __init__(
        self,
        *,
        static: Mapping[str, Property],
        providers: Callable[[], Sequence[Provider]],
        announce: Callable[[Mapping[str, Property]], None],
        clock: Clock,
    ) -> None:
        self._static = static
        self._providers = providers
        self._announce = announce
        self._clock = clock
        self._given: dict[Provider, Mapping[str, Property]] = {}
        self._faults: dict[Provider, str] = {}
        self._asking: dict[Provider, asyncio.Task[ConfigError | None]] = {}
        self._changed = asyncio.Event()
        self._tasks = Tasks()

    def look_again(self) -> None:
        """Ask at once: there are other providers than before."""
        self._changed.set()

    async def refresh(self) -> None:
        """
        Ask all providers now; when this returns, what they said is announced.

        Raises:
            ConfigError: If one of them gave what cannot be announced, or failed.
        """
        await asyncio.gather(*self._asking.values())
        faults = await asyncio.gather(*self._ask_all())
        for fault in faults:
            if fault is not None:
                raise fault

    async def run(self) -> NoReturn:
        """Ask until cancelled."""
        try:
            while True:
                self._changed.clear()
                self._ask_all()
                if self._providers():
                    await self._clock.sleep(EVERY_S)
                else:
                    await self._changed.wait()
        finally:
            await self._tasks.close()

    # --- inside --------------------------------------------------------------------------------

    def _ask_all(self) -> list[asyncio.Task[ConfigError | None]]:
        """Ask all who have answered the former question; a slow one delays no other."""
        providers = self._providers()
        gone = self._given.keys() - set(providers)
        for provider in gone:
            del self._given[provider]
        if gone:
            self._tell()
        for provider in providers:
            if provider not in self._asking:
                self._asking[provider] = self._tasks.start(self._ask(provider))
        return list(self._asking.values())

    async def _ask(self, provider: Provider) -> ConfigError | None:
        """Take in what a provider says; return what is wrong with that, if anything."""
        fault = None
        try:
            given = await _called(provider)
            if provider in self._providers() and given != self._given.get(provider):
                former = self._given.get(provider)
                self._given[provider] = given
                self._tell_or_undo(provider, former)
        except ConfigError as error:
            fault = error
        except Exception as error:
            fault = ConfigError(_name(provider), f"{type(error).__name__}: {error}")
        finally:
            del self._asking[provider]
        if fault is not None and self._faults.get(provider) != str(fault):
            log.warning("properties are not taken over: %s", fault)
        self._faults[provider] = "" if fault is None else str(fault)
        return fault

    def _tell_or_undo(self, provider: Provider, former: Mapping[str, Property] | None) -> None:
        try:
            self._tell()
        except ConfigError:
            del self._given[provider]
            if former is not None:
                self._given[provider] = former
            raise

    def _tell(self) -> None:
        merged: dict[str, Property] = {}
        for provider in self._providers():
            merged.update(self._given.get(provider, {}))
        self._announce(check_properties({**merged, **self._static}))


async def _called(provider: Provider) -> dict[str, Property]:
    """Return what it says, checked; a plain function is called in a thread, for it may block."""
    given: Any = provider() if inspect.iscoroutinefunction(provider) else None
    given = await given if given is not None else await asyncio.to_thread(provider)
    if not isinstance(given, Mapping):
        raise ConfigError(_name(provider), "must return a map of names and values")
    try:
        return check_properties(given)
    except ConfigError as error:
        raise ConfigError(_name(provider), str(error)) from None


def _name(provider: Provider) -> str:
    return f"properties of {getattr(provider, '__qualname__', provider)}"
