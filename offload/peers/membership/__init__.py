"""Keeps the topology true: tells the peers of this instance and of others, and hears them."""

from offload.peers.membership.links import Links, LinkWanted
from offload.peers.membership.pulses import Pulse
from offload.peers.membership.room import Membership

__all__ = ["LinkWanted", "Links", "Membership", "Pulse"]
