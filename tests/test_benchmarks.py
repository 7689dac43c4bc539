"""The benchmark runs, in small, and writes what it measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.long
def test_what_trust_costs_is_measured_beside_plain_links(tmp_path: Path) -> None:
    sizes = {"--turns": 1, "--jobs": 20, "--files": 1, "--links": 2, "--folder": tmp_path}
    words = [str(word) for pair in sizes.items() for word in pair]
    told = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/trust.py"), *words, "--json", "trust.json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    figures = json.loads((tmp_path / "trust.json").read_text())["figures"]
    assert [figure["unit"] for figure in figures] == ["ms", "ms", "s", "jobs/s", "MiB/s"]


def test_a_small_run_gives_every_figure_beside_its_peer(tmp_path: Path) -> None:
    sizes = {"--jobs": 50, "--local": 50, "--single": 10, "--files": 1, "--folder": tmp_path}
    words = [str(word) for pair in sizes.items() for word in pair]
    told = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/bench.py"), *words, "--json", "bench.json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    figures = json.loads((tmp_path / "bench.json").read_text())["figures"]
    assert [figure["unit"] for figure in figures] == [
        "jobs/s",
        *["ms"] * 4,
        "jobs/s",
        "MiB/s",
    ]
    assert all(figure["ratio"] > 0 for figure in figures)


def test_what_an_import_costs_is_measured_beside_that_of_another(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/start.py"), "--turns", "1", "--json", "start.json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    app, node = json.loads((tmp_path / "start.json").read_text())["figures"]
    assert (app["unit"], node["unit"]) == ("ms", "ms")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_a_small_file_gives_rate_and_memory(tmp_path: Path) -> None:
    words = ["--size", "8", "--folder", str(tmp_path), "--json", "files.json"]
    told = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/files.py"), *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    rate, *memory = json.loads((tmp_path / "files.json").read_text())["figures"]
    assert rate["ratio"] > 0
    assert len(memory) == 2
    assert all(figure["ratio"] < 1 for figure in memory)
