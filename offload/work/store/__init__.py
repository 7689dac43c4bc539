"""
Jobs that survive a crash.

One writing connection in one thread: what is asked at the same time becomes one transaction and
one fsync (DESIGN §12); a call returns when it is on the disk. Questions are answered by a second
thread with a connection of its own, from what is committed.
"""

from offload.work.store.face import Store
from offload.work.store.steps import HeldRule, HeldStep, Key, Rule, Step

__all__ = ["HeldRule", "HeldStep", "Key", "Rule", "Step", "Store"]
