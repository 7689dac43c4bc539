"""Who an instance is: its key and the id that follows from it (C057, DESIGN §9)."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from offload.errors import IdentityFault
from offload.peers.identity import Identity


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "identity"


class TestTheFirstStart:
    def test_makes_a_p256_key(self, folder: Path) -> None:
        assert isinstance(Identity.load(folder).key.curve, ec.SECP256R1)

    def test_makes_an_id_from_the_public_key(self, folder: Path) -> None:
        identity = Identity.load(folder)
        der = identity.key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        digest = hashlib.sha256(der).digest()
        assert identity.id == base64.b32encode(digest).decode().lower()[:26]
        assert re.fullmatch("[a-z2-7]{26}", identity.id)

    def test_lets_only_the_owner_read_the_key(self, folder: Path) -> None:
        Identity.load(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert [p.stat().st_mode & 0o777 for p in folder.iterdir()] == [0o600]

    def test_gives_each_instance_an_id_of_its_own(self, tmp_path: Path) -> None:
        assert Identity.load(tmp_path / "a").id != Identity.load(tmp_path / "b").id


class TestALaterStart:
    def test_finds_the_same_id(self, folder: Path) -> None:
        """C057."""
        assert Identity.load(folder).id == Identity.load(folder).id

    def test_closes_a_key_that_was_open_to_others(self, folder: Path) -> None:
        Identity.load(folder)
        key = next(folder.iterdir())
        key.chmod(0o644)
        Identity.load(folder)
        assert key.stat().st_mode & 0o777 == 0o600


class TestAKeyThatCannotBeUsed:
    def test_is_named_when_it_is_garbage(self, folder: Path) -> None:
        Identity.load(folder)
        next(folder.iterdir()).write_text("garbage")
        with pytest.raises(IdentityFault, match=r"key\.pem: holds no readable private key"):
            Identity.load(folder)

    def test_is_named_when_it_is_of_another_kind(self, folder: Path) -> None:
        Identity.load(folder)
        pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        next(folder.iterdir()).write_bytes(pem)
        with pytest.raises(IdentityFault, match="another kind than P-256"):
            Identity.load(folder)

    def test_is_named_when_its_folder_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "identity").write_text("a file")
        with pytest.raises(IdentityFault, match="identity"):
            Identity.load(tmp_path / "identity")
