"""
Who an instance is, and to whom it belongs: its key, its group, and the TLS that follows from both.

``keys`` makes the id, ``certificates`` and ``roster`` are what a group consists of, ``group`` is
the group as a value, ``folder`` keeps it, ``contexts`` checks connections, ``credentials`` is all
of that for one instance; ``pairing`` is how another becomes a member.
"""

from offload.peers.identity.certificates import server_name
from offload.peers.identity.contexts import Checked, Door
from offload.peers.identity.credentials import (
    Credentials,
    check_free,
    check_leave,
    enter,
    leave,
    move_in,
)
from offload.peers.identity.folder import GroupFolder
from offload.peers.identity.group import Group, Move
from offload.peers.identity.keys import ID_LENGTH, Identity, instance_id
from offload.peers.identity.roster import Entry, Roster

__all__ = [
    "ID_LENGTH",
    "Checked",
    "Credentials",
    "Door",
    "Entry",
    "Group",
    "GroupFolder",
    "Identity",
    "Move",
    "Roster",
    "check_free",
    "check_leave",
    "enter",
    "instance_id",
    "leave",
    "move_in",
    "server_name",
]
