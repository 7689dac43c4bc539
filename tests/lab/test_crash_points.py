"""
An instance that is killed at every point at which something becomes true on its disk.

strace ends it when the k-th call of a kind begins, for all k: on the way of some jobs with files
from ``add`` over the worker's promise and outcome to the output files at their place.
"""

import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.lab.conftest import Lacks
from tests.lab.lives import check, live, runs

pytestmark = pytest.mark.lab

CALLS: Final = ("fdatasync", "fsync", "rename", "unlink", "pwrite64", "ftruncate")
JOBS: Final = 3
MANY: Final = 6


@pytest.fixture(scope="session")
def strace(lacks: Lacks) -> str:
    """strace, which may trace what it starts."""
    found = shutil.which("strace")
    if found is None:
        lacks("the crash points need strace (Debian: strace)")
    return found


def under(strace: str, call: str, *more: str) -> list[str]:
    return [strace, "-f", "-qq", "-e", f"trace={call}", *more]


@pytest.fixture(scope="module")
def points(strace: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Tell how often the busiest thread of a life makes each call: strace counts by thread."""
    folder = tmp_path_factory.mktemp("whole")
    log = folder / "calls.log"
    assert live(folder, JOBS, under=under(strace, ",".join(CALLS), "-o", str(log))).code == 0
    made = re.findall(r"^(\d+) +(\w+)\(", log.read_text("utf-8", "replace"), re.MULTILINE)
    return {c: max(n for (_, call), n in Counter(made).items() if call == c) for c in CALLS}


def killed_at(strace: str, folder: Path, call: str, k: int, jobs: int = JOBS) -> bool:
    """Kill a life at its ``k``-th ``call``, and see what the next one makes of that."""
    inject = f"inject={call}:signal=SIGKILL:when={k}"
    first = live(folder, jobs, under=under(strace, call, "-o", "/dev/null", "-e", inject))
    second = live(folder, jobs)
    assert second.code == 0
    check(folder, jobs, first.promised, second.jobs)
    assert max(runs(folder).values()) <= 2
    return first.code != 0


class TestALifeThatIsKilledAnywhere:
    @pytest.mark.timeout(300)
    @pytest.mark.parametrize("call", CALLS)
    def test_loses_and_doubles_nothing(
        self, strace: str, points: dict[str, int], tmp_path: Path, call: str
    ) -> None:
        """G16, short: one point of each kind."""
        assert killed_at(strace, tmp_path, call, max(1, points[call] // 2))

    @pytest.mark.long
    @pytest.mark.timeout(7_200)
    def test_loses_and_doubles_nothing_wherever_that_is(self, strace: str, tmp_path: Path) -> None:
        """G16: all points."""
        points: Counter[str] = Counter()
        for call in CALLS:
            for k in range(1, 2_000):
                folder = tmp_path / f"{call}-{k}"
                folder.mkdir()
                killed = killed_at(strace, folder, call, k, MANY)
                shutil.rmtree(folder)
                if not killed:
                    break
                points[call] += 1
        print(dict(points))
        assert points.total() >= 200
