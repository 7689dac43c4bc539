"""What a caller asks of the store: rules that look at a row and say what is to be kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from offload.work.jobs import Attempt, DeadLetter, Held, Job, Outcome, Spec

R = TypeVar("R")
Key: TypeAlias = tuple[str, str]  # (store id of the origin, job id)


class Step(NamedTuple, Generic[R]):
    """
    What a rule wants kept of an own job, and answered.

    Attributes:
        answer: What ``Store.change`` returns for this job.
        keep: The job as it is to be; None: as it is.
        attempt: A line for its history of attempts.
        outcome: What came of it, in place of an earlier outcome.
        placing: The plan by which its output files are put in place; kept while
            ``keep.placing`` is not 0.
        letter: What came too late, kept as a dead letter.
    """

    answer: R
    keep: Job | None = None
    attempt: Attempt | None = None
    outcome: Outcome | None = None
    placing: bytes | None = None
    letter: DeadLetter | None = None


@dataclass(frozen=True, slots=True)
class HeldStep(Generic[R]):
    """
    What a rule wants kept of another's job, and answered.

    Attributes:
        answer: What ``Store.change_held`` returns for this job.
        keep: The row as it is to be; None: as it is.
        spec: What is to be run, kept with a new row until the row is a TOMB.
    """

    answer: R
    keep: Held | None = None
    spec: Spec | None = None


# A rule is pure and runs in the writer thread, within the transaction, on the row as it is then.
# It may run twice: if the first transaction cannot be committed as a whole.
Rule: TypeAlias = Callable[[Job], Step[R]]
HeldRule: TypeAlias = Callable[[Held | None], HeldStep[R]]
