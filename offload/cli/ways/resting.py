"""An instance by its files."""

from pathlib import Path

from offload.affairs import GroupAffairs
from offload.config import Config, is_loopback
from offload.datadir import locate
from offload.peers.identity import Identity


def affairs(data_dir: Path | None, config: Path | None) -> GroupAffairs:
    """Return what may be done about the group of an instance that does not run."""
    place, _ = locate(data_dir, config)
    return GroupAffairs(_load(data_dir, config), Identity.load(place.identity), None)


def listens_here_only(data_dir: Path | None, config: Path | None) -> bool:
    """Say whether the configuration lets it be reached from this machine only."""
    listen = _load(data_dir, config).node.listen
    return bool(listen) and all(map(is_loopback, listen or ()))


def _load(data_dir: Path | None, config: Path | None) -> Config:
    place, path = locate(data_dir, config)
    return Config.load(path, flags={"node.data_dir": str(place.path)})
