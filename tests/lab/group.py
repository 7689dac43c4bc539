"""A group for hosts that do not run yet, made as ``init``, ``invite`` and ``join`` make one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from offload.peers.identity import Group, GroupFolder, Identity, move_in
from offload.peers.identity.certificates import pem_of
from offload.peers.identity.pairing import Welcome
from tests.lab.hosts import Host

FOLDER = "group"


def run(host: Host, app: Path | None, **tables: Any) -> None:
    """Start the instance of a member."""
    host.run(app, insecure=False, node={"group_dir": str(host.folder / FOLDER)}, **tables)


def found(hosts: Iterable[Host], removed: Path) -> dict[str, str]:
    """
    Let ``hosts`` be members of one group; return their ids by address.

    ``removed`` takes the key and the certificate of a member that was removed.
    """
    group = Group.create("lab")
    ids: dict[str, str] = {}
    stolen, welcomes = Identity.load(removed), []
    group, certificate = group.certify(stolen.public, "stolen")
    (removed / "certificate.pem").write_bytes(pem_of(certificate))
    for host in hosts:
        identity = Identity.load(host.folder / ".offload" / "identity")
        group, certificate = group.certify(identity.public, host.name)
        welcomes.append((host, identity, certificate))
        ids[host.address] = identity.id
    group = group.without("stolen")
    for host, identity, certificate in welcomes:
        welcome = Welcome.from_bytes(Welcome(group, certificate).to_bytes())
        folder = GroupFolder(host.folder / FOLDER)
        move_in(identity, folder, welcome.group, welcome.certificate)
    return ids
