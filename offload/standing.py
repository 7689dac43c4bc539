"""Who the own instance is to others: the one place where that is settled, and handed to rooms."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from offload.config import Config, is_loopback
from offload.datadir import DataDir, group_folder
from offload.errors import ConfigError
from offload.peers import discovery
from offload.peers.identity import Credentials, GroupFolder, Identity, Roster
from offload.permissions import Who

if TYPE_CHECKING:
    from offload.peers.topology import TopologyView

log = logging.getLogger(__name__)
HERE: Final = ("127.0.0.1",)
Opened = Callable[[Identity, GroupFolder, str], Credentials | None]


@dataclass(frozen=True, slots=True)
class Standing:
    """
    The own instance's key, and its credentials in the group of its user.

    Attributes:
        identity: The key, and the instance id that follows from it.
        credentials: None if links are plain: the instance is insecure, or its network in memory.
        listen: The addresses to be reached at.
    """

    identity: Identity
    credentials: Credentials | None
    listen: tuple[str, ...]

    @classmethod
    def take(
        cls, config: Config, data_dir: DataDir, opened_with: Opened = Credentials.load
    ) -> Self:
        """
        Make or load all of it; blocks.

        Args:
            config: Its configuration.
            data_dir: Where its key is.
            opened_with: Makes or loads what links are opened with.

        Raises:
            IdentityFault: If a file of it cannot be used.
            NotAMember: If the instance has to join its user's group first.
            ConfigError: If it is to listen where only a group may.
        """
        identity = Identity.load(data_dir.identity)
        if config.node.insecure:
            log.warning("insecure: links are plain, and whoever reaches them can have jobs run")
            return cls(identity, None, addresses(config, None))
        folder = folder_of(config)
        credentials = opened_with(identity, folder, config.node.name)
        roster = None if credentials is None else credentials.roster
        return cls(identity, credentials, addresses(config, roster))

    def hint(self) -> str:
        """Return what marks the group on the network, where nobody is to be believed."""
        return "" if self.credentials is None else self.credentials.roster.group

    def trust(self, instance_id: str) -> str:
        """Say what is behind another's word: ``member``, ``insecure``, or ``stranger``."""
        if self.credentials is None:
            return "insecure"
        return "member" if self.credentials.roster.has(instance_id) else "stranger"

    def who(self, peer: str, view: "TopologyView") -> Who:
        """Return ``peer`` as rules see it: in a group by the name that the roster has signed."""
        seen = view.get(peer)
        entry = None if self.credentials is None else self.credentials.roster.entries.get(peer)
        said = "" if seen is None else seen.name
        name = said if self.credentials is None else entry.name if entry else ""
        return Who(peer, name, {} if seen is None else seen.properties)

    def on_other_group(self, call: Callable[[], None]) -> None:
        """Call ``call`` whenever the instance is in another group than before."""
        last = self.hint()

        def changed() -> None:
            nonlocal last
            last, former = self.hint(), last
            if last != former:
                call()

        if self.credentials is not None:
            self.credentials.listen(changed)

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


def folder_of(config: Config) -> GroupFolder:
    """Return where the group of the instance's user is kept."""
    return GroupFolder(group_folder(config.node.group_dir))


def check_listen(config: Config) -> None:
    """Raise ``ConfigError`` if an instance would not start for where it is to listen; blocks."""
    group = None if config.node.insecure else folder_of(config).load()
    addresses(config, None if group is None else group.roster)


def addresses(config: Config, roster: Roster | None) -> tuple[str, ...]:
    """
    Return the addresses to be reached at (C110).

    Raises:
        ConfigError: If others could reach the instance, and no person has made a group of them.
    """
    made = roster is not None and not roster.silent
    listen = config.node.listen or (discovery.EVERYWHERE if made else HERE)
    strange = [host for host in listen if not is_loopback(host)]
    if strange and not made and not config.node.insecure:
        raise ConfigError(
            "node.listen",
            f"{strange[0]} can be reached from other machines, and this instance is in no group;"
            " make one with: offload init, or join one with: offload join CODE (or, where everyone"
            " in the network is trusted: --insecure, node.insecure = true)",
        )
    return listen
