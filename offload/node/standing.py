"""Who the own instance is to others: the one place where that is settled, and handed to rooms."""

from dataclasses import dataclass
from typing import Any, Self

from offload.config import Config
from offload.datadir import DataDir, group_folder
from offload.parts import Parts
from offload.peers.identity import Credentials, GroupFolder, Identity


@dataclass(frozen=True, slots=True)
class Standing:
    """
    The own instance's key, and its credentials in the group of its user.

    Attributes:
        identity: The key, and the instance id that follows from it.
        credentials: None if links are plain: the instance is insecure, or its network in memory.
    """

    identity: Identity
    credentials: Credentials | None

    @classmethod
    def take(cls, config: Config, data_dir: DataDir, parts: Parts) -> Self:
        """
        Make or load all of it; blocks.

        Raises:
            IdentityFault: If a file of it cannot be used.
            NotAMember: If the instance has to join its user's group first.
        """
        identity = Identity.load(data_dir.identity)
        if config.node.insecure:
            return cls(identity, None)
        folder = GroupFolder(group_folder(config.node.group_dir))
        return cls(identity, parts.credentials(identity, folder, config.node.name))

    def hint(self) -> str:
        """Return what marks the group on the network, where nobody is to be believed."""
        return "" if self.credentials is None else self.credentials.roster.group

    def facts(self) -> dict[str, Any]:
        """Return what people are told of it."""
        if self.credentials is None:
            return {"group": None}
        roster = self.credentials.roster
        return {
            "group": {
                "id": roster.group,
                "name": roster.name or None,
                "version": roster.version,
                "members": len(roster.members()),
                "keeper": self.credentials.group.key is not None,
            }
        }
