"""Keeps what is switched on this instance, and asks others to switch (issue 4, line 5)."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from offload.clock import Clock
from offload.config import CapabilitiesConfig
from offload.enablement import wire
from offload.enablement.switches import Offer, Switches, Verb, offered, switched
from offload.errors import DiskFull, Malformed, PeerUnreachable, Refused, UsageError
from offload.events import Bus
from offload.peers.topology import Instance, TopologyView
from offload.peers.transport import LinkDown
from offload.tasks import Tasks
from offload.topics import check_pattern, covers, specificity
from offload.work.manager import GateMoved
from offload.work.store import Store

log = logging.getLogger(__name__)
ANSWER_S: Final = 5.0
ERRANDS: Final = 16  # of others, at once
_NOTE: Final = "topics"


class Links(Protocol):
    """What is asked of the links."""

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """Queue a frame for ``peer``; False if there is no link."""
        ...

    def complain(self, peer: str, reason: str) -> None:
        """Note that a frame of ``peer`` was malformed."""
        ...


class _Asked(NamedTuple):
    """A wish under way to the instance called ``name``, over the link to ``way``."""

    way: str
    name: str
    answered: asyncio.Future[str]


class Enablement:
    """
    The topics of the whole topology: which instance runs which, and the switches of that.

    Args:
        store: Where the switches of this instance are kept.
        links: To other instances.
        bus: Where it is told that something was switched.
        clock: The time.
        view: Who is there.
        way: By which linked peer an instance is reached, but not by that one; itself, or "".
        find: The instance id for a name, an id or its beginning.
        limits: What the configuration allows and denies.
        consumers: The patterns of the consumers that are here.
        announce: Tells all what this instance runs now.
    """

    def __init__(
        self,
        *,
        store: Store,
        links: Links,
        bus: Bus,
        clock: Clock,
        view: Callable[[], TopologyView],
        way: Callable[[str, str], str],
        find: Callable[[str], str],
        limits: Callable[[], CapabilitiesConfig],
        consumers: Callable[[], Sequence[str]],
        announce: Callable[[], None],
    ) -> None:
        self._store = store
        self._links = links
        self._bus = bus
        self._clock = clock
        self._view = view
        self._way = way
        self._find = find
        self._limits = limits
        self._consumers = consumers
        self._announce = announce
        self._switches = _kept(store.notes.get(_NOTE, ""))
        self._asked: dict[int, _Asked] = {}
        self._number = 0
        self._errands = 0
        self._changing = asyncio.Lock()
        self._tasks = Tasks()
        bus.listen(LinkDown, self._link_down)

    # --- of this instance ----------------------------------------------------------------------

    def allows(self, topic: str) -> bool:
        """Say whether ``topic`` may run here, by the configuration and by what was switched."""
        return self._limits().allows(topic) and self._switches.allow(topic)

    def offer(self) -> Offer:
        """Return what is announced of the consumers that are here."""
        limits = self._limits()
        return offered(self._consumers(), limits.allow, limits.deny, self._switches)

    def handlers(self) -> Mapping[str, Any]:
        """Return what to do with frames, by kind."""
        return {
            "switch": self._on_switch,
            "switch_at": self._on_errand,
            "switched": self._on_switched,
        }

    async def close(self) -> None:
        """End what runs in the background."""
        await self._tasks.close()

    # --- for people ----------------------------------------------------------------------------

    async def enable(self, *topics: str, on: str = "") -> None:
        """
        Run topics (or patterns) again, here or ``on`` another instance.

        When this returns it is done there, known here, and lasts over restarts. What runs goes on.

        Args:
            topics: What to switch.
            on: Name, id or beginning of the id of an instance; "": this one.

        Raises:
            InvalidTopic: If a topic is none.
            UsageError: If there is no such instance.
            Refused: If that instance will not, or no way leads there.
            PeerUnreachable: If it does not answer; it may have been done.
        """
        await self._switch(Verb.ENABLE, topics, on)

    async def disable(self, *topics: str, on: str = "") -> None:
        """Run topics no more until they are enabled; what waits there goes back. See ``enable``."""
        await self._switch(Verb.DISABLE, topics, on)

    async def only(self, *topics: str, on: str = "") -> None:
        """Let an instance run these topics and no others. See ``enable``."""
        await self._switch(Verb.ONLY, topics, on)

    async def reset(self, *topics: str, on: str = "") -> None:
        """Forget what was switched of topics (none: of all). See ``enable``."""
        await self._switch(Verb.RESET, topics or ("**",), on)

    async def all(self) -> dict[str, Any]:
        """Return the matrix of topics and instances, as plain values."""
        instances = self._view().instances
        rows = {p for i in instances for p, _ in i.capabilities}
        rows |= {pattern for i in instances for pattern in i.disabled}
        return {
            "instances": [{"id": i.id, "name": i.name, "own": i.own} for i in instances],
            "topics": [
                {"topic": row, "instances": {i.id: _cell(i, row) for i in instances}}
                for row in sorted(rows)
            ],
        }

    # --- inside --------------------------------------------------------------------------------

    async def _switch(self, verb: Verb, topics: Sequence[str], on: str) -> None:
        patterns = tuple(check_pattern(topic) for topic in topics)
        if not 0 < len(patterns) <= wire.PATTERN_LIMIT:
            raise UsageError(f"name 1 to {wire.PATTERN_LIMIT} topics")
        instance_id = self._find(on) if on else self._view().own.id
        instance = self._view().get(instance_id)
        if instance is None:
            raise UsageError(f"{on} is not in the topology now")
        if instance.own:
            reason = await self._apply(verb, patterns)
        else:
            reason = await self._ask(instance, verb, patterns)
        if reason:
            raise Refused(f"{instance.name}: {reason}")

    async def _apply(self, verb: Verb, patterns: tuple[str, ...]) -> str:
        """Switch, keep that, and tell all; return why not, or ""."""
        async with self._changing:
            limits = self._limits()
            after = switched(
                self._switches,
                verb,
                patterns,
                consumers=self._consumers(),
                allow=limits.allow,
                deny=limits.deny,
            )
            if isinstance(after, str):
                return after
            await self._store.keep_note(_NOTE, json.dumps(after.plain()))
            self._switches = after
        log.info("topics: %s %s", verb.value, ", ".join(patterns))
        self._announce()
        self._bus.publish(GateMoved())
        return ""

    async def _ask(
        self,
        instance: Instance,
        verb: Verb,
        patterns: tuple[str, ...],
        hops: int = wire.HOPS,
        but: str = "",
    ) -> str:
        """Have another instance switch, by way of a third if need be; return why not, or ""."""
        self._number += 1
        number, way = self._number, self._way(instance.id, but)
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[number] = _Asked(way, instance.name, answered)
        late = self._tasks.start(self._give_up(number, instance))
        try:
            if instance.silent:
                return "it is silent, and could not confirm"
            if way == instance.id:
                sent = self._links.send(way, "switch", wire.wish(number, verb, patterns))
            else:
                fields = wire.errand(number, verb, patterns, instance.id, hops)
                sent = bool(way and hops) and self._links.send(way, "switch_at", fields)
            return await answered if sent else "no link leads to it now, not even by way of others"
        finally:
            late.cancel()
            del self._asked[number]

    async def _give_up(self, number: int, instance: Instance) -> None:
        await self._clock.sleep(ANSWER_S)
        why = f"no answer within {ANSWER_S:g} s; it may have been done, or be an older version"
        self._settle(number, PeerUnreachable(instance.name, why))

    def _link_down(self, down: LinkDown) -> None:
        for number, asked in tuple(self._asked.items()):
            if asked.way == down.peer:
                why = "the link was lost before it answered; it may have been done"
                self._settle(number, PeerUnreachable(asked.name, why))

    def _settle(self, number: int, answer: str | PeerUnreachable) -> None:
        answered = self._asked[number].answered
        if answered.done():
            return
        if isinstance(answer, str):
            answered.set_result(answer)
        else:
            answered.set_exception(answer)

    async def _on_switch(self, peer: str, batch: list[dict[str, Any]]) -> None:
        for fields in batch:
            try:
                wish = wire.read_wish(fields)
            except Malformed as error:
                self._links.complain(peer, error.reason)
                continue
            reason = await self._answered(wish)
            log.info("%s asks: %s %s", peer, wish.verb.value, reason or "done")
            self._links.send(peer, "switched", wire.answer(wish.number, reason))

    def _on_errand(self, peer: str, batch: list[dict[str, Any]]) -> None:
        for fields in batch:
            try:
                errand = wire.read_errand(fields)
            except Malformed as error:
                self._links.complain(peer, error.reason)
                continue
            self._errands += 1
            self._tasks.start(self._run(peer, errand))  # not here: who waits would stop the link

    async def _run(self, peer: str, errand: wire.Errand) -> None:
        """Have another switch what ``peer`` wants, and tell it the answer."""
        number, verb, patterns = errand.wish
        instance = self._view().get(errand.to)
        try:
            if self._errands > ERRANDS:
                reason = f"{self._view().own.name} passes on enough wishes now; ask again"
            elif instance is None:
                reason = f"{self._view().own.name}, which was to pass it on, does not know it"
            elif instance.own:
                reason = await self._answered(errand.wish)
            else:
                reason = await self._ask(instance, verb, patterns, errand.hops - 1, peer)
        except PeerUnreachable as error:
            reason = error.reason
        finally:
            self._errands -= 1
        self._links.send(peer, "switched", wire.answer(number, reason))

    async def _answered(self, wish: wire.Wish) -> str:
        if not self._limits().remote:
            return "its owner lets nobody else switch it ([capabilities] remote = false)"
        try:
            return await self._apply(wish.verb, wish.patterns)
        except DiskFull:
            return "its disk is full"

    def _on_switched(self, peer: str, batch: list[dict[str, Any]]) -> None:
        for fields in batch:
            answer = wire.read_answer(fields)
            asked = self._asked.get(answer.number)
            if asked is not None and asked.way == peer:
                self._settle(answer.number, answer.reason)


def _kept(note: str) -> Switches:
    try:
        return Switches.of(json.loads(note)) if note else Switches()
    except ValueError:
        log.warning("what was switched of topics cannot be read; nothing is switched")
        return Switches()


def _cell(instance: Instance, row: str) -> dict[str, str]:
    """Return how an instance is with a topic: ``enabled``, ``disabled`` or ``absent``."""
    if any(covers(pattern, row) for pattern in instance.disabled):
        return {"state": "disabled", "queue": "", "version": ""}
    takers = [c for c in instance.capabilities if covers(c.pattern, row)]
    if not takers:
        return {"state": "absent", "queue": "", "version": ""}
    taker = max(takers, key=lambda c: specificity(c.pattern))
    version = instance.versions.get(taker.pattern, "")
    return {"state": "enabled", "queue": taker.queue, "version": version}
