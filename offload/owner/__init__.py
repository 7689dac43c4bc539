"""
The owner's word on when this machine works: conditions, and a rest that a person takes for it.

``rules`` decides (pure), ``machine`` looks at this machine, ``room`` keeps looking.
"""

from offload.owner.machine import Machine
from offload.owner.room import Looks, Owner
from offload.owner.rules import Sample, obstacle

__all__ = ["Looks", "Machine", "Owner", "Sample", "obstacle"]
