"""Time that neither jumps nor pauses, and goes on after a restart (DESIGN §2)."""

import time

import pytest

from offload import clock
from offload.clock import Mark, SystemClock


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Is what the machine counts, at ``ticks["now"]``, in its boot ``one``."""
    ticks = {"now": 500.0}
    monkeypatch.setattr(clock, "ticks_s", lambda: ticks["now"])
    monkeypatch.setattr(clock, "machine_boot", lambda: "one")
    return ticks


class TestSteadyTime:
    def test_starts_at_zero(self, ticks: dict[str, float]) -> None:
        assert SystemClock().now() == 0.0

    def test_follows_the_machine(self, ticks: dict[str, float]) -> None:
        steady = SystemClock()
        ticks["now"] += 2.5
        assert steady.now() == 2.5

    def test_does_not_care_for_the_wall_clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """G25."""
        steady = SystemClock()
        before = steady.now()
        monkeypatch.setattr(time, "time", lambda: -600.0)
        assert 0 <= steady.now() - before < 60
        assert steady.wall() == -600.0

    def test_goes_on_through_a_restart_of_the_program(self, ticks: dict[str, float]) -> None:
        first = SystemClock()
        ticks["now"] += 10
        mark = first.mark()
        ticks["now"] += 30  # nobody ran
        assert SystemClock(mark).now() == 40.0

    def test_goes_on_where_it_stopped_after_a_restart_of_the_machine(
        self, ticks: dict[str, float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mark = SystemClock(Mark("one", 400.0, 70.0)).mark()
        assert mark == Mark("one", 500.0, 170.0)
        monkeypatch.setattr(clock, "machine_boot", lambda: "two")
        for ticks_since_boot in (3.0, 900.0):
            ticks["now"] = ticks_since_boot
            assert SystemClock(mark).now() == 170.0

    def test_never_runs_backwards_where_boots_have_no_name(
        self, ticks: dict[str, float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(clock, "machine_boot", lambda: "")
        mark = SystemClock().mark()
        ticks["now"] = 3.0
        assert SystemClock(mark).now() == mark.steady_s


def test_the_machine_has_a_clock_that_only_rises() -> None:
    readings = [clock.ticks_s() for _ in range(100)]
    assert readings == sorted(readings)
    assert clock.machine_boot() == clock.machine_boot()


async def test_sleep_takes_its_time() -> None:
    steady = SystemClock()
    before = steady.now()
    await steady.sleep(0.02)
    assert steady.now() - before >= 0.019
