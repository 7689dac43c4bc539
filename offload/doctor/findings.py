"""What the doctor says: one finding per check."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from offload.doctor.facts import Instance


class State(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    NOT_TESTED = "not tested"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One check.

    Attributes:
        check: What it is about, such as ``port``.
        about: Which one of several, such as an interface; "" if there is one only.
        tested: What was tested.
        state: How it went.
        text: The result in one sentence; why not, if it was not tested.
        remedy: What can be done; "" if nothing has to be.
    """

    check: str
    about: str
    tested: str
    state: State
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """Makes the findings of one check."""

    check: str
    tested: str
    about: str = ""

    def ok(self, text: str, remedy: str = "") -> Finding:
        """All is well; ``remedy``: for those who want something else."""
        return self._found(State.OK, text, remedy)

    def warning(self, text: str, remedy: str) -> Finding:
        """Something may be wrong, or will be."""
        return self._found(State.WARNING, text, remedy)

    def fault(self, text: str, remedy: str) -> Finding:
        """Something is wrong."""
        return self._found(State.FAULT, text, remedy)

    def not_tested(self, reason: str, remedy: str = "") -> Finding:
        """It could not be looked at."""
        return self._found(State.NOT_TESTED, reason, remedy)

    def _found(self, state: State, text: str, remedy: str) -> Finding:
        return Finding(self.check, self.about, self.tested, state, text, remedy)


def told(
    findings: Iterable[Finding], asked: str, instance: Instance | None = None
) -> dict[str, Any]:
    """Return findings as plain values: the stable shape of ``offload doctor --json``."""
    found = [asdict(finding) for finding in findings]
    return {
        "id": instance.id if instance else "",
        "name": instance.name if instance else "",
        "running": instance is not None and instance.running,
        "asked": asked,
        "faults": sum(finding["state"] is State.FAULT for finding in found),
        "findings": found,
    }
