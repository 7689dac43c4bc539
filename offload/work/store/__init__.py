"""
Jobs that survive a crash.

One writing connection in one thread: what is asked at the same time becomes one transaction and
one fsync (DESIGN §12); a call returns when it is on the disk. Questions are answered by a second
thread with a connection of its own, from what is committed.
"""

from offload.work.store.face import Store
from offload.work.store.letters import UnreadableLetter
from offload.work.store.reads import SMALL_BYTES
from offload.work.store.rows import NewsLine
from offload.work.store.schedules import KeptSchedule
from offload.work.store.search import Ended, Found, Unreadable
from offload.work.store.steps import HeldRule, HeldStep, Key, Rule, Step
from offload.work.store.waiting import Backlog

__all__ = [
    "SMALL_BYTES",
    "Backlog",
    "Ended",
    "Found",
    "HeldRule",
    "HeldStep",
    "KeptSchedule",
    "Key",
    "NewsLine",
    "Rule",
    "Step",
    "Store",
    "Unreadable",
    "UnreadableLetter",
]
