"""
The pure topology, told as text: ``scenarios/*.txt``, each what happens to ann and what she finds.

A line is a moment in seconds and what ann is told; one with ``>`` is a fact that she finds, and no
other may be found. Time passes in quarters of a second. Lines that begin with ``#`` say why.

    TIME link PEER [uptime SECONDS]      TIME unlink PEER        TIME refuse PEER
    TIME hear PEER [FIELD=VALUE …]       TIME left PEER          TIME near PEER OTHER …
    TIME pass PEER OTHER BOOT NUMBER     TIME lost PEER OTHER    TIME asked PEER ann
    TIME meet PEER OTHER=RANK …          together, with their latest beats
    TIME..TIME beat PEER …               at every whole second, numbered by it
    TIME away SECONDS                    no tick for so long
    TIME asks PEER OTHER                 she asks PEER about OTHER
    TIME order PEER …                    her view at that time
    TIME > FACT PEER …                   what she finds
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from offload.peers.topology import Announcement, Answer, Fact, Gone, Question, Silent, Topology

FOLDER: Final = Path(__file__).with_name("scenarios")
TICK_S: Final = 0.25
Line = tuple[float, list[str]]


class Story:
    """One scenario: its lines, played from the first moment to the last."""

    def __init__(self, text: str) -> None:
        self._topology = Topology(Announcement("ann", "ann", 1), 0.0)
        self._inputs: list[Line] = []
        self.expected: list[str] = []
        self.found: list[str] = []
        self._away_until = 0.0
        for line in text.splitlines():
            if line.strip() and not line.startswith("#"):
                self._read(line)

    def play(self) -> None:
        last = max(at for at, _ in self._inputs)
        self._inputs.sort(key=lambda line: line[0])  # stable: as they are written
        waiting = iter(self._inputs)
        line = next(waiting, None)
        for quarter in range(int(last / TICK_S) + 1):
            now = quarter * TICK_S
            if now >= self._away_until:
                self._note(now, self._topology.tick(now))
            while line is not None and line[0] <= now:
                self._do(now, line[1])
                line = next(waiting, None)

    def _read(self, line: str) -> None:
        when, *words = line.split()
        if words[0] == ">":
            self.expected.append(f"{float(when):g} {' '.join(words[1:])}")
        elif ".." in when:
            first, last = map(int, when.split(".."))
            self._inputs += [
                (float(s), ["beat", p]) for s in range(first, last + 1) for p in words[1:]
            ]
        else:
            self._inputs.append((float(when), words))

    def _note(self, now: float, facts: list[Fact]) -> None:
        self.found += [f"{now:g} {text}" for fact in facts for text in told(fact)]

    def _do(self, now: float, words: list[str]) -> None:
        verb, *rest = words
        self._note(now, getattr(self, f"_{verb}")(now, *rest) or [])

    # --- what a line can say -------------------------------------------------------------------

    def _link(self, now: float, peer: str, *uptime: str) -> list[Fact]:
        uptime_s = float(uptime[1]) if uptime else None
        return self._topology.linked(peer, now, uptime_s=uptime_s)

    def _unlink(self, now: float, peer: str) -> list[Fact]:
        return self._topology.unlinked(peer, now)

    def _refuse(self, now: float, peer: str) -> list[Fact]:
        return self._topology.refused(peer, now)

    def _left(self, _now: float, peer: str) -> list[Fact]:
        return self._topology.left(peer)

    def _near(self, now: float, peer: str, *others: str) -> list[Fact]:
        return self._topology.neighbours(peer, set(others), now)

    def _beat(self, now: float, peer: str) -> list[Fact]:
        return self._topology.beat(peer, int(now), {}, now)

    def _pass(self, now: float, peer: str, other: str, boot: str, number: str) -> list[Fact]:
        return self._topology.pass_on(peer, {other: (int(boot), int(number))}, now)

    def _lost(self, now: float, peer: str, other: str) -> list[Fact]:
        return self._topology.answered(peer, Answer(other, 1, 0, alive=False), now)

    def _asked(self, now: float, peer: str, about: str) -> list[Fact]:
        own = self._topology.own
        question = Question(peer, about, own.boot, own.incarnation, 0)
        return self._topology.suspected(question, now)[1]

    def _hear(self, now: float, peer: str, *fields: str) -> list[Fact]:
        given = {key: int(value) for key, value in (field.split("=") for field in fields)}
        return self._topology.hear([Announcement(peer, peer, **{"boot": 1, **given})], peer, now)

    def _meet(self, now: float, via: str, *standings: str) -> list[Fact]:
        ranks = dict(standing.split("=") for standing in standings)
        part = [Announcement(i, i, 1, rank=int(rank)) for i, rank in ranks.items()]
        return self._topology.hear(part, via, now, numbers=dict.fromkeys(ranks, int(now)))

    def _asks(self, now: float, peer: str, other: str) -> None:
        asked = {(question.peer, question.id) for question in self._topology.questions()}
        assert (peer, other) in asked, now

    def _away(self, now: float, seconds: str) -> None:
        self._away_until = now + float(seconds)

    def _order(self, now: float, *peers: str) -> None:
        assert [i.id for i in self._topology.view.instances] == list(peers), now


def told(fact: Fact) -> Iterator[str]:
    """Put a fact as the files do; that ann says something else of herself goes without saying."""
    kind = type(fact).__name__.lower()
    match fact:
        case Gone():
            yield f"{kind} {fact.id} {'confirmed' if fact.confirmed else 'unconfirmed'}"
        case Silent():
            yield f"{kind} {fact.id}"
        case _ if kind != "updated" or fact.id != "ann":
            yield f"{kind} {fact.id}"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_a_scenario_goes_as_it_is_told(path: Path) -> None:
    story = Story(path.read_text("utf-8"))
    story.play()
    assert story.found == story.expected
