"""
Who is on the network: announcements and time in, a view, facts and events out.

Pure: no I/O, no clock, no logging. ``members`` finds out who is there, ``instances`` says what an
instance and a view are, ``events`` makes of views what listeners are told.
"""

from offload.peers.topology.changes import ViewChanges, changes
from offload.peers.topology.events import Kind, TopologyEvent, ViewEvents
from offload.peers.topology.facts import (
    Appeared,
    Fact,
    Gone,
    Heard,
    LoadChanged,
    Restarted,
    Silent,
    Updated,
)
from offload.peers.topology.instances import (
    Address,
    Announcement,
    Capability,
    Instance,
    Property,
    TopologyView,
    Version,
    check_capabilities,
    check_disabled,
    check_id,
    check_instance_name,
    check_properties,
    count,
)
from offload.peers.topology.members import Topology
from offload.peers.topology.ranks import NO_PART, Part
from offload.peers.topology.suspicions import Answer, Question

__all__ = [
    "NO_PART",
    "Address",
    "Announcement",
    "Answer",
    "Appeared",
    "Capability",
    "Fact",
    "Gone",
    "Heard",
    "Instance",
    "Kind",
    "LoadChanged",
    "Part",
    "Property",
    "Question",
    "Restarted",
    "Silent",
    "Topology",
    "TopologyEvent",
    "TopologyView",
    "Updated",
    "Version",
    "ViewChanges",
    "ViewEvents",
    "changes",
    "check_capabilities",
    "check_disabled",
    "check_id",
    "check_instance_name",
    "check_properties",
    "count",
]
