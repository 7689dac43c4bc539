"""How much of us the peers may have: rates, and what waits for them (issue line 7; C116)."""

import asyncio
import logging
from typing import Any

import pytest

from offload import codec
from offload.peers.transport import frames, pace
from offload.peers.transport.pace import Pace, Queued

MIB = 1 << 20


def say(
    to: Pace, peer: str, seconds: float, *, frames: int = 0, size: int = 0, busy_s: float = 0.0
) -> float:
    """A message every tenth of a second, for so long; return the sum of the pauses."""
    return sum(
        to.heard(peer, tick / 10, frames=frames, size=size, busy_s=busy_s)
        for tick in range(int(seconds * 10))
    )


class TestAPeerThatWorksHard:
    def test_never_waits_at_five_thousand_jobs_a_second(self) -> None:
        assert say(Pace(), "bob", 600, frames=5000 * 4 // 10, size=5000 * 4 * 300 // 10) == 0

    def test_never_waits_at_the_rate_of_a_gigabit(self) -> None:
        assert say(Pace(), "bob", 600, frames=50, size=118 * MIB // 10) == 0

    def test_may_be_faster_for_a_while(self) -> None:
        assert Pace().heard("bob", 0.0, frames=150_000, size=0, busy_s=0.0) == 0


class TestAPeerThatSaysTooMuch:
    @pytest.mark.parametrize(
        ("much", "cost_s"),
        [({"frames": 20_000}, 0.4), ({"size": 64 * MIB}, 0.5), ({"busy_s": 0.2}, 0.4)],
        ids=str,
    )
    def test_waits_until_it_is_paid_for(self, much: dict[str, Any], cost_s: float) -> None:
        paces, now, said = Pace(), 0.0, 0
        while now < 100:
            now += paces.heard("eve", now, **({"frames": 0, "size": 0, "busy_s": 0.0} | much))
            now += 0.01
            said += 1
        assert said * cost_s <= 100 + pace.BURST_S + 1

    def test_is_heard_once_a_second_whatever_it_does(self) -> None:
        paces = Pace()
        assert [paces.heard("eve", 0.0, frames=0, size=0, busy_s=60.0) for _ in range(2)] == [1, 1]

    def test_is_forgiven_soon(self) -> None:
        paces = Pace()
        paces.heard("eve", 0.0, frames=0, size=0, busy_s=3600.0)
        assert paces.heard("eve", pace.DEBT_LIMIT_S, frames=1, size=100, busy_s=0.0) == 0

    def test_does_not_make_others_wait(self) -> None:
        paces = Pace()
        for name in ("eve", "mallory", "trudy"):
            say(paces, name, 10, frames=20_000)
        assert paces.heard("bob", 10.0, frames=100, size=30_000, busy_s=0.0) == 0

    def test_waits_longer_when_there_are_several(self) -> None:
        alone, paces = Pace(), Pace()
        rate = {"frames": pace.FRAMES_PER_S // 10}  # just as fast as one may be
        assert say(alone, "eve", 60, **rate) == 0
        pauses = 0.0
        for tick in range(600):
            for name in ("eve", "mallory", "trudy", "bob"):
                pauses += paces.heard(name, tick / 10, frames=5000, size=0, busy_s=0.0)
        assert pauses > 0

    def test_is_forgotten_when_there_are_too_many(self) -> None:
        paces = Pace()
        for number in range(5000):
            paces.heard(str(number), 0.0, frames=1, size=1, busy_s=0.0)
        assert len(paces._debts) <= 1024


class TestALinkThatIsFlooded:
    async def test_is_read_later_and_stays_while_others_are_heard(
        self,
        lan: Any,
        until: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A tenth of the real rates, so that the flood need not be one."""
        monkeypatch.setattr(pace, "FRAMES_PER_S", 5000)
        monkeypatch.setattr(pace, "BURST_S", 0.1)
        ada, eve, bob = [await lan.start(name) for name in ("ada", "eve", "bob")]
        await eve.dial(ada)
        await bob.dial(ada)
        await until(lambda: ada.linked(eve, bob))
        with caplog.at_level(logging.WARNING):
            for number in range(20_000):
                assert eve.transport.send("ada", "news", {"n": number})
            await until(lambda: len(ada.frames) > 5000)
            assert bob.transport.send("ada", "beat", {})
            await until(lambda: ("bob", "beat", {}) in ada.frames)
            before = len(ada.frames)
            assert before < 20_000  # and so much of it has not been read
        assert ada.linked(eve, bob)
        told = [r.getMessage() for r in caplog.records if "eve" in r.getMessage()]
        assert told == ["eve sends more than is read of one peer; it has to wait"]
        await until(lambda: len(ada.frames) == 20_001)  # it was late, and none is lost


class TestWhatWaitsForAllPeers:
    def test_may_be_eight_mebibytes_for_each_until_it_is_too_much(self) -> None:
        queued = Queued()
        assert queued.fits(0, 8 * MIB)
        assert not queued.fits(8 * MIB, 1)
        queued.total = 64 * MIB
        assert not queued.fits(MIB, 1)
        assert queued.fits(0, MIB)  # who is behind because of others is not cut off

    async def test_is_counted_until_it_is_written(self, lan: Any, until: Any) -> None:
        ada, bob = await lan.pair()
        assert ada.transport.send("bob", "news", {"text": "x" * 100_000})
        assert ada.transport._terms.queued.total > 100_000
        await until(lambda: bob.frames)
        assert ada.transport._terms.queued.total == 0

    async def test_is_forgotten_with_the_link(self, lan: Any, until: Any) -> None:
        ada, _ = await lan.pair()
        while ada.transport.send("bob", "news", {"text": "x" * 100_000}):
            pass
        assert ada.transport._terms.queued.total > 7 * MIB
        ada.transport.drop("bob", "test")
        await until(lambda: ada.downs)
        await asyncio.sleep(0)
        assert ada.transport._terms.queued.total == 0


def test_a_message_counts_its_malformed_frames_too() -> None:
    assert frames.split(codec.pack([["beat", {}], ["beat"], "x"])).count == 3
