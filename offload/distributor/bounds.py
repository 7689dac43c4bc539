"""How much of others this instance takes, and for how long it waits for them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from offload.sizes import size_text

log = logging.getLogger(__name__)
LOOK_EVERY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    What is taken of others at most.

    Attributes:
        disk_free_bytes: With less room on the disk nothing is taken.
        held: Jobs of others that are here and not done.
        outbox: Outcomes that wait to be acknowledged.
        outbox_s: How long an outcome waits for an origin that is away.
        blobs_bytes: What files may take here; None: all that the disk has.
        origin_held: Of them, jobs of one origin; 0: no limit.
        origin_disk_bytes: What the files of one origin's jobs take; 0: no limit.
        origin_rate: So many jobs of one origin are taken in so many seconds; None: no limit.
        lost_after_s: How long an at-most-once job waits for a worker that is out of reach.
    """

    disk_free_bytes: int = 0
    held: int = 10_000
    outbox: int = 100_000
    outbox_s: float = 7 * 86_400.0
    lost_after_s: float = 600.0
    blobs_bytes: int | None = None
    origin_held: int = 0
    origin_disk_bytes: int = 0
    origin_rate: tuple[int, float] | None = None


class Gate:
    """
    Says why nothing of others is taken now.

    Args:
        bounds: The bounds as they are now.
        free_bytes: How much room the disk has.
        counts: How many jobs of others are here, and how many outcomes wait.
        blob_bytes: What files take here.
    """

    def __init__(
        self,
        bounds: Callable[[], Bounds],
        free_bytes: Callable[[], int],
        counts: Callable[[], tuple[int, int]],
        blob_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._bounds = bounds
        self._free_bytes = free_bytes
        self._counts = counts
        self._blob_bytes = blob_bytes
        self._low = ""
        self._look_at = 0.0

    def tick(self, now: float) -> bool:
        """Look at the disk now and then; say whether it is another matter than before."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_EVERY_S
        wanted = self._bounds().disk_free_bytes
        low = ""
        if self._free_bytes() < wanted:
            low = f"its disk is low: less than {size_text(wanted)} are free (its limits.disk_free)"
        if low == self._low:
            return False
        if bool(low) != bool(self._low):
            log.warning("jobs of others are %s", f"not taken: {low}" if low else "taken again")
        self._low = low
        return True

    def shelf(self, coming: int = 0) -> str:
        """Return why no more can be held if ``coming`` are on their way to the shelf; or ""."""
        bounds, (held, _) = self._bounds(), self._counts()
        full = held + coming >= bounds.held
        why = f"its shelf is full: it holds {bounds.held} jobs of others (its limits.held)"
        return why if full else ""

    def room(self, size: int) -> str:
        """Return why files of that size together cannot come here; "" if they can."""
        bounds = self._bounds()
        if not size:
            return ""
        if size > self._free_bytes() - bounds.disk_free_bytes:
            return f"its disk has no room for {size_text(size)} of files"
        if bounds.blobs_bytes is not None and self._blob_bytes() + size > bounds.blobs_bytes:
            limit = f"all may take {size_text(bounds.blobs_bytes)} (its limits.blobs)"
            return f"it has no room for {size_text(size)} of files: {limit}"
        return ""

    def closed(self) -> str:
        """Return why nothing is taken for now, "" if it is."""
        bounds, (_, outbox) = self._bounds(), self._counts()
        if outbox >= bounds.outbox:
            waiting = f"{bounds.outbox} outcomes wait for their origins"
            return f"its outbox is full: {waiting} (its limits.outbox)"
        return self._low
