"""Sizes as people write them: ``"2GiB"``, ``"500 MB"``, or bytes."""

import re
from typing import Final

LARGEST: Final = 2**60
_UNITS: Final = {
    "": 1,
    "B": 1,
    **{f"{letter}iB": 1024**n for n, letter in enumerate("KMGT", 1)},
    **{f"{letter}B": 1000**n for n, letter in enumerate("kMGT", 1)},
}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]*)")


def size_bytes(value: str | int) -> int:
    """Return ``value`` in bytes; raise ``ValueError`` with what is expected."""
    number: float = -1
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        number = float(match[1]) * _UNITS.get(match[2], -1)
    if not 0 < number <= LARGEST:
        raise ValueError(f"{value!r} is no size; write 500MB, 2GiB or bytes")
    return int(number)


def size_text(size: int) -> str:
    """Return ``size`` as a person reads it, such as ``1.5 GiB``."""
    left, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if left < 1024 or unit == "GiB":
            break
        left /= 1024
    return f"{left:.4g} {unit}"
