"""What this machine has for jobs: processors, memory, graphics processors."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

NVIDIA: Final = Path("/proc/driver/nvidia/gpus")
AMD: Final = Path("/sys/class/kfd/kfd/topology/nodes")


def resources(declared: Mapping[str, float]) -> dict[str, float]:
    """Return ``cores``, ``memory`` (bytes) and ``gpu`` as measured, and what is declared above."""
    measured: dict[str, float] = {"cores": _cores(), "memory": _memory_bytes(), "gpu": gpus()}
    return {name: there for name, there in {**measured, **declared}.items() if there > 0}


def free_bytes(folder: Path) -> int:
    """Return how much room there is on the disk of ``folder``."""
    return shutil.disk_usage(folder).free


def gpus(nvidia: Path = NVIDIA, amd: Path = AMD) -> int:
    """Return how many graphics processors the drivers for computing show."""
    try:
        first = sum(1 for _ in nvidia.iterdir())
    except OSError:
        first = 0
    return first + sum(_is_gpu(node) for node in amd.glob("*/gpu_id"))


def _is_gpu(node: Path) -> bool:
    try:
        return node.read_text("ascii").strip() not in ("", "0")  # 0: a processor of the other kind
    except (OSError, ValueError):
        return False


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
