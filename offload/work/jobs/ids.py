"""Names of jobs and of contents."""

import hashlib
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = tuple(first + second for first in _CROCKFORD for second in _CROCKFORD)
_TIME_SHIFTS: Final = range(40, -1, -10)
_NOISE_SHIFTS: Final = range(70, -1, -10)
_NOISE_BYTES: Final = 10
_DRAWN: Final = 256  # for so many ids at a time
ID_LENGTH: Final = 26


def new_id(wall_ms: int | None = None, random_bytes: bytes | None = None) -> str:
    """Return a new job id: 48 bits of milliseconds and 80 random bits, in Crockford base 32."""
    ms = time.time_ns() // 1_000_000 if wall_ms is None else wall_ms
    noise = int.from_bytes(random_bytes or os.urandom(_NOISE_BYTES), "big")
    return _of_time(ms) + "".join([_PAIRS[noise >> shift & 1023] for shift in _NOISE_SHIFTS])


def new_ids() -> Iterator[str]:
    """Yield new job ids without end; the system is asked for the random bits of many at a time."""
    while True:
        drawn = os.urandom(_NOISE_BYTES * _DRAWN)
        for at in range(0, len(drawn), _NOISE_BYTES):
            yield new_id(random_bytes=drawn[at : at + _NOISE_BYTES])


@lru_cache(maxsize=1)  # many are made within a millisecond
def _of_time(ms: int) -> str:
    return "".join([_PAIRS[(ms & (2**48 - 1)) >> shift & 1023] for shift in _TIME_SHIFTS])


def is_id(text: str) -> bool:
    """Say whether ``text`` has the form of a job id."""
    return len(text) == ID_LENGTH and not text.strip(_CROCKFORD)


def digest(data: bytes) -> str:
    """Return the SHA-256 of ``data``, hex."""
    return hashlib.sha256(data).hexdigest()


def is_sha256(text: str) -> bool:
    """Say whether ``text`` is a SHA-256 in lower-case hex."""
    return len(text) == 64 and not text.strip("0123456789abcdef")
