"""What a machine has for jobs."""

import os
from pathlib import Path

from offload.machine import gpus, resources


def test_processors_and_memory_are_measured() -> None:
    there = resources({})
    assert 1 <= there["cores"] <= (os.cpu_count() or 1)
    assert there["memory"] > 2**20


def test_what_is_declared_comes_first_and_nothing_is_as_good_as_absent() -> None:
    there = resources({"cores": 2, "memory": 0, "gpu": 3, "licence": 5})
    assert (there["cores"], there["gpu"], there["licence"]) == (2, 3, 5)
    assert "memory" not in there


def test_graphics_processors_are_those_that_the_drivers_show(tmp_path: Path) -> None:
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "nvidia" / name).mkdir(parents=True)
    for number, gpu_id in enumerate(("0", "51234")):
        (tmp_path / "amd" / str(number)).mkdir(parents=True)
        (tmp_path / "amd" / str(number) / "gpu_id").write_text(gpu_id)
    assert gpus(tmp_path / "nvidia", tmp_path / "amd") == 3
    assert gpus(tmp_path / "none", tmp_path / "none") == 0
