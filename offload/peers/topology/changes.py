"""What is different between two views of the topology."""

from dataclasses import dataclass

from offload.peers.topology.instances import Instance, TopologyView


@dataclass(frozen=True, slots=True)
class ViewChanges:
    """
    What happened from an old view to a new one; every instance as the later view shows it.

    Attributes:
        joined: Members that are new.
        left: Members that are no more, as the old view showed them.
        restarted: Members before and after, in another life.
        altered: Members before and after that say something else of themselves.
        leader: The new leader, if it is another one.
    """

    joined: tuple[Instance, ...]
    left: tuple[Instance, ...]
    restarted: tuple[Instance, ...]
    altered: tuple[Instance, ...]
    leader: Instance | None

    def __bool__(self) -> bool:
        return bool(self.joined or self.left or self.restarted or self.altered or self.leader)


def changes(old: TopologyView | None, new: TopologyView) -> ViewChanges:
    """Return what is different in ``new``; without an old view all its members have joined."""
    before = {} if old is None else {i.id: i for i in old.instances}
    after = {i.id for i in new.instances}
    stayed = [(before[i.id], i) for i in new.instances if i.id in before]
    leads = old is None or old.leader.id != new.leader.id
    return ViewChanges(
        joined=tuple(i for i in new.instances if i.id not in before),
        left=tuple(i for i in before.values() if i.id not in after),
        restarted=tuple(i for was, i in stayed if was.boot != i.boot),
        altered=tuple(i for was, i in stayed if was.said != i.said),
        leader=new.leader if leads else None,
    )
