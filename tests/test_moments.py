"""Moments that nobody can show are not shown; nothing fails because of them."""

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from offload.cli.terminal import clock_time, local_time
from offload.moments import at_wall, iso

DAMAGED = [1e18, -1e18, math.inf, -math.inf, math.nan]


@pytest.fixture(params=["Etc/GMT-14", "Etc/GMT+12"])
def far_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("wall", DAMAGED)
class TestADamagedMoment:
    def test_is_none(self, wall: float) -> None:
        assert (at_wall(wall), iso(wall)) == (None, None)

    def test_is_no_time_of_the_day(self, wall: float) -> None:
        assert clock_time(wall) == "--:--:--"


class TestAMoment:
    def test_is_told_to_the_millisecond(self) -> None:
        assert iso(1.7e9) == "2023-11-14T22:13:20.000+00:00"
        assert at_wall(1.7e9) == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)

    def test_before_1970_is_one_too(self) -> None:
        assert iso(-1.0) == "1969-12-31T23:59:59.000+00:00"

    def test_that_never_was_is_none(self) -> None:
        assert iso(0.0) is None

    @pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
    def test_of_the_first_or_last_day_is_shown_in_every_zone(self, far_zone: str, day: str) -> None:
        shown = [local_time(f"{day}T{hour}:30:00+00:00") for hour in ("00", "23")]
        assert day.lstrip("0") in " ".join(shown)
