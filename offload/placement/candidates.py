"""An instance as seen by a job that looks for a place."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from offload.work.jobs import Demands, Fact


class Share(NamedTuple):
    """A resource of an instance: what our jobs may still take, what is taken, what there is."""

    window: float
    taken: float
    total: float


@dataclass(slots=True)
class Candidate:
    """
    An instance as seen by a job that looks for a place.

    Attributes:
        id: Its instance id.
        name: Its name, for people.
        own: It is our own instance.
        capable: It has a consumer for the topic, enabled.
        draining: It takes no new work.
        silent: It is not heard of, or has no link.
        free: Jobs that it would start or line up now.
        places: Jobs that run there at once; None: as many as are busy and free.
        busy: Jobs of ours and others that it has.
        run_s: Measured run time of the topic there, in seconds, or None.
        failed: Attempts of this very job that failed there.
        refused: Its last refusal of such a job, while that counts, or "".
        closed: Why nothing of the topic starts there for now, or "".
        disabled: It has a consumer for the topic, and that is not enabled.
        barred: Why own jobs of the topic never go there, or "".
        properties: What it says of itself, its labels too.
        resources: What it has of which resource.
        shared: The shared folders that it has.
        bytes_away: Of this very job's input files, what is not there yet.
        given: How many jobs it was given so far, to break a tie.
    """

    id: str
    name: str
    own: bool = False
    capable: bool = True
    draining: bool = False
    silent: bool = False
    free: int = 0
    busy: int = 0
    places: int | None = None
    run_s: float | None = None
    failed: int = 0
    refused: str = ""
    closed: str = ""
    disabled: bool = False
    barred: str = ""
    properties: Mapping[str, Fact] = field(default_factory=dict)
    resources: Mapping[str, Share] = field(default_factory=dict)
    shared: Collection[str] = ()
    bytes_away: int = 0
    given: int = 0

    @property
    def width(self) -> int:
        """Return how many jobs run there at once."""
        return self.busy + self.free if self.places is None else self.places

    @property
    def facts(self) -> dict[str, Fact]:
        """Return what a job may ask for: labels and properties hide what is measured."""
        totals = {name: share.total for name, share in self.resources.items()}
        return {"slots": self.width, **totals, **self.properties, "name": self.name, "id": self.id}

    def waits(self, demands: Demands) -> bool:
        """Say whether the job would stand in line there, rather than start."""
        return self.busy >= self.width or any(
            share.total - share.taken < amount
            for name, amount in demands.needs.items()
            if (share := self.resources.get(name)) is not None
        )
