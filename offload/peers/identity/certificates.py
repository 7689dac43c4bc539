"""
Certificates of a group: its CA's, those of its members, and those that lead from CA to CA.

Pure but for chance. All are valid from 1970 to 2099, so that a machine without a clock can join:
who is a member is said by the roster, not by dates. A member's certificate names
``<id>.offload.internal``, and the id is the hash of the key: so a certificate proves an id.
"""

import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_der_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from offload.errors import Distrusted
from offload.peers.identity.keys import ID_LENGTH, instance_id, spki

SUFFIX: Final = ".offload.internal"
CERTIFICATES_REMEMBERED: Final = 256
# What the library raises for bytes that are no such thing, at once or when a part is looked at.
UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)
_STRANGE: Final = (
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_FROM: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNTIL: Final = datetime(2099, 12, 31, tzinfo=UTC)


def server_name(instance_id: str) -> str:
    """Return the name by which TLS knows an instance."""
    return instance_id + SUFFIX


def new_ca() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Return the key and the certificate of a new CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"offload group {instance_id(spki(key.public_key()))}")
    return key, _ca_certificate(key.public_key(), name, key, name)


def cross_sign(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, former: x509.Certificate
) -> x509.Certificate:
    """Return a certificate by which whoever trusts the ``former`` CA trusts the new one."""
    return _ca_certificate(public_key(certificate), certificate.subject, key, former.subject)


def issue(public: bytes, key: ec.EllipticCurvePrivateKey, ca: x509.Certificate) -> x509.Certificate:
    """
    Return a member's certificate for its public key, signed by the CA.

    Raises:
        Distrusted: If it is no P-256 key.
    """
    member = read_public(public)
    name = instance_id(public)
    usage = x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    return (
        _builder(_name(name), ca.subject, member)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(server_name(name))]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(_usage(signs_certificates=False), True)
        .add_extension(usage, False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )


@lru_cache(maxsize=CERTIFICATES_REMEMBERED)  # each link, and each file beside it, shows one
def proven_id(der: bytes) -> str:
    """
    Return the instance id that a certificate proves: its name and the hash of its key are one.

    Who has signed it is for others to check.

    Raises:
        Distrusted: If they are two.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = found.value.get_values_for_type(x509.DNSName)
    except (*UNREADABLE, *_STRANGE):
        raise Distrusted("its certificate names no instance") from None
    proven = instance_id(spki(public_key(certificate)))
    if names != [server_name(proven)]:
        raise Distrusted(f"its certificate claims another's id (its key is that of {proven})")
    return proven


def wanted_id(name: str | None) -> str | None:
    """Return the instance id that a name of TLS stands for, or None if it is none of ours."""
    if name is not None and name.endswith(SUFFIX) and len(name) == ID_LENGTH + len(SUFFIX):
        return name.removesuffix(SUFFIX)
    return None


def check_issued(certificate: x509.Certificate, ca: x509.Certificate) -> None:
    """Raise ``Distrusted`` unless ``ca`` has signed the certificate."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (*UNREADABLE, InvalidSignature):
        raise Distrusted("a certificate is not of this group's CA") from None


def digest_of(certificate: x509.Certificate) -> bytes:
    """Return the SHA-256 of a certificate."""
    return hashlib.sha256(der_of(certificate)).digest()


def der_of(certificate: x509.Certificate) -> bytes:
    """Return a certificate as DER."""
    return certificate.public_bytes(Encoding.DER)


def pem_of(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def read_certificate(der: bytes) -> x509.Certificate:
    """Read a certificate of a P-256 key; raise ``Distrusted``."""
    try:
        certificate = x509.load_der_x509_certificate(der)
    except UNREADABLE:
        raise Distrusted("what should be a certificate is none") from None
    public_key(certificate)
    return certificate


def read_public(public: bytes) -> ec.EllipticCurvePublicKey:
    """Read a public P-256 key from DER; raise ``Distrusted``."""
    try:
        key = load_der_public_key(public)
    except UNREADABLE:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise Distrusted("a key of another kind than P-256")
    return key


def public_key(
    certificate: x509.Certificate | x509.CertificateSigningRequest,
) -> ec.EllipticCurvePublicKey:
    """Return the P-256 key of a certificate or request; raise ``Distrusted`` if it has none."""
    try:
        key = certificate.public_key()
    except UNREADABLE:
        raise Distrusted("a certificate whose key cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise Distrusted("a certificate with a key of another kind than P-256")
    return key


def key_as_der(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a CA's private key as it is kept, and sent to a keeper."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def read_key(der: bytes, ca: x509.Certificate) -> ec.EllipticCurvePrivateKey:
    """Read the private key of ``ca``; raise ``Distrusted``."""
    try:
        key = load_der_private_key(der, password=None)
    except UNREADABLE:
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Distrusted("what should be the CA's key is none")
    if spki(key.public_key()) != spki(public_key(ca)):
        raise Distrusted("the key of another CA")
    return key


def _ca_certificate(
    public: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
) -> x509.Certificate:
    return (
        _builder(subject, issuer, public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .add_extension(_usage(signs_certificates=True), True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
