"""
The key of an instance, made at its first start, and the id that follows from the key.

The id cannot be chosen and survives restarts. The key never leaves the instance's own folder.
"""

import base64
import hashlib
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from offload.errors import IdentityFault

ID_LENGTH: Final = 26
_KEY_FILE: Final = "key.pem"


class Identity:
    """
    A P-256 key and the instance id: 26 base32 characters of its public half's SHA-256.

    Attributes:
        id: The instance id.
        public: The public half, as DER SubjectPublicKeyInfo.
        folder: Where the key is kept.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey, folder: Path) -> None:
        self.key = key
        self.folder = folder
        self.public = spki(key.public_key())
        self.id = instance_id(self.public)

    @property
    def key_file(self) -> Path:
        """The file that holds the key."""
        return self.folder / _KEY_FILE

    @classmethod
    def load(cls, folder: Path) -> "Identity":
        """
        Return the identity kept in ``folder``; make folder and key where there are none.

        The folder is for its owner only (700), and so is the key (600).

        Raises:
            IdentityFault: If the folder cannot be used, or what it holds is no such key.
        """
        path = folder / _KEY_FILE
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            if not path.exists():
                write_private(path, _pem(ec.generate_private_key(ec.SECP256R1())))
            path.chmod(0o600)
            text = path.read_bytes()
        except OSError as error:
            raise IdentityFault(str(path), error.strerror or str(error)) from None
        return cls(_parse(path, text), folder)

    @classmethod
    def read(cls, folder: Path) -> "Identity | None":
        """
        Return the identity kept in ``folder``, which stays as it is; None if there is none.

        Raises:
            IdentityFault: If it cannot be read, or is no such key.
        """
        path = folder / _KEY_FILE
        try:
            return cls(_parse(path, path.read_bytes()), folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise IdentityFault(str(path), error.strerror or str(error)) from None


def spki(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as DER SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def instance_id(public: bytes) -> str:
    """Return the instance id that belongs to a public key, a DER SubjectPublicKeyInfo."""
    digest = hashlib.sha256(public).digest()
    return base64.b32encode(digest).decode("ascii").lower()[:ID_LENGTH]


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _parse(path: Path, text: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise IdentityFault(str(path), "holds no readable private key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise IdentityFault(str(path), "holds a key of another kind than P-256")
    return key


def write_private(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` (mode 600), whole or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
