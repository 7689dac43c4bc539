"""When a job takes so long that a second run of it is worth while."""

from collections.abc import Sequence
from typing import Final

from offload.placement.candidates import Candidate

LATE_FACTOR: Final = 3.0
LATE_S: Final = 2.0  # what is over sooner needs no second run


def straggles(ran_s: float, candidates: Sequence[Candidate]) -> bool:
    """Say whether a job that has run for ``ran_s`` is late, by what its topic takes elsewhere."""
    measured = [c.run_s for c in candidates if c.run_s is not None]
    return bool(measured) and ran_s > max(LATE_S, LATE_FACTOR * min(measured))
