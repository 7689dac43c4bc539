"""What is decided beforehand: what a world is about, and what a consumer does with a job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from offload.work.jobs import Outcome, Result
from tests.simulation.doubles import large_value


@dataclass(frozen=True, slots=True)
class Focus:
    """
    What a world is mostly about; None or empty: chance decides.

    Attributes:
        delivery: How often all jobs may be started.
        faults: Names of the faults that come.
        network: What the network does, by the names of ``Network``'s attributes.
        refusing: Which part of the offers is refused.
        aim: Which part of the commits a crash hits.
        stopping: Which part of the jobs somebody stops.
        others: Whether the origins run no job themselves.
        lasts_s: How long jobs run; most of them.
        hits: Whom the faults befall, "origins" or "workers".
    """

    delivery: str = ""
    faults: tuple[str, ...] = ()
    network: Mapping[str, float] = field(default_factory=dict)
    refusing: float | None = None
    aim: float | None = None
    stopping: float = 0.2
    others: bool = False
    lasts_s: float | None = None
    hits: str = ""


ANYTHING: Final = Focus()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a consumer does with one job."""

    lasts_s: float
    fails: int = 0  # so many runs, before one succeeds
    how: Result = Result.FAILED
    final: bool = False
    large: bool = False
    talks: bool = False

    def outcome(self, number: int, former: int) -> Outcome:
        """Return what comes of run ``number``, before which there were ``former`` of the job."""
        if former < self.fails:
            return Outcome(self.how, reason=f"run {number}: failed")
        if self.final:
            return Outcome(Result.FAILED, reason=f"run {number}: never again", final=True)
        value = b"run %d" % number
        blob = large_value(number) if self.large else None
        return Outcome(Result.SUCCEEDED, value=value, value_blob=blob)
