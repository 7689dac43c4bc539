"""By whom those are reached that we have no link to. Pure."""

from offload.peers.topology import Topology


def way_to(topology: Topology, instance_id: str, but: str = "") -> str:
    """
    Return the live neighbour by which a member is reached, itself if it is one; "" if none is.

    It is a peer that says it is linked to it, or by whom we have heard of it last; never ``but``.
    """
    live = topology.live_links() - {but}
    if instance_id in live:
        return instance_id
    holders = sorted(live.intersection(topology.near.holders(instance_id)))
    if holders:
        return holders[0]
    member = topology.table.members.get(instance_id)
    return member.source if member is not None and member.source in live else ""
