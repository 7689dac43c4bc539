"""Durations as people write them: ``"90s"``, ``"2m"``, ``"1h30m"``, ``"250ms"``, or seconds."""

import re
from typing import Final

LONGEST_S: Final = 1e10  # three centuries
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")


def seconds(value: str | float) -> float:
    """Return ``value`` in seconds; raise ``ValueError`` with what is expected."""
    number = _read(value) if isinstance(value, str) else value
    known = isinstance(number, int | float) and not isinstance(number, bool)
    if not known or not 0 <= number <= LONGEST_S:
        raise ValueError(f"{value!r} is no duration; write 90s, 2m, 1h30m, 250ms or seconds")
    return float(number)


def _read(text: str) -> float:
    parts = _PART.findall(text)
    if not parts or "".join(n + unit for n, unit in parts) != text.replace(" ", ""):
        return -1.0
    return float(sum(float(n) * _UNITS_S[unit] for n, unit in parts))
