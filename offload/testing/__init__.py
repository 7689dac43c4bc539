"""
For tests: a LAN in memory, and a clock that the test moves (docs/testing.md).

Nodes, jobs, rules and stores are the real ones; only network and time are not. pytest finds the
fixtures ``lan`` and ``moved_clock`` by itself. Names are resolved when they are used, so that a
pytest run that needs none of this pays nothing for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offload.testing.clock import MovedClock
    from offload.testing.lan import Lan

__all__ = ["Lan", "MovedClock"]
_HOMES = {"Lan": "lan", "MovedClock": "clock"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'offload.testing' has no attribute {name!r}")
    return getattr(import_module(f"offload.testing.{home}"), name)
