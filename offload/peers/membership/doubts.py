"""
What is said about those that have fallen silent: others are asked, and answer, or pass it on.

A suspect is told of the suspicion by whoever still hears of it, and refutes it by itself.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from offload.clock import Clock
from offload.peers.membership import wire
from offload.peers.membership.spread import Sender
from offload.peers.topology import Fact, Question, Topology

RELAYED_LIMIT: Final = 1000


class Doubts:
    """The part of one instance in all suspicions; ``tell`` takes what it finds out."""

    def __init__(
        self,
        topology: Topology,
        links: Sender,
        clock: Clock,
        tell: Callable[[list[Fact]], None],
        peers: Callable[[], Iterable[str]],
    ) -> None:
        self._topology = topology
        self._links = links
        self._clock = clock
        self._tell = tell
        self._peers = peers
        self._relayed: dict[tuple[str, int, int], None] = {}  # suspicions that were passed on

    def handlers(self) -> Mapping[str, Callable[[str, list[dict[str, Any]]], None]]:
        """Return the handlers of the frames that belong here."""
        return {"suspect": self._asked, "seen": self._answered}

    def ask(self) -> None:
        """Ask others about those that are silent."""
        for question in self._topology.questions():
            self._send(question)

    def _asked(self, peer: str, frames: list[dict[str, Any]]) -> None:
        for fields in frames:
            question = wire.question(peer, fields)
            answer, facts = self._topology.suspected(question, self._clock.now())
            if answer is not None:
                self._links.send(peer, "seen", answer._asdict())
            if question.id != self._topology.own.id:
                self._relay(question, alive=answer is not None and answer.alive)
            self._tell(facts)

    def _relay(self, question: Question, *, alive: bool) -> None:
        """Let the suspect know, that it can refute; in a crowd by way of all that may reach it."""
        life = question.id, question.boot, question.incarnation
        if life in self._relayed:
            return
        self._relayed[life] = None
        if len(self._relayed) > RELAYED_LIMIT:
            del self._relayed[next(iter(self._relayed))]
        if alive:
            self._send(question._replace(peer=question.id))  # if there is a link
        elif self._topology.sparse:
            for peer in self._peers():
                if peer != question.peer:
                    self._send(question._replace(peer=peer))

    def _answered(self, peer: str, frames: list[dict[str, Any]]) -> None:
        for fields in frames:
            answer = wire.answer(fields)
            self._tell(self._topology.answered(peer, answer, self._clock.now()))

    def _send(self, question: Question) -> None:
        fields = question._asdict()
        self._links.send(fields.pop("peer"), "suspect", fields)
