"""
Which topics an instance runs of those that it has consumers for, and who may switch that.

``switches`` decides (pure), ``room`` keeps what was decided, and asks and answers other instances.
"""

from offload.enablement.room import Enablement, Links
from offload.enablement.switches import Offer, Switches, Verb, offered, switched

__all__ = ["Enablement", "Links", "Offer", "Switches", "Verb", "offered", "switched"]
