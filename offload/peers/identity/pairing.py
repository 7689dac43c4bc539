"""
Pairing, without its network: an invitation, and a joiner who proves that it knows the secret.

Pure but for chance: ``now`` is an argument. Both run SPAKE2 over a secret, with both instance ids
bound in; the joiner proves first that it has the same key, so that whoever tries learns only
whether its one guess was right. The secret is a code that a person reads out (30 bits, three wrong
tries) or part of a token (128 bits). Under the key, once proven, travel the joiner's request and
what makes it a member. Every refusal is the same, and takes the same work.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from offload import codec
from offload.errors import Distrusted, JoinRefused, Malformed, UsageError
from offload.peers.identity import roster as rosters
from offload.peers.identity.certificates import (
    UNREADABLE,
    der_of,
    digest_of,
    public_key,
    read_certificate,
)
from offload.peers.identity.group import Group
from offload.peers.identity.keys import Identity, instance_id, spki

VALID_S: Final = 600.0
TRIES: Final = 3
SESSIONS: Final = 8
SESSION_S: Final = 30.0
ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: none is taken for another
CODE_LENGTH: Final = 6
PREFIX: Final = "offload1-"
_LOOKALIKES: Final = str.maketrans("OIL", "011")
_NONCE: Final = bytes(12)  # every key seals one message only
_NAME_LIMIT: Final = 64
# What the library raises for a message that is none.
_BAD_MESSAGE: Final = (SPAKEError, NotOnCurve, ValueError, AssertionError, IndexError)


@dataclass(frozen=True, slots=True)
class Secret:
    """
    What joiner and inviter share.

    Attributes:
        word: What SPAKE2 runs over.
        ca_digest: The SHA-256 of the CA's certificate, if it is known (a token's).
    """

    word: bytes
    ca_digest: bytes | None = None

    @property
    def text(self) -> str:
        """As people or scripts carry it: ``ABC-DEF``, or a token."""
        if self.ca_digest is None:
            code = self.word.decode("ascii")
            return f"{code[:3]}-{code[3:]}"
        packed = base64.b32encode(self.ca_digest + self.word).decode("ascii")
        return PREFIX + packed.rstrip("=").lower()

    @classmethod
    def code(cls) -> "Secret":
        """Return a new code."""
        return cls("".join(secrets.choice(ALPHABET) for _ in range(CODE_LENGTH)).encode("ascii"))

    @classmethod
    def token(cls, ca: x509.Certificate) -> "Secret":
        """Return a new token for the group of this CA."""
        return cls(secrets.token_bytes(16), digest_of(ca))

    @classmethod
    def read(cls, text: str) -> "Secret":
        """Read what somebody has typed; raise ``UsageError``."""
        text = text.strip()
        if text.lower().startswith(PREFIX):
            packed = text[len(PREFIX) :].upper()
            try:
                data = base64.b32decode(packed + "=" * (-len(packed) % 8))
            except ValueError:  # binascii's, or that it is no ASCII
                data = b""
            if len(data) != 48:
                raise UsageError(
                    "this is no whole token; it is one line of: offload invite --token"
                )
            return cls(data[32:], data[:32])
        word = text.upper().replace("-", "").replace(" ", "").translate(_LOOKALIKES)
        if len(word) != CODE_LENGTH or not set(word) <= set(ALPHABET):
            raise UsageError("a code is six letters and digits, such as 4F7-K2M")
        return cls(word.encode("ascii"))


@dataclass(frozen=True, slots=True)
class Welcome:
    """What makes a joiner a member."""

    group: Group
    certificate: x509.Certificate

    def to_bytes(self) -> bytes:
        """Return it as it is sealed; the CA's key is not part of it."""
        return codec.pack(
            {
                "ca": der_of(self.group.ca),
                "roster": self.group.signed.data,
                "certificate": der_of(self.certificate),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Welcome":
        """Read it back; raise ``Distrusted`` or ``Malformed``."""
        match codec.unpack(data):
            case {"ca": bytes(der), "roster": bytes(roster), "certificate": bytes(certificate)}:
                ca = read_certificate(der)
                group = Group(ca, None, rosters.verify(roster, ca))
                return cls(group, read_certificate(certificate))
        raise Malformed("what should make us a member does not")


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants to join: it has proven that it knows the secret, and has the key of its id."""

    public: bytes
    name: str


@dataclass(slots=True)
class _Session:
    joiner_id: str
    keys: "_Keys"
    over_at: float


class Invitation:
    """
    One open invitation: for one joiner, three wrong tries, ten minutes.

    Args:
        secret: What the joiner must know.
        own_id: The inviter's instance id.
        now: Seconds of a monotonic clock.
    """

    def __init__(self, secret: Secret, own_id: str, now: float) -> None:
        self.secret = secret
        self.tries_left = TRIES
        self.until = now + VALID_S
        self.used = False
        self._own_id = own_id
        self._sessions: dict[bytes, _Session] = {}

    def open(self, now: float) -> bool:
        """Say whether somebody may still join."""
        return not self.used and self.tries_left > 0 and now < self.until

    def begin(self, joiner_id: str, message: bytes, now: float) -> tuple[bytes, bytes]:
        """
        Answer a joiner's first message, whether or not the invitation is open.

        Returns:
            The session, and our own message.

        Raises:
            Malformed: If it is no message of SPAKE2.
        """
        word = self.secret.word if self.open(now) else secrets.token_bytes(16)
        ours = SPAKE2_B(word, idA=joiner_id.encode(), idB=self._own_id.encode())
        answer = ours.start()
        try:
            shared = ours.finish(message)
        except _BAD_MESSAGE:
            raise Malformed("no message of SPAKE2") from None
        self._sessions = {i: s for i, s in self._sessions.items() if now < s.over_at}
        while len(self._sessions) >= SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        session = secrets.token_bytes(16)
        keys = _Keys.of(shared, message, answer)
        self._sessions[session] = _Session(joiner_id, keys, now + SESSION_S)
        return session, answer

    def prove(
        self, session: bytes, proof: bytes, sealed: bytes, now: float
    ) -> tuple[Request, Callable[[Welcome], tuple[bytes, bytes]]]:
        """
        Check that the joiner knows the secret; a try that fails counts.

        Returns:
            Its request, and what seals the answer to it. The invitation is used up.

        Raises:
            JoinRefused: If it does not, or the invitation is not open.
        """
        found = self._sessions.pop(session, None)
        keys = found.keys if found else _Keys.of(secrets.token_bytes(32), b"", b"")
        right = hmac.compare_digest(proof, keys.joiner_proves)
        if not self.open(now):
            raise JoinRefused
        if found is None or not right:
            self.tries_left -= found is not None
            raise JoinRefused
        try:
            request = read_request(keys.unseal_request(sealed), found.joiner_id)
        except (Malformed, Distrusted, InvalidTag):
            self.tries_left -= 1
            raise JoinRefused from None
        self.used = True
        return request, keys.welcome


class Joiner:
    """
    The other side, for one try with one inviter.

    Args:
        identity: The own key.
        name: What people call this instance.
        secret: What was typed.
        inviter_id: Who the other says to be; bound in, and checked at the end.
    """

    def __init__(self, identity: Identity, name: str, secret: Secret, inviter_id: str) -> None:
        self._identity, self._name, self._secret = identity, name, secret
        self._inviter_id = inviter_id
        self._spake = SPAKE2_A(secret.word, idA=identity.id.encode(), idB=inviter_id.encode())
        self._keys: _Keys | None = None
        self.message: bytes = self._spake.start()

    def prove(self, answer: bytes) -> tuple[bytes, bytes]:
        """Return our proof and sealed request; raise ``Malformed``."""
        try:
            shared = self._spake.finish(answer)
        except _BAD_MESSAGE:
            raise Malformed("no message of SPAKE2") from None
        self._keys = keys = _Keys.of(shared, self.message, answer)
        return keys.joiner_proves, keys.seal_request(request_of(self._identity, self._name))

    def welcome(self, proof: bytes, sealed: bytes) -> Welcome:
        """
        Return what the inviter has sealed.

        Raises:
            Distrusted: If it has not proven that it knows the secret, or is of another group.
        """
        if self._keys is None or not hmac.compare_digest(proof, self._keys.inviter_proves):
            raise Distrusted("the inviter has not proven that it knows the code")
        try:
            welcome = Welcome.from_bytes(self._keys.unseal_welcome(sealed))
        except (InvalidTag, Malformed):
            raise Distrusted("what the inviter has sealed cannot be read") from None
        if self._secret.ca_digest not in (None, digest_of(welcome.group.ca)):
            raise Distrusted("the group is another than that of the token")
        if not welcome.group.roster.has(self._inviter_id):
            raise Distrusted("the inviter is not in its own roster")
        return welcome


@dataclass(frozen=True, slots=True)
class _Keys:
    """What both sides derive from the shared key and all that was said."""

    joiner_proves: bytes
    inviter_proves: bytes
    _request: bytes = field(repr=False)
    _welcome: bytes = field(repr=False)

    @classmethod
    def of(cls, shared: bytes, message: bytes, answer: bytes) -> "_Keys":
        said = hashlib.sha256(message + answer).digest()
        words = (b"joiner proves", b"inviter proves", b"request", b"welcome")
        return cls(*(HKDF(hashes.SHA256(), 32, said, word).derive(shared) for word in words))

    def seal_request(self, data: bytes) -> bytes:
        return ChaCha20Poly1305(self._request).encrypt(_NONCE, data, None)

    def unseal_request(self, sealed: bytes) -> bytes:
        return ChaCha20Poly1305(self._request).decrypt(_NONCE, sealed, None)

    def welcome(self, welcome: Welcome) -> tuple[bytes, bytes]:
        """Return the inviter's proof, and what it seals."""
        sealed = ChaCha20Poly1305(self._welcome).encrypt(_NONCE, welcome.to_bytes(), None)
        return self.inviter_proves, sealed

    def unseal_welcome(self, sealed: bytes) -> bytes:
        return ChaCha20Poly1305(self._welcome).decrypt(_NONCE, sealed, None)


def request_of(identity: Identity, name: str) -> bytes:
    """Return a request for a certificate (DER), by which its key is proven."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_NAME_LIMIT])])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return request.sign(identity.key, hashes.SHA256()).public_bytes(Encoding.DER)


def read_request(data: bytes, joiner_id: str) -> Request:
    """Read it back; raise ``Malformed``, or ``Distrusted`` if it is not of the joiner's key."""
    try:
        request = x509.load_der_x509_csr(data)
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        valid = request.is_signature_valid
    except UNREADABLE:
        raise Malformed("no request for a certificate") from None
    public = spki(public_key(request))
    if not valid or not names or instance_id(public) != joiner_id:
        raise Distrusted("the request is not of the joiner's key")
    return Request(public, str(names[0].value))
