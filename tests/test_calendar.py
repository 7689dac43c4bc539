"""When schedules fire: tables of what is said, from when on, and what comes then (C009, C043)."""

import itertools
from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest

from offload.calendar import Due, Kind, Misfire, Times, as_text, chosen, due, zone_of

BERLIN, LORD_HOWE, APIA = "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"


def moment(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone_of(zone)).timestamp()


def shown(times: Times, after: str, count: int) -> list[str]:
    """Return the next firings as clocks show them; the second time of a doubled hour is marked."""
    zone = zone_of(times.zone)
    found = [
        datetime.fromtimestamp(at, zone) for at in times.upcoming(moment(after, times.zone), count)
    ]
    return [f"{at:%Y-%m-%d %H:%M}{' again' if at.fold else ''}" for at in found]


class TestTimesComeNext:
    @pytest.mark.parametrize(
        ("kind", "value", "after", "expected"),
        [
            ("every", "90m", "2026-01-01 00:10", ["2026-01-01 01:30", "2026-01-01 03:00"]),
            ("hourly", 5, "2026-01-01 00:05", ["2026-01-01 01:05", "2026-01-01 02:05"]),
            ("daily", "10:05", "2026-02-28 10:05", ["2026-03-01 10:05", "2026-03-02 10:05"]),
            ("weekly", "wed 19:12", "2026-01-01", ["2026-01-07 19:12", "2026-01-14 19:12"]),
            ("weekly", "7 00:00", "2026-01-04", ["2026-01-11 00:00", "2026-01-18 00:00"]),
            ("monthly", "15 08:00", "2026-12-15 08:00", ["2027-01-15 08:00", "2027-02-15 08:00"]),
            ("yearly", "12-24 18:00", "2026-12-24 17:59", ["2026-12-24 18:00", "2027-12-24 18:00"]),
            ("at", "2026-05-05 10:00", "2026-01-01", ["2026-05-05 10:00"]),
            ("at", "2026-05-05 10:00", "2026-05-05 10:00", []),
            ("cron", "0 12 * * mon-fri", "2026-01-02 12:00", ["2026-01-05 12:00"]),
            ("cron", "*/20 9 1 * *", "2026-01-31", ["2026-02-01 09:00", "2026-02-01 09:20"]),
            ("cron", "@weekly", "2026-01-01", ["2026-01-04 00:00"]),
            ("cron", "0 0 * * 7", "2026-01-01", ["2026-01-04 00:00"]),
            ("cron", "5-5 7 * * *", "2026-01-01", ["2026-01-01 07:05", "2026-01-02 07:05"]),
            ("cron", "5-5/2 7-07 * * *", "2026-01-01", ["2026-01-01 07:05", "2026-01-02 07:05"]),
            ("cron", "0 7 * * mon-1,7-sun", "2026-01-01", ["2026-01-04 07:00", "2026-01-05 07:00"]),
            ("cron", "0 7 * * sun-0", "2026-01-01", ["2026-01-04 07:00", "2026-01-11 07:00"]),
            ("cron", "0 0 1 jan-1 *", "2026-01-01", ["2027-01-01 00:00", "2028-01-01 00:00"]),
        ],
    )
    def test_as_they_are_said(
        self, kind: str, value: object, after: str, expected: list[str]
    ) -> None:
        times = Times.of(Kind(kind), value, "UTC")
        assert shown(times, after, max(len(expected), 1)) == expected

    @pytest.mark.parametrize(
        ("kind", "value", "after", "expected"),
        [
            (
                "monthly",
                "31 10:00",
                "2027-12-31 12:00",
                ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30"],
            ),
            ("monthly", "last 10:00", "2027-02-01", ["2027-02-28", "2027-03-31"]),
            ("yearly", "02-29 10:00", "2026-01-01", ["2026-02-28", "2027-02-28", "2028-02-29"]),
            ("cron", "0 10 29 2 *", "2026-01-01", ["2028-02-29", "2032-02-29"]),
            ("cron", "0 10 31 * *", "2026-02-01", ["2026-03-31", "2026-05-31"]),
            ("cron", "0 10 l * *", "2028-02-01", ["2028-02-29", "2028-03-31"]),
        ],
    )
    def test_at_the_ends_of_months_and_in_leap_years(
        self, kind: str, value: str, after: str, expected: list[str]
    ) -> None:
        times = Times.of(Kind(kind), value, BERLIN)
        assert [at[:10] for at in shown(times, after, len(expected))] == expected

    def test_in_their_zone(self) -> None:
        daily = Times.of(Kind.DAILY, "10:05", "Asia/Tokyo")
        assert daily.next_after(moment("2026-01-01", "UTC")) == moment("2026-01-01 01:05", "UTC")

    def test_of_one_moment_with_an_offset_in_no_zone(self) -> None:
        once = Times.of(Kind.AT, "2026-01-01T12:00+02:00", "Asia/Tokyo")
        assert once.next_after(0) == moment("2026-01-01 10:00", "UTC")

    def test_of_a_span_at_the_same_moments_everywhere(self) -> None:
        spans = [Times.of(Kind.EVERY, "7m", zone) for zone in (BERLIN, "Asia/Tokyo")]
        assert len({times.next_after(1.7e9) for times in spans}) == 1


class TestOnTheDaysOnWhichClocksAreMoved:
    """C043."""

    @pytest.mark.parametrize(("kind", "value"), [("daily", "02:30"), ("cron", "30 2 * * *")])
    def test_a_daily_half_past_two_runs_once(self, kind: str, value: str) -> None:
        times = Times.of(Kind(kind), value, BERLIN)
        assert shown(times, "2026-03-28 12:00", 2) == ["2026-03-29 03:30", "2026-03-30 02:30"]
        assert shown(times, "2026-10-24 12:00", 2) == ["2026-10-25 02:30", "2026-10-26 02:30"]

    @pytest.mark.parametrize(("kind", "value"), [("hourly", ":30"), ("cron", "30 * * * *")])
    def test_what_comes_each_hour_goes_by_the_hours_that_pass(self, kind: str, value: str) -> None:
        times = Times.of(Kind(kind), value, BERLIN)
        assert shown(times, "2026-03-29 01:00", 2) == ["2026-03-29 01:30", "2026-03-29 03:30"]
        assert shown(times, "2026-10-25 02:00", 3) == [
            "2026-10-25 02:30",
            "2026-10-25 02:30 again",
            "2026-10-25 03:30",
        ]

    @pytest.mark.parametrize(
        ("expression", "after", "expected"),
        [
            ("*/20 2 * * *", "2026-03-29", ["29 03:00", "29 03:20", "29 03:40", "30 02:00"]),
            ("*/20 2 * * *", "2026-10-25", ["25 02:00", "25 02:20", "25 02:40", "26 02:00"]),
            ("0 1-4 * * *", "2026-03-29", ["29 01:00", "29 03:00", "29 04:00", "30 01:00"]),
            ("0 1-4 * * *", "2026-10-25", ["25 01:00", "25 02:00", "25 03:00", "25 04:00"]),
            ("30 * 25 * *", "2026-10-25 01:40", ["25 02:30", "25 02:30 again", "25 03:30"]),
            ("0 0,12 * * *", "2026-10-25", ["25 12:00", "26 00:00"]),
        ],
    )
    def test_named_hours_count_once_and_any_hours_each(
        self, expression: str, after: str, expected: list[str]
    ) -> None:
        found = shown(Times.of(Kind.CRON, expression, BERLIN), after, len(expected))
        assert [at[8:] for at in found] == expected

    def test_where_they_are_moved_by_half_an_hour(self) -> None:
        hourly = Times.of(Kind.HOURLY, 45, LORD_HOWE)
        assert [at[11:] for at in shown(hourly, "2026-04-05 00:50", 3)] == [
            "01:45",
            "01:45 again",
            "02:45",
        ]

    def test_where_midnight_is_left_out(self) -> None:
        daily = Times.of(Kind.DAILY, "00:30", "America/Sao_Paulo")
        assert shown(daily, "2017-10-14 12:00", 2) == ["2017-10-15 01:30", "2017-10-16 00:30"]

    def test_where_a_whole_day_is_left_out(self) -> None:
        daily = Times.of(Kind.DAILY, "10:00", APIA)
        assert shown(daily, "2011-12-29 09:00", 3) == [
            "2011-12-29 10:00",
            "2011-12-31 10:00",
            "2012-01-01 10:00",
        ]

    @pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE, APIA, "America/New_York"])
    @pytest.mark.parametrize(
        ("kind", "value"),
        [("daily", "02:15"), ("hourly", 15), ("cron", "15 2 * * *"), ("cron", "*/15 * * * *")],
    )
    def test_each_comes_after_the_one_before_wherever_one_begins(
        self, zone: str, kind: str, value: object
    ) -> None:
        times = Times.of(Kind(kind), value, zone)
        for start in (moment("2026-03-27", zone), moment("2026-10-23", zone)):
            chain = times.upcoming(start, 40)
            assert chain == sorted(set(chain))
            for before, following in itertools.pairwise(chain):
                assert times.next_after(before) == following
                assert times.next_after((before + following) / 2) == following


class TestWhatIsSaid:
    @pytest.mark.parametrize(
        ("kind", "value", "kept"),
        [
            ("every", 90, "1m30s"),
            ("every", timedelta(days=1, hours=2), "1d2h"),
            ("hourly", "5", ":05"),
            ("hourly", ":05", ":05"),
            ("daily", time(9, 5), "09:05"),
            ("daily", "9:05:07", "09:05:07"),
            ("weekly", (3, "19:12"), "wed 19:12"),
            ("weekly", "Wednesday 19:12", "wed 19:12"),
            ("weekly", ("sun", time(1)), "sun 01:00"),
            ("monthly", "LAST 1:00", "31 01:00"),
            ("yearly", "2-29 1:00", "02-29 01:00"),
            ("at", date(2030, 1, 2), "2030-01-02T00:00:00"),
            ("at", datetime(2030, 1, 2, 3, tzinfo=UTC), "2030-01-02T03:00:00+00:00"),
            (
                "at",
                datetime(2030, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))),
                "2030-01-02T01:00:00+00:00",
            ),
            ("cron", "  0  12 * *  MON ", "0 12 * * mon"),
        ],
    )
    def test_in_several_ways_is_kept_in_one(self, kind: str, value: object, kept: str) -> None:
        times = Times.of(Kind(kind), value)
        assert (times.value, str(times)) == (kept, f"{kind} {kept}")
        assert Times.of(Kind(kind), kept) == times

    @pytest.mark.parametrize(
        ("kind", "value", "reason"),
        [
            ("every", "0.5s", "whole seconds"),
            ("every", "soon", "is no duration"),
            ("hourly", 60, "write 0 to 59"),
            ("hourly", True, "says no time"),
            ("daily", "25:00", "is no time of day"),
            ("daily", "10", "is no time of day"),
            ("weekly", "8 10:00", "no day of the week"),
            ("weekly", "wed", "is no time of day"),
            ("monthly", "32 10:00", "no day of the month"),
            ("yearly", "02-30 10:00", "no day of the year"),
            ("yearly", "13-01 10:00", "no day of the year"),
            ("at", "tomorrow", "no date and time"),
            ("at", "9999-12-31 23:59", "the year 9998 is the last"),
            ("at", "0001-01-01T00:00+14:00", "no date and time"),
            ("cron", "61 * * * *", "out of range"),
            ("cron", "* * * * * *", "has 6 fields"),
            ("cron", "* * * *", "has 4 fields"),
            ("cron", "0 0 30 2 *", "never comes"),
            ("cron", "r r * * *", "leaves it to chance"),
            ("cron", "h * * * *", "leaves it to chance"),
            ("cron", "@reboot", "no cron expression"),
            ("cron", "", "must be said"),
            ("daily", {"hour": 10}, "says no time"),
        ],
    )
    def test_is_refused_with_the_reason(self, kind: str, value: object, reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            Times.of(Kind(kind), value)

    @pytest.mark.parametrize("zone", ["Mars/Base", "../etc/passwd", "America", "/etc/localtime"])
    def test_in_no_zone_is_refused(self, zone: str) -> None:
        with pytest.raises(ValueError, match="is no time zone"):
            Times.of(Kind.DAILY, "10:00", zone)

    def test_is_one_of_the_ways(self) -> None:
        assert chosen({"daily": "10:00", "cron": None}) == Times(Kind.DAILY, "10:00")
        for given in ({}, {"daily": "10:00", "hourly": 5}, {"daily": None}):
            with pytest.raises(ValueError, match="exactly one of every, hourly"):
                chosen(given)
        with pytest.raises(ValueError, match=r"^hourly: '99' is no minute"):
            chosen({"hourly": 99})
        with pytest.raises(ValueError, match=r"^zone: 'Mars' is no time zone"):
            chosen({"hourly": 5}, "Mars")

    def test_is_text_for_other_programs(self) -> None:
        assert as_text((3, time(19, 12))) == "3 19:12:00"
        assert as_text(1.5) == "1.5"


class TestFiringsThatWereMissed:
    """C043: at most ``late_s`` late is not missed."""

    HOURLY = Times.of(Kind.HOURLY, 0, "UTC")
    START = moment("2026-01-01 00:30", "UTC")

    def due(self, misfire: str, now: str, late_s: float = 5.0) -> Due | None:
        at = datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp()
        return due(self.HOURLY, Misfire(misfire), self.START, at, late_s)

    @pytest.mark.parametrize("misfire", Misfire)
    def test_are_none_before_the_first_is_due(self, misfire: str) -> None:
        assert self.due(misfire, "2026-01-01 00:59:59") is None

    @pytest.mark.parametrize("misfire", Misfire)
    def test_are_none_when_it_is_noticed_in_time(self, misfire: str) -> None:
        expected = Due(moment("2026-01-01 01:00", "UTC"), fires=True)
        assert self.due(misfire, "2026-01-01 01:00:05") == expected

    @pytest.mark.parametrize(
        ("misfire", "settles", "fires"),
        [("skip", "07:00", False), ("once", "07:00", True), ("all", "01:00", True)],
    )
    def test_are_skipped_or_made_up_for_once_or_one_by_one(
        self, misfire: str, settles: str, fires: bool
    ) -> None:
        expected = Due(moment(f"2026-01-01 {settles}", "UTC"), fires)
        assert self.due(misfire, "2026-01-01 07:30") == expected

    def test_do_not_hide_the_one_that_is_due_now(self) -> None:
        expected = Due(moment("2026-01-01 07:00", "UTC"), fires=True)
        assert self.due("skip", "2026-01-01 07:00:01") == expected

    @pytest.mark.parametrize(
        ("kind", "value"),
        [("cron", "*/5 * * * *"), ("every", "1s"), ("yearly", "02-29 10:00"), ("daily", "02:30")],
    )
    def test_are_found_from_the_end_also_after_years(self, kind: str, value: str) -> None:
        times = Times.of(Kind(kind), value, BERLIN)
        now = moment("2026-11-03 11:11:11", BERLIN)
        last = times.last_of(moment("2016-01-01", BERLIN), now)
        assert last is not None
        following = times.next_after(last)
        assert last <= now < (following or 0)

    def test_of_a_single_moment_are_that_moment(self) -> None:
        once = Times.of(Kind.AT, "2026-01-01 10:00:00.5", "UTC")
        at = moment("2026-01-01 10:00:00.5", "UTC")
        assert (once.last_of(0, at + 9e6), once.last_of(0, at - 1), once.last_of(at, at + 1)) == (
            at,
            None,
            None,
        )
