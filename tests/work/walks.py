"""
Seeded walks through the machine: the same ones each time, whoever walked before.

Hypothesis finds more ways, but which ones depends on all that was imported; a mutant is to be
found by the same steps today and tomorrow.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from offload.work.jobs import Delivery
from tests.work.machine import ACTS, MOVABLE, OUTCOMES, QUEUES, RULES, JobsMachine

STEPS: Final = 30
TOPICS: Final = (*sorted(RULES), *MOVABLE)
ENDINGS: Final = ("succeeds", *sorted(OUTCOMES))


def walk(seed: int) -> None:
    """Take ``STEPS`` steps, each followed by all checks, and then come to an end."""
    machine, chance = JobsMachine(), Random(seed)
    try:
        machine.begin()
        for _ in range(STEPS):
            step = chance.choice(WAYS)
            step(machine, chance)
            machine.is_as_the_model_says()
            machine.each_end_is_told_once()
            machine.never_more_run_than_may()
        machine.check_the_end()
    finally:
        machine.close()


def _wish(chance: Random) -> dict[str, Any]:
    """Most jobs wish for nothing; some for one thing or another."""
    wish: dict[str, Any] = {"topic": chance.choice(TOPICS)}
    match chance.randrange(10):
        case 0 if wish["topic"] not in ("t/a", "t/b", "t/c"):
            wish["expires_in_s"] = chance.choice((6.0, 40.0))
        case 1 if wish["topic"] not in ("t/a", "t/b", "t/c"):
            wish["deadline_in_s"] = chance.choice((8.0, 60.0))
        case 2 | 3:
            wish["priority"] = chance.randint(-2, 2)
        case 4:
            wish["delivery"] = Delivery.AT_MOST_ONCE
        case 5:
            wish["retries"], wish["retry_delay_s"] = chance.choice(
                ((-1, 13.0), (0, None), (1, 0.0))
            )
        case 6:
            wish["order_by"] = chance.choice("xy")
        case 7:
            wish["run_after_s"] = chance.choice((4.0, 30.0))
    return wish


def _endings(chance: Random) -> list[tuple[int, str]]:
    return [(chance.randrange(64), chance.choice(ENDINGS)) for _ in range(chance.randint(1, 3))]


def _add(machine: JobsMachine, chance: Random) -> None:
    machine.add([_wish(chance) for _ in range(chance.randint(1, 4))])


def _add_with_key(machine: JobsMachine, chance: Random) -> None:
    if_key = chance.choice(("same", "existing", "replace", "refuse"))
    machine.add_with_key(chance.choice(TOPICS), chance.choice("kl"), if_key)


def _do_to_jobs(machine: JobsMachine, chance: Random) -> None:
    acts = [(chance.choice(ACTS), chance.randrange(64)) for _ in range(chance.randint(1, 3))]
    machine.do_to_jobs(acts)


def _open_or_close(machine: JobsMachine, chance: Random) -> None:
    machine.open_or_close(chance.choice((*QUEUES, "all")), is_open=chance.random() < 0.7)


def _govern(machine: JobsMachine, chance: Random) -> None:
    machine.govern(chance.choice(MOVABLE), chance.choice(("", *MOVABLE)), chance.randint(1, 3))


def _look(machine: JobsMachine, chance: Random) -> None:
    machine.look_for_places(lazy=chance.random() < 0.5)


def _finish(machine: JobsMachine, chance: Random) -> None:
    machine.finish(_endings(chance))


def _hear_late(machine: JobsMachine, chance: Random) -> None:
    if machine.past:
        machine.hear_late(chance.randrange(64), chance.choice(ENDINGS))


def _pass_time(machine: JobsMachine, chance: Random) -> None:
    seconds = chance.choice((1.0, 5.0, 20.0, 100.0, 700.0))
    machine.pass_time(seconds, hasty=chance.random() < 0.3, endings=_endings(chance))


def _restart(machine: JobsMachine, chance: Random) -> None:
    machine.restart(killed=chance.random() < 0.6, stops=chance.random() < 0.3)


WAYS: Final[tuple[Callable[[JobsMachine, Random], None], ...]] = (
    *(_add,) * 5,
    *(_finish,) * 4,
    *(_pass_time,) * 4,
    *(_do_to_jobs,) * 3,
    *(_restart,) * 2,
    *(_add_with_key,) * 2,
    *(_govern, _hear_late, _look, _open_or_close),
)
