"""What a topology finds out: raw, at once, one fact about one instance each."""

from dataclasses import dataclass
from typing import Final

LEFT: Final = "left"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something has become known about the instance ``id``."""

    id: str


@dataclass(frozen=True, slots=True)
class Appeared(Fact):
    """It is a member now."""


@dataclass(frozen=True, slots=True)
class Updated(Fact):
    """Its capabilities, properties, addresses or rank have changed, or whether it drains."""


@dataclass(frozen=True, slots=True)
class LoadChanged(Fact):
    """It has announced another load."""


@dataclass(frozen=True, slots=True)
class Silent(Fact):
    """It is not heard of; it may be gone or not, so nothing new should be sent there."""

    reason: str


@dataclass(frozen=True, slots=True)
class Heard(Fact):
    """It was silent and is so no longer."""


@dataclass(frozen=True, slots=True)
class Gone(Fact):
    """
    It is no member any more.

    ``confirmed`` says that this life of it is over: it said goodbye, or its host refuses.
    """

    reason: str
    confirmed: bool

    @property
    def cleanly(self) -> bool:
        """Whether it said goodbye, and so has written down what became of all that it ran."""
        return self.confirmed and self.reason == LEFT


@dataclass(frozen=True, slots=True)
class Restarted(Fact):
    """It lives again, in a later ``boot`` than the one that was known."""

    boot: int
