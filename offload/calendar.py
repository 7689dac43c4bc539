"""
When schedules fire: a calendar without a clock.

Moments are seconds since 1970, as wall clocks have them. Times of day belong to a time zone. On
days on which clocks are moved, a time that comes twice counts the first time only, and one that is
left out counts as if clocks had not been moved yet (RFC 5545: 02:30 is 03:30 then): so a daily
02:30 runs once on both days. What comes every hour (``hourly``, or a cron expression for every
hour) goes by the hours that pass, 23 or 25 of them on such days.
"""

import re
from calendar import monthrange
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from itertools import count
from typing import Any, Final
from zoneinfo import ZoneInfo

from offload import cron
from offload.durations import seconds, span

TEXT_LIMIT: Final = 200
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_MONTHS: Final = "jan feb mar apr may jun jul aug sep oct nov dec"
_TIME: Final = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_CRON_CHANCE: Final = re.compile(r"(^|[\s,])[rh]($|[\s(/,])")  # croniter's "any" and "by hash"
_CRON_RANGE: Final = re.compile(r"(?<![\w-])(\w+)-(\w+)(?:/\d+)?(?![\w/-])")
_CRON_NAMES: Final = {
    **{day[:3]: str(number) for number, day in enumerate(_DAYS, 1)},
    **{month: str(number) for number, month in enumerate(_MONTHS.split(), 1)},
}
_SOME_MOMENT: Final = 1.7e9  # from which on every cron expression must come at all
_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(weeks=1)


class Kind(StrEnum):
    """How times are said."""

    EVERY = "every"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"
    AT = "at"
    CRON = "cron"


class Misfire(StrEnum):
    """What becomes of firings that nobody was there for."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Times:
    """
    The moments at which a schedule fires.

    Attributes:
        kind: How they are said.
        value: What is said, in one form of the several that ``of`` takes.
        zone: The time zone, such as ``Europe/Berlin``; "": UTC, until somebody knows better.
    """

    kind: Kind
    value: str
    zone: str = ""

    @classmethod
    def of(cls, kind: Kind, value: object, zone: str = "") -> "Times":
        """
        Return the times that ``value`` means.

        ``every``: ``"90s"``, ``"2h"`` (whole seconds, counted from 1970, so that all instances
        agree); ``hourly``: the minute; ``daily``: ``"10:05"``; ``weekly``: ``"wed 19:12"`` (or 1,
        Monday, to 7); ``monthly``: ``"31 10:05"`` (or ``last``; a shorter month's last day);
        ``yearly``: ``"02-29 10:05"`` (the 28th in other years); ``at``: a date and time, once;
        ``cron``: five fields, or ``@daily`` and its like.

        Raises:
            ValueError: If it means none, or the zone is none.
        """
        zone_of(zone)
        text = " ".join(as_text(value).split())
        if not text or len(text) > TEXT_LIMIT:
            raise ValueError(f"must be said in 1 to {TEXT_LIMIT} characters")
        return cls(kind, _RULES[kind][0](text), zone)

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"

    def next_after(self, moment: float) -> float | None:
        """Return the first moment after ``moment``, or None if there is none."""
        return _RULES[self.kind][1](self.value, zone_of(self.zone), moment)

    def upcoming(self, moment: float, limit: int) -> list[float]:
        """Return the first ``limit`` moments after ``moment``."""
        found: list[float] = []
        following = self.next_after(moment)
        while following is not None and len(found) < limit:
            found.append(following)
            following = self.next_after(following)
        return found

    def last_of(self, moment: float, now: float) -> float | None:
        """Return the last moment after ``moment`` and up to ``now``, or None."""
        low = self.next_after(moment)
        if low is None or low > now or self.kind is Kind.AT:
            return low if low is not None and low <= now else None
        high = int(now) + 1  # the one that is looked for lies in [low, high), at a whole second
        while high - low > 1:
            middle = int(low + high) // 2
            following = self.next_after(middle - 1)
            if following is not None and following <= now:
                low = following
            else:
                high = middle
        return low


@dataclass(frozen=True, slots=True)
class Due:
    """Up to ``at`` all firings are settled by one for ``at``, or, if not ``fires``, by none."""

    at: float
    fires: bool


def due(times: Times, misfire: Misfire, after: float, now: float, late_s: float) -> Due | None:
    """
    Say what is to be done now about the firings after ``after``; None: nothing yet.

    One that is at most ``late_s`` late is not missed yet.
    """
    first = times.next_after(after)
    if first is None or first > now:
        return None
    if misfire is Misfire.ALL:
        return Due(first, fires=True)
    last = times.last_of(after, now) or first
    return Due(last, fires=misfire is Misfire.ONCE or now - last <= late_s)


def as_text(value: object) -> str:
    """Return ``value`` (text, number, time, date, or several of them) as it would be written."""
    match value:
        case str():
            return value
        case bool():
            raise ValueError(f"{value!r} says no time")
        case int() | float():
            return f"{value:g}" if isinstance(value, float) else str(value)
        case date() | time():  # datetime is a date
            return value.isoformat()
        case timedelta():
            return f"{value.total_seconds():g}s"
        case tuple() | list():
            return " ".join(map(as_text, value))
    raise ValueError(f"{value!r} says no time")


@lru_cache(maxsize=256)
def zone_of(name: str) -> tzinfo:
    """Return the time zone ``name``; raise ``ValueError``."""
    if name in ("", "UTC"):  # there even where the system has no table of zones
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        reason = "is no time zone; write one such as Europe/Berlin or UTC"
        raise ValueError(f"{name!r} {reason}") from None


# --- how each kind is read ---------------------------------------------------------------------


def _read_every(text: str) -> str:
    span_s = seconds(float(text) if re.fullmatch(r"[0-9.]+", text) else text)
    if span_s < 1 or span_s != int(span_s):
        raise ValueError(f"{text!r} must be whole seconds, 1 s or more")
    return span(int(span_s))


def _read_hourly(text: str) -> str:
    minute = text.removeprefix(":")
    if not re.fullmatch(r"[0-9]{1,2}", minute) or int(minute) > 59:
        raise ValueError(f"{text!r} is no minute; write 0 to 59")
    return f":{int(minute):02}"


def _read_time(text: str) -> str:
    match = _TIME.fullmatch(text)
    hour, minute, second = (int(part or 0) for part in match.groups()) if match else (99, 0, 0)
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(f"{text!r} is no time of day; write 10:05 or 10:05:30")
    read = time(hour, minute, second)
    return read.isoformat("seconds" if read.second else "minutes")


def _read_weekly(text: str) -> str:
    day, _, clock = text.partition(" ")
    return f"{_DAYS[_weekday(day)][:3]} {_read_time(clock)}"


def _weekday(text: str) -> int:
    if text in tuple("1234567"):
        return int(text) - 1
    word = text.lower()
    for number, name in enumerate(_DAYS):
        if len(word) >= 3 and name.startswith(word):
            return number
    raise ValueError(f"{text!r} is no day of the week; write mon to sun, or 1 (Monday) to 7")


def _read_monthly(text: str) -> str:
    day, _, clock = text.partition(" ")
    number = "31" if day.lower() == "last" else day
    if not re.fullmatch(r"[0-9]{1,2}", number) or not 1 <= int(number) <= 31:
        raise ValueError(f"{day!r} is no day of the month; write 1 to 31, or last")
    return f"{int(number)} {_read_time(clock)}"


def _read_yearly(text: str) -> str:
    day, _, clock = text.partition(" ")
    match = re.fullmatch(r"([0-9]{1,2})-([0-9]{1,2})", day)
    month, number = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= month <= 12 or not 1 <= number <= monthrange(2000, month)[1]:
        raise ValueError(f"{day!r} is no day of the year; write month and day, such as 12-24")
    return f"{month:02}-{number:02} {_read_time(clock)}"


def _read_at(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no date and time; write 2030-01-31 10:05") from None
    if moment.year == MAXYEAR:  # elsewhere it is in a year that no calendar has
        raise ValueError(f"{text!r} is too late; the year {MAXYEAR - 1} is the last")
    return moment.isoformat()


def _read_cron(text: str) -> str:
    lower = _CRON_RANGE.sub(_one_or_range, text.lower())
    fields = len(lower.split())
    if not lower.startswith("@") and fields != 5:
        raise ValueError(f"{text!r} has {fields} fields; write minute hour day month weekday")
    if _CRON_CHANCE.search(lower):
        raise ValueError(f"{text!r} leaves it to chance; name the times")
    try:
        cron.check(lower)
        following = _next_cron(lower, UTC, _SOME_MOMENT)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{text!r} is no cron expression: {error}") from None
    if following is None:
        raise ValueError(f"{text!r} never comes")
    return lower


def _one_or_range(match: re.Match[str]) -> str:
    """Return a range, or the only value of it: of ``5-5`` and ``mon-1/2`` croniter makes ``*``."""
    first, last = (_CRON_NAMES.get(end, end).lstrip("0") for end in match.groups())
    one = first == last or set(match.groups()) == {"sun", "0"}  # which is both 0 and 7
    return match[1] if one else match[0]


# --- when each kind comes next -----------------------------------------------------------------


def _next_every(value: str, _zone: tzinfo, moment: float) -> float:
    span_s = int(seconds(value))
    return float((int(moment // span_s) + 1) * span_s)


def _next_hourly(value: str, zone: tzinfo, moment: float) -> float | None:
    return _next_passing(f"{int(value[1:])} * * * *", zone, moment)


def _next_daily(value: str, zone: tzinfo, moment: float) -> float:
    start = _yesterday(zone, moment)
    return _first((start + n * _DAY for n in count()), value, zone, moment)


def _next_weekly(value: str, zone: tzinfo, moment: float) -> float:
    day, clock = value.split()
    start = _yesterday(zone, moment)
    start += _DAY * ((_weekday(day) - start.weekday()) % 7)
    return _first((start + n * _WEEK for n in count()), clock, zone, moment)


def _next_monthly(value: str, zone: tzinfo, moment: float) -> float:
    day, clock = value.split()
    start = _yesterday(zone, moment)
    months = (divmod(start.year * 12 + start.month - 1 + n, 12) for n in count())
    days = (_day_of(year, month + 1, int(day)) for year, month in months)
    return _first(days, clock, zone, moment)


def _next_yearly(value: str, zone: tzinfo, moment: float) -> float:
    day, clock = value.split()
    month, number = map(int, day.split("-"))
    years = count(_yesterday(zone, moment).year)
    return _first((_day_of(year, month, number) for year in years), clock, zone, moment)


def _next_at(value: str, zone: tzinfo, moment: float) -> float | None:
    at = datetime.fromisoformat(value)
    at_moment = (at if at.tzinfo else at.replace(tzinfo=zone)).timestamp()
    return at_moment if at_moment > moment else None


def _next_cron(value: str, zone: tzinfo, moment: float) -> float | None:
    hours = cron.hours(value)
    every_hour = hours == ["*"] or len(hours) == 24
    return (_next_passing if every_hour else _next_named)(value, zone, moment)


def _yesterday(zone: tzinfo, moment: float) -> date:
    """Return the day before that of ``moment``: its last firing may come late, for a gap."""
    return datetime.fromtimestamp(moment, zone).date() - _DAY


def _day_of(year: int, month: int, day: int) -> date:
    return date(year, month, min(day, monthrange(year, month)[1]))


def _first(days: Iterator[date], clock: str, zone: tzinfo, moment: float) -> float:
    at = time.fromisoformat(clock)
    moments = (datetime.combine(day, at, zone).timestamp() for day in days)
    return next(found for found in moments if found > moment)


def _next_named(expression: str, zone: tzinfo, moment: float) -> float | None:
    """Go by what clocks show: each time of day counts once."""
    skipped_s = max(0.0, _offset_s(zone, moment) - _offset_s(zone, moment - 86_400))
    shown: datetime | None = _shown(moment - skipped_s, _offset_s(zone, moment))
    while (shown := cron.following(expression, shown)) is not None:
        found = shown.replace(tzinfo=zone).timestamp()
        if found > moment:
            return found
    return None


def _next_passing(expression: str, zone: tzinfo, moment: float) -> float | None:
    """Go by the hours that pass, also where clocks show them twice or not at all."""
    after, settled = moment, moment
    offset_s = _offset_s(zone, moment)
    while True:
        shown = cron.following(expression, _shown(after, offset_s))
        if shown is None:
            return None
        found = shown.replace(tzinfo=UTC).timestamp() - offset_s
        if _offset_s(zone, found) == offset_s:
            return found
        settled = _moved(zone, settled, found)  # clocks are moved before that
        after, offset_s = settled - 1, _offset_s(zone, settled)


def _moved(zone: tzinfo, before: float, after: float) -> float:
    """Return the first whole second in between at which the zone has another offset."""
    offset_s = _offset_s(zone, before)
    low, high = int(before), int(after)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_s(zone, middle) == offset_s:
            low = middle
        else:
            high = middle
    return float(high)


def _shown(moment: float, offset_s: float) -> datetime:
    """Return what clocks show, to the second."""
    return datetime.fromtimestamp(int(moment // 1) + offset_s, UTC).replace(tzinfo=None)


def _offset_s(zone: tzinfo, moment: float) -> float:
    offset = datetime.fromtimestamp(moment, zone).utcoffset()
    return offset.total_seconds() if offset else 0.0


_RULES: Final[
    Mapping[Kind, tuple[Callable[[str], str], Callable[[str, tzinfo, float], float | None]]]
] = {
    Kind.EVERY: (_read_every, _next_every),
    Kind.HOURLY: (_read_hourly, _next_hourly),
    Kind.DAILY: (_read_time, _next_daily),
    Kind.WEEKLY: (_read_weekly, _next_weekly),
    Kind.MONTHLY: (_read_monthly, _next_monthly),
    Kind.YEARLY: (_read_yearly, _next_yearly),
    Kind.AT: (_read_at, _next_at),
    Kind.CRON: (_read_cron, _next_cron),
}


def chosen(given: Mapping[str, Any], zone: str = "") -> Times:
    """
    Return the times that exactly one entry of ``given`` (kind -> value) says; None is none.

    Raises:
        ValueError: If not one is given, or it is wrong; it names the kind.
    """
    said = [(Kind(kind), value) for kind, value in given.items() if value is not None]
    if len(said) != 1:
        raise ValueError(f"say when, by exactly one of {', '.join(Kind)}")
    [(kind, value)] = said
    try:
        zone_of(zone)
    except ValueError as error:
        raise ValueError(f"zone: {error}") from None
    try:
        return Times.of(kind, value, zone)
    except ValueError as error:
        raise ValueError(f"{kind}: {error}") from None
