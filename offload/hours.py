"""Times of day as people write them: ``"18:00-08:00"``."""

import re
from typing import Final

_SPAN: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*(24:00|(?:[01]?\d|2[0-3]):[0-5]\d)")


def span(text: str) -> tuple[int, int]:
    """
    Return the first minute of the day, and the first one after, of ``"18:00-08:00"``.

    Raises:
        ValueError: With what is expected.
    """
    match = _SPAN.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no time of day; write 18:00-08:00")
    hour, _, minute = match[3].partition(":")
    first, end = int(match[1]) * 60 + int(match[2]), int(hour) * 60 + int(minute)
    if first == end:
        raise ValueError(f"{text!r} begins when it ends")
    return first, end


def within(text: str, minute: int) -> bool:
    """Say whether ``minute`` of the day lies in the span ``text``, which may go past midnight."""
    first, end = span(text)
    return first <= minute < end if first < end else minute >= first or minute < end
