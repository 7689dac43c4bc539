"""Durations as people write them (``"90s"``, ``"1h30m"``, ``"250ms"``, or seconds), and rates."""

import re
from typing import Final

LONGEST_S: Final = 1e10  # three centuries
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
MOST: Final = 100_000  # starts that are remembered
_RATE: Final = re.compile(r"([0-9]+)/([0-9a-z.]+)")
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def seconds(value: str | float) -> float:
    """Return ``value`` in seconds; raise ``ValueError`` with what is expected."""
    number = _read(value) if isinstance(value, str) else value
    known = isinstance(number, int | float) and not isinstance(number, bool)
    if not known or not 0 <= number <= LONGEST_S:
        raise ValueError(f"{value!r} is no duration; write 90s, 2m, 1h30m, 250ms or seconds")
    return float(number)


def span(whole_s: int) -> str:
    """Return so many seconds as ``"1h30m"``."""
    parts = []
    for unit, size_s in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        number, whole_s = divmod(whole_s, size_s)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts)


def rate(text: str) -> tuple[int, float]:
    """
    Return count and seconds of ``"10/s"`` or ``"5/2m"``: so many in any such time.

    Raises:
        ValueError: With what is expected.
    """
    match = _RATE.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
    if match is not None:
        period = match[2] if match[2][0].isdigit() else f"1{match[2]}"
        count, period_s = int(match[1]), _read(period)
        if 0 < count <= MOST and 0 < period_s <= LONGEST_S:
            return count, period_s
    raise ValueError(f"{text!r} is no rate; write 10/s, 100/m or 5/30s (at most {MOST})")


def _read(text: str) -> float:
    parts = _PART.findall(text)
    if not parts or "".join(n + unit for n, unit in parts) != text.replace(" ", ""):
        return -1.0
    return float(sum(float(n) * _UNITS_S[unit] for n, unit in parts))
