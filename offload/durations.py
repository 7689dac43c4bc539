"""Durations as people write them: ``"90s"``, ``"2m"``, ``"1h30m"``, ``"250ms"``, or seconds."""

import re
from typing import Final

_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def seconds(value: str | float) -> float:
    """Return ``value`` in seconds; raise ``ValueError`` with what is expected."""
    if isinstance(value, str):
        parts = _PART.findall(value)
        if not parts or "".join(n + unit for n, unit in parts) != value.replace(" ", ""):
            raise ValueError(f"{value!r} is no duration; write 90s, 2m, 1h30m or 250ms")
        return float(sum(float(n) * _UNITS_S[unit] for n, unit in parts))
    if isinstance(value, bool) or not 0 <= value < float("inf"):
        raise ValueError(f"{value!r} is no duration; write 90s, 2m or seconds")
    return float(value)
