"""
What it costs to begin: importing what a child process needs of us, and all of an instance.

The peer is the import of aiohttp, in processes of the same run, in turns, so that a machine that is
busy with other things is so for both. Measured is the CPU time of the import; the best of the turns
counts.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from bench import Figure, report
from rich.console import Console

PROGRAM = """
import time
began = time.process_time()
import {module}
{module}.{name}
print(time.process_time() - began)
"""
APP, NODE, PEER = ("offload", "App"), ("offload", "Node"), ("aiohttp", "ClientSession")


def cpu_s(module: str, name: str) -> float:
    """Return the CPU seconds in which a fresh process has ``name`` of ``module``."""
    words = [sys.executable, "-c", PROGRAM.format(module=module, name=name)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout)


def start(turns: int) -> list[Figure]:
    """Return what the imports cost beside the peer's."""
    spent: dict[tuple[str, str], list[float]] = {APP: [], NODE: [], PEER: []}
    for _ in range(turns):
        for what, times in spent.items():
            times.append(1000 * cpu_s(*what))
    best = {what: min(times) for what, times in spent.items()}
    return [
        Figure(name, best[what], best[PEER], "ms", "lower", "import aiohttp")
        for name, what in (("import App, as a child does", APP), ("import Node", NODE))
    ]


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=20, help="fresh processes of each kind")
    parser.add_argument("--json", type=Path, default=Path("build/start.json"))
    args = parser.parse_args()
    report(start(args.turns), args.json, Console())


if __name__ == "__main__":
    main()
