"""A group for hosts that do not run yet, made as ``init``, ``invite`` and ``join`` make one."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from offload.peers.identity import Group, GroupFolder, Identity, move_in
from offload.peers.identity.certificates import pem_of
from offload.peers.identity.pairing import Welcome

STOLEN = "stolen"


class Members:
    """
    Those who are to be of one group, each at home on a host of its own; one more was removed.

    Attributes:
        stolen: Where the key and the certificate of that one are.
        ids: Of the others, by name.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self.stolen = folder / STOLEN
        group = Group.create("lab")
        certificates = {}
        self.ids: dict[str, str] = {}
        for name in [*names, STOLEN]:
            identity = Identity.load(folder / name)
            group, certificates[name] = group.certify(identity.public, name)
            self.ids[name] = identity.id
        del self.ids[STOLEN]
        (self.stolen / "certificate.pem").write_bytes(pem_of(certificates.pop(STOLEN)))
        group = group.without(STOLEN)
        self._welcomes = {
            name: Welcome.from_bytes(Welcome(group, certificate).to_bytes())
            for name, certificate in certificates.items()
        }

    def settle(self, name: str, data: Path, group: Path) -> None:
        """Put what makes it a member where its instance looks; once, and not over what is there."""
        home = data / "identity"
        if not home.exists():
            shutil.copytree(self._folder / name, home)
            welcome = self._welcomes[name]
            move_in(Identity.load(home), GroupFolder(group), welcome.group, welcome.certificate)
