"""The doctor of an instance that does not run: by its files alone, which stay as they are."""

import asyncio
from contextlib import suppress
from typing import Any

from offload.config import DEFAULT_PORT, Config
from offload.datadir import DataDir
from offload.doctor import Check, Finding, Subject, gather, judged, told
from offload.doctor.facts import Instance
from offload.doctor.probes.machine import holder_of
from offload.errors import ConfigError, IdentityFault, NotAMember
from offload.peers.identity import Credentials, Group, Identity
from offload.peers.transport import VERSIONS
from offload.standing import addresses, folder_of


async def examine(config: Config, place: DataDir, asked: str = "") -> dict[str, Any]:
    """
    Return what is well and what is not, as ``Node.doctor`` does of an instance that runs.

    Raises:
        UsageError: If ``asked`` is no address.
    """
    try:
        subject = await asyncio.to_thread(_subject, config, place)
    except (ConfigError, IdentityFault) as error:
        return told([unusable(error)], asked)
    return told(judged(await gather(subject, asked)), asked, subject.instance)


def unusable(error: Exception) -> Finding:
    """Return the finding that an instance cannot even be told where it would listen."""
    check = Check("configuration", "offload.toml, the environment, and the files that they name")
    return check.fault(str(error), "put it right; offload config show tells what is in force")


def _subject(config: Config, place: DataDir) -> Subject:
    node = config.node
    identity = Identity.read(place.identity)
    group = None if node.insecure else folder_of(config).load()
    listen = addresses(config, None if group is None else group.roster)
    trouble = _trouble(identity, group)
    credentials = _credentials(config, identity, group) if not trouble else None
    return Subject(
        config=config,
        data_dir=place,
        instance=Instance(
            data_dir=str(place.path),
            id=identity.id if identity else "",
            name=node.name,
            pid=holder_of(place),
            realm=node.realm,
            versions=VERSIONS,
            insecure=node.insecure,
            group=group.roster.group if group else "",
            group_name=group.roster.name if group else "",
            trouble=trouble,
        ),
        listen=listen,
        port=node.port or _former_port(place),
        credentials=credentials,
        greets=node.insecure or credentials is not None,
    )


def _trouble(identity: Identity | None, group: Group | None) -> str:
    """Return why the instance would not start in this group, or ""."""
    if identity is None or group is None:
        return ""
    entry = group.roster.entries.get(identity.id)
    if entry is not None and entry.removed:
        return str(NotAMember(group.name, removed=True))
    if entry is None and group.key is None:
        return str(NotAMember(group.name, removed=False))
    return ""


def _credentials(
    config: Config, identity: Identity | None, group: Group | None
) -> Credentials | None:
    if identity is None or group is None:
        return None
    with suppress(IdentityFault):  # it has no certificate of that group yet
        return Credentials(identity, folder_of(config), group, config.node.name)
    return None


def _former_port(place: DataDir) -> int:
    with suppress(OSError, ValueError):
        return int(place.port_file.read_text("ascii"))
    return DEFAULT_PORT
