"""
An origin and a worker whose power is cut under load, again and again.

What had reached the disk at that moment is all that the next life finds.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.lab.conftest import Lacks
from tests.lab.disks import Disk, disk, obstacle
from tests.lab.lives import check, command, environment, live

pytestmark = pytest.mark.lab

PER_ROUND: Final = 2_000  # more than a life can do before its power is cut
AT_LEAST_S: Final = 0.05  # since the first promise of the life


@pytest.fixture
def cuttable(lacks: Lacks, tmp_path: Path) -> Iterator[Disk]:
    """A disk whose power can be cut."""
    reason = obstacle()
    if reason:
        lacks(reason)
    with disk(tmp_path) as made:
        yield made


def cut_off(cuttable: Disk, jobs: int, after_s: float) -> set[int]:
    """Cut the power of a life that adds ``jobs``; return the numbers of what was promised."""
    with subprocess.Popen(
        command(cuttable.place, jobs), env=environment(), stdout=subprocess.PIPE
    ) as life:
        assert life.stdout is not None
        told = life.stdout.readline()  # the first promise
        time.sleep(after_s)
        life.send_signal(signal.SIGSTOP)
        os.set_blocking(life.stdout.fileno(), False)
        told += life.stdout.read() or b""  # all that was said before the cut
        copy = cuttable.cut_power()
        life.kill()
    cuttable.come_back(copy)
    whole, _, _ = told.rpartition(b"\n")
    return {int(line) for line in whole.splitlines() if line.isdigit()}


def survive(
    cuttable: Disk, rounds: int, seed: int, *, lasting_s: float = 1.5, promises: int = 0
) -> int:
    """Cut the power so often, and on until so many jobs were promised; return how many were."""
    chance, promised, jobs = random.Random(seed), set[int](), 0
    while rounds > 0 or len(promised) < promises:
        rounds -= 1
        new = cut_off(cuttable, jobs + PER_ROUND, chance.uniform(AT_LEAST_S, lasting_s))
        promised |= new
        jobs = max(promised)
        last = live(cuttable.place, jobs)
        assert last.code == 0
        check(cuttable.place, jobs, frozenset(promised), last.jobs)
    return len(promised)


class TestAPowerCut:
    @pytest.mark.timeout(300)
    def test_loses_and_doubles_nothing(self, cuttable: Disk) -> None:
        """G15, short: two cuts."""
        assert survive(cuttable, rounds=2, seed=1) >= 2

    @pytest.mark.long
    @pytest.mark.timeout(3_600)
    def test_loses_and_doubles_nothing_of_5000_jobs(self, cuttable: Disk) -> None:
        """G15: twenty cuts at least, and another seed each day."""
        seed = int(time.time() // 86_400)
        print(survive(cuttable, rounds=20, seed=seed, lasting_s=6.0, promises=5_000))
