"""What is remembered of an own job under way at a peer."""

from dataclasses import dataclass
from typing import Final

OFFER_AGAIN_S: Final = 1.0
Life = tuple[str, int]  # store id and boot of an instance
NOBODY: Final = ("", 0)


@dataclass(slots=True)
class Flight:
    """One own job under way at ``worker``, taking a place in its ``queue``."""

    worker: str
    attempt: int
    queue: str
    lease_s: float
    told: bool = False  # the worker has answered …
    life: Life = NOBODY  # … in this life of it
    again_at: float = 0.0  # when to say it once more: OFFER, or CANCEL
    pause_s: float = OFFER_AGAIN_S
    stopping: bool = False
    silent_since: float | None = None
