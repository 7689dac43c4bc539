"""Whether a machine may work for others now, by what its owner wishes and how it is. Pure."""

from dataclasses import dataclass, field

from offload.config import WhenConfig
from offload.hours import within


@dataclass(frozen=True, slots=True)
class Sample:
    """
    How a machine is at a moment; None: nobody can tell.

    Attributes:
        minute: Of the local day.
        idle_s: For so long nobody has touched it; infinite where nobody is logged in.
        on_mains: Whether it is plugged in, or has no battery.
        load: The part of its processors that is busy with other things than jobs.
        programs: The names of those that run, as far as they are asked for.
    """

    minute: int
    idle_s: float | None = None
    on_mains: bool | None = None
    load: float | None = None
    programs: frozenset[str] = field(default=frozenset())


def obstacle(when: WhenConfig, sample: Sample) -> str:
    """Say which condition does not hold, in words for others; "" if all do."""
    if when.hours and not any(within(hours, sample.minute) for hours in when.hours):
        return f"works at {', '.join(when.hours)}"
    if when.on_mains and not sample.on_mains:
        return "runs on battery"
    if when.idle_s is not None and (sample.idle_s is None or sample.idle_s < when.idle_s):
        return "busy: its owner is here"
    running = [name for name in when.not_while if name in sample.programs]
    if running:
        return f"busy: {running[0]} runs"
    if when.load_below is not None and (sample.load is None or sample.load >= when.load_below):
        return "busy with work of its own"
    return ""
