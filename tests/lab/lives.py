"""Lives (``life``) that are ended anywhere, and what must be true of the folder after the next."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab.life import content

LIFE: Final = Path(__file__).with_name("life.py")
ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Lived:
    """How a life ended, and the numbers of the jobs that were promised in it."""

    code: int
    promised: frozenset[int]
    jobs: list[dict[str, Any]]


def command(folder: Path, jobs: int) -> list[str]:
    """Return what runs a life."""
    return [sys.executable, str(LIFE), str(folder), str(jobs)]


def environment() -> dict[str, str]:
    """Return the environment of a life."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("OFFLOAD_")}
    return mine | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def live(folder: Path, jobs: int, *, under: Sequence[str] = ()) -> Lived:
    """Run a life to its end, ``under`` a program that may end it before."""
    told = subprocess.run(
        [*under, *command(folder, jobs)],
        env=environment(),
        capture_output=True,
        timeout=240,
        check=False,
    )
    lines = told.stdout.decode("ascii").splitlines()
    promised = frozenset(int(line) for line in lines if line.isdecimal())
    if told.returncode == 0:
        return Lived(0, promised, json.loads(lines[-1]))
    error = told.stderr.decode("utf-8", "replace")
    assert "Traceback" not in error, error
    return Lived(told.returncode, promised, [])


def check(folder: Path, jobs: int, promised: frozenset[int], found: list[dict[str, Any]]) -> None:
    """Nothing is lost, nothing is doubled, and nothing is left lying about."""
    keys = Counter(int(job["key"]) for job in found)
    assert set(keys.values()) == {1}, "a job is there twice"
    assert {*promised, *range(1, jobs + 1)} <= keys.keys(), "a job is gone"
    for job in found:
        number = int(job["key"])
        results = Counter(line["result"] for line in job["attempts"])
        assert (job["state"], results["succeeded"]) == ("succeeded", 1), job
        (output,) = (folder / "out" / str(number)).iterdir()
        expected = hashlib.sha256(content(number)[::-1]).digest()
        assert hashlib.sha256(output.read_bytes()).digest() == expected, number
    for name in ("desk", "worker"):
        with closing(sqlite3.connect(folder / name / "store" / "store.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert list((folder / name).glob("work/*")) == []


def runs(folder: Path) -> Counter[int]:
    """Return how often each job's consumer was called."""
    ledger = folder / "ledger"
    lines = ledger.read_text("ascii").splitlines() if ledger.exists() else []
    return Counter(map(int, lines))
