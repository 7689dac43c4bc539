"""The bus: facts travel up, and no listener breaks another."""

import asyncio

import pytest

from offload.events import Bus


class Fact:
    """Something that happened."""


class SpecialFact(Fact):
    """Something special that happened."""


@pytest.fixture
def bus() -> Bus:
    return Bus()


class TestAListener:
    def test_hears_what_it_listens_for_and_its_subclasses(self, bus: Bus) -> None:
        heard: list[Fact] = []
        bus.listen(Fact, heard.append)
        facts = [Fact(), SpecialFact()]
        for fact in (*facts, "something else"):
            bus.publish(fact)
        assert heard == facts

    def test_of_a_subclass_does_not_hear_the_rest(self, bus: Bus) -> None:
        heard: list[Fact] = []
        bus.listen(SpecialFact, heard.append)
        bus.publish(Fact())
        assert heard == []

    def test_hears_nothing_after_its_end_which_may_come_twice(self, bus: Bus) -> None:
        heard: list[Fact] = []
        stop = bus.listen(Fact, heard.append)
        stop()
        stop()
        bus.publish(Fact())
        assert heard == []

    def test_hears_at_once_in_the_order_of_coming(self, bus: Bus) -> None:
        heard: list[int] = []
        for number in range(3):
            bus.listen(Fact, lambda _, number=number: heard.append(number))
        bus.publish(Fact())
        assert heard == [0, 1, 2]

    def test_that_fails_breaks_no_other(self, bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
        def fails(_: Fact) -> None:
            raise RuntimeError("oops")

        heard: list[Fact] = []
        bus.listen(Fact, fails)
        bus.listen(Fact, heard.append)
        bus.publish(Fact())
        assert len(heard) == 1
        assert "oops" in caplog.text

    def test_may_end_itself_while_it_hears(self, bus: Bus) -> None:
        heard: list[Fact] = []

        def once(fact: Fact) -> None:
            heard.append(fact)
            stop()

        stop = bus.listen(Fact, once)
        bus.publish(Fact())
        bus.publish(Fact())
        assert len(heard) == 1


class TestManyEvents:
    def test_are_heard_by_one_listener_after_the_other(self, bus: Bus) -> None:
        heard: list[tuple[str, Fact]] = []
        for who in "ab":
            bus.listen(Fact, lambda fact, who=who: heard.append((who, fact)))
        one, two, special = Fact(), Fact(), SpecialFact()
        bus.publish_all([one, two, special])
        alike = [("a", one), ("a", two), ("b", one), ("b", two)]
        assert heard == [*alike, ("a", special), ("b", special)]

    def test_are_heard_though_one_of_them_makes_a_listener_fail(
        self, bus: Bus, caplog: pytest.LogCaptureFixture
    ) -> None:
        heard: list[Fact] = []

        def hears(fact: Fact) -> None:
            heard.append(fact)
            if len(heard) == 1:
                raise RuntimeError("oops")

        bus.listen(Fact, hears)
        bus.publish_all([Fact(), Fact()])
        assert len(heard) == 2
        assert "oops" in caplog.text


class TestAStream:
    async def test_yields_the_events_in_order(self, bus: Bus) -> None:
        facts = [Fact(), SpecialFact(), Fact()]
        stream = bus.stream(Fact)
        following = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        for fact in facts:
            bus.publish(fact)
        assert [await following, await anext(stream), await anext(stream)] == facts
        await stream.aclose()

    async def test_loses_the_oldest_if_its_consumer_falls_behind(self, bus: Bus) -> None:
        facts = [Fact() for _ in range(5)]
        stream = bus.stream(Fact, limit=2)
        following = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        for fact in facts:
            bus.publish(fact)
        assert [await following, await anext(stream)] == facts[3:]
        await stream.aclose()

    async def test_leaves_nothing_on_the_bus_when_it_is_closed(self, bus: Bus) -> None:
        stream = bus.stream(Fact)
        following = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        bus.publish(Fact())
        await following
        await stream.aclose()
        assert bus._listeners == []
