"""
The simulator: ``python -m tests.simulation 2000`` runs so many seeds, ``--trace SEED`` one of them.

Every seed is a small world of its own: what happens in it depends on its number and the code only.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections import Counter
from typing import Any

from tests.simulation.mutants import MUTANTS, mutant
from tests.simulation.plans import ANYTHING, Focus
from tests.simulation.world import live


def main() -> int:
    """Run what the command line says; return the exit code."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set is chance, too
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        return subprocess.run(command, env=environment, check=False).returncode
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("seeds", type=int, nargs="?", default=200, help="how many")
    parser.add_argument("--first", type=int, default=1, help="number of the first one")
    parser.add_argument("--trace", type=int, metavar="SEED", help="run this one, and tell it all")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), default="", help="break this rule")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--part", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.trace is not None:
        return _tell(asked.trace, asked.mutant)
    if asked.part:
        return _part(asked)
    return _all(asked)


def _tell(seed: int, name: str) -> int:
    with mutant(name):
        world, error = live(seed, _focus(name), traced=True)
    print("\n".join(world.trace or ()))
    if error is not None:
        traceback.print_exception(error)
    return int(error is not None)


def _focus(name: str) -> Focus:
    return MUTANTS[name].focus if name else ANYTHING


def _part(asked: argparse.Namespace) -> int:
    """Run every so-and-so-many'th seed; tell of each that fails, and the sums at the end."""
    tally: Counter[str] = Counter()
    with mutant(asked.mutant):
        for seed in range(asked.first, asked.first + asked.seeds, asked.part):
            world, error = live(seed, _focus(asked.mutant))
            tally += world.truth.tally
            tally["seeds"] += 1
            tally["seconds"] += int(world.now())
            if error is not None:
                tally["failed"] += 1
                print(json.dumps([seed, f"{type(error).__name__}: {error}"]), flush=True)
    print(json.dumps(tally), flush=True)
    return 0


def _all(asked: argparse.Namespace) -> int:
    began = time.monotonic()
    parts = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.simulation", str(asked.seeds - number)),
                *("--first", str(asked.first + number), "--part", str(asked.processes)),
                *(("--mutant", asked.mutant) if asked.mutant else ()),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(min(asked.processes, asked.seeds))
    ]
    tally: Counter[str] = Counter()
    for part in parts:
        tally += _heard(part, asked.mutant)
    seconds = time.monotonic() - began
    told = ", ".join(f"{count} {what}" for what, count in sorted(tally.items()) if what != "failed")
    print(f"simulated in {seconds:.0f} s: {told}")
    print(f"{tally['failed']} of {tally['seeds']} seeds failed")
    return int(tally["failed"] > 0 or any(part.returncode for part in parts))


def _heard(part: "subprocess.Popen[str]", name: str) -> Counter[str]:
    sums: dict[str, Any] = {}
    with part:
        for line in part.stdout or ():
            match json.loads(line):
                case [seed, what]:
                    again = f"make simulate SEED={seed}" + (f" MUTANT={name}" if name else "")
                    print(f"seed {seed}: {what}\n    again, with all that happens: {again}")
                case dict(sums):
                    pass
    return Counter(sums)


if __name__ == "__main__":
    sys.exit(main())
