"""The doctor of an instance that runs: asks peers to sound with us, and sounds when they ask."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from offload.clock import Clock
from offload.config import Config
from offload.datadir import DataDir
from offload.doctor import wire
from offload.doctor.checkup import gather
from offload.doctor.facts import Answer, Instance, Peer
from offload.doctor.findings import told
from offload.doctor.multicast import listen_for
from offload.doctor.rules import judged
from offload.doctor.subject import Subject
from offload.events import Bus
from offload.peers.discovery.addresses import is_loopback
from offload.peers.identity import Credentials
from offload.peers.membership import Pulse
from offload.peers.topology import TopologyView
from offload.peers.transport import VERSIONS, Hello, LinkDown, LinkInfo, LinkRefused, TwinFound
from offload.tasks import Tasks

log = logging.getLogger(__name__)
ANSWER_S: Final = 5.0
TWINS_KEPT: Final = 4
DOORS: Final = 8  # addresses of another that are knocked at
_BUSY: Final = Answer("it is busy with another's question")


class Links(Protocol):
    """What is asked of the links."""

    @property
    def port(self) -> int:
        """Return the port that is listened on."""
        ...

    def peers(self) -> Mapping[str, LinkInfo]:
        """Return the linked peers, by instance id."""
        ...

    def refusals(self) -> Sequence[LinkRefused]:
        """Return the instances that were reached and are not linked with."""
        ...

    def send(self, peer: str, kind: str, fields: dict[str, Any]) -> bool:
        """Queue a frame for ``peer``; False if there is no link."""
        ...


class Doctor:
    """
    Examines the instance that it is a room of.

    Args:
        config: What governs it now.
        data_dir: Its folder.
        hello: What it says of itself.
        listen: The addresses that it listens on.
        credentials: What it shows to others; None: it is insecure.
        links: To other instances.
        view: Who is there.
        pulse: What is measured of a link.
        bus: Where twins are told of.
        clock: The time.
    """

    def __init__(
        self,
        *,
        config: Callable[[], Config],
        data_dir: DataDir,
        hello: Callable[[], Hello],
        listen: Sequence[str],
        credentials: Credentials | None,
        links: Links,
        view: Callable[[], TopologyView],
        pulse: Callable[[str], Pulse | None],
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._config = config
        self._data_dir = data_dir
        self._hello = hello
        self._listen = tuple(listen)
        self._credentials = credentials
        self._links = links
        self._view = view
        self._pulse = pulse
        self._clock = clock
        self._twins: list[str] = []
        self._asked: dict[int, tuple[str, asyncio.Future[Answer]]] = {}
        self._number = 0
        self._sounding = asyncio.Lock()
        self._tasks = Tasks()
        bus.listen(TwinFound, self._twin_found)
        bus.listen(LinkDown, self._link_down)

    async def examine(self, asked: str = "") -> dict[str, Any]:
        """
        Return what is well and what is not; ``asked``: somebody who is to be looked at as well.

        Raises:
            UsageError: If ``asked`` is neither an address nor a member.
        """
        subject = self._subject()
        return told(judged(await gather(subject, asked)), asked, subject.instance)

    def handlers(self) -> Mapping[str, Any]:
        """Return what to do with frames, by kind."""
        return {"sound": self._on_sound, "sounded": self._on_sounded}

    async def close(self) -> None:
        """End what runs in the background."""
        await self._tasks.close()

    # --- the own instance ----------------------------------------------------------------------

    def _subject(self) -> Subject:
        links = self._links.peers()
        return Subject(
            config=self._config(),
            data_dir=self._data_dir,
            instance=self._instance(),
            listen=self._listen,
            port=self._links.port,
            credentials=self._credentials,
            peers=tuple(
                Peer(
                    id=i.id,
                    name=i.name,
                    addresses=i.addresses,
                    linked=i.id in links,
                    dialled=i.id in links and links[i.id].dialled,
                    silent=i.silent,
                    ahead_s=pulse.ahead_s if (pulse := self._pulse(i.id)) else None,
                )
                for i in self._view().instances
                if not i.own
            ),
            refused=tuple(self._links.refusals()),
            ask=self._ask,
        )

    def _instance(self) -> Instance:
        own = self._hello()
        roster = self._credentials.roster if self._credentials else None
        removed = roster is not None and not roster.has(own.id)
        return Instance(
            data_dir=str(self._data_dir.path),
            id=own.id,
            name=own.name,
            life=own.life,
            running=True,
            pid=os.getpid(),
            realm=own.realm,
            versions=VERSIONS,
            insecure=self._credentials is None,
            group=roster.group if roster else "",
            group_name=roster.name if roster else "",
            trouble="this instance was removed from its group" if removed else "",
            twins=tuple(self._twins),
        )

    def _twin_found(self, twin: TwinFound) -> None:
        if twin.reason not in self._twins:
            self._twins = [*self._twins, twin.reason][-TWINS_KEPT:]

    # --- asking --------------------------------------------------------------------------------

    async def _ask(self, peer: str, hear: str, say: str) -> Answer:
        """Have a linked peer listen for ``hear``, send ``say``, and knock at our addresses."""
        self._number += 1
        number = self._number
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = peer, answered
        late = self._tasks.start(self._give_up(number))
        try:
            if not self._links.send(peer, "sound", wire.wish(number, hear, say)):
                return Answer("there is no link to it")
            return await answered
        finally:
            late.cancel()
            del self._asked[number]

    async def _give_up(self, number: int) -> None:
        await self._clock.sleep(ANSWER_S)
        self._settle(number, Answer(f"no answer within {ANSWER_S:g} s; is it an older version?"))

    def _link_down(self, down: LinkDown) -> None:
        for number, (peer, _) in tuple(self._asked.items()):
            if peer == down.peer:
                self._settle(number, Answer("the link was lost"))

    def _settle(self, number: int, answer: Answer) -> None:
        _, answered = self._asked[number]
        if not answered.done():
            answered.set_result(answer)

    def _on_sounded(self, peer: str, batch: list[dict[str, Any]]) -> None:
        for fields in batch:
            number, answer = wire.read_answer(fields)
            if self._asked.get(number, ("", None))[0] == peer:
                self._settle(number, answer)

    # --- being asked ---------------------------------------------------------------------------

    async def _on_sound(self, peer: str, batch: list[dict[str, Any]]) -> None:
        """Sound for one at a time, so that nobody can make us send much."""
        *others, wish = map(wire.read_wish, batch)
        for other in others:
            self._links.send(peer, "sounded", wire.answer(other.number, _BUSY))
        if self._sounding.locked():
            answer = _BUSY
        else:
            async with self._sounding:
                answer = await self._sound_with(peer, wish)
        self._links.send(peer, "sounded", wire.answer(wish.number, answer))

    async def _sound_with(self, peer: str, wish: wire.Wish) -> Answer:
        log.info("%s asks: does multicast get through?", peer)
        asker = self._view().get(peer)
        local = all(map(is_loopback, self._listen))
        doors = [a for a in (asker.addresses if asker else ()) if is_loopback(a[0]) is local]
        return await listen_for(self._subject(), wish.hear, wish.say, doors[:DOORS])
