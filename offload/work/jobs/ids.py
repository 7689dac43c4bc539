"""Names of jobs and of contents."""

import hashlib
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_OF_BYTE: Final = _CROCKFORD.encode("ascii") * 8  # five bits of each
_TIME_SHIFTS: Final = range(45, -1, -5)
_NOISE: Final = 16  # characters
_DRAWN: Final = 256  # for so many ids at a time
ID_LENGTH: Final = 26


def new_id(wall_ms: int | None = None, random_bytes: bytes | None = None) -> str:
    """
    Return a new job id: 48 bits of milliseconds and 80 random bits, in Crockford base 32.

    Args:
        wall_ms: The milliseconds since 1970; None: those of now.
        random_bytes: 16, of which five bits each count; None: new ones.
    """
    ms = time.time_ns() // 1_000_000 if wall_ms is None else wall_ms
    return _of_time(ms) + _text(random_bytes or os.urandom(_NOISE))


def new_ids() -> Iterator[str]:
    """Yield new job ids without end; the system is asked for the random bits of many at a time."""
    while True:
        noise = _text(os.urandom(_NOISE * _DRAWN))
        for at in range(0, len(noise), _NOISE):
            yield _of_time(time.time_ns() // 1_000_000) + noise[at : at + _NOISE]


@lru_cache(maxsize=1)  # many are made within a millisecond
def _of_time(ms: int) -> str:
    return "".join([_CROCKFORD[(ms & (2**48 - 1)) >> shift & 31] for shift in _TIME_SHIFTS])


def _text(noise: bytes) -> str:
    return noise.translate(_OF_BYTE).decode("ascii")


def is_id(text: str) -> bool:
    """Say whether ``text`` has the form of a job id."""
    return len(text) == ID_LENGTH and not text.strip(_CROCKFORD)


def digest(data: bytes) -> str:
    """Return the SHA-256 of ``data``, hex."""
    return hashlib.sha256(data).hexdigest()


def is_sha256(text: str) -> bool:
    """Say whether ``text`` is a SHA-256 in lower-case hex."""
    return len(text) == 64 and not text.strip("0123456789abcdef")
