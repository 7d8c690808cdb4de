"""Sealing to a committee member's epoch key: HPKE base mode (RFC 9180) with a hybrid of ML-KEM-768 and X25519.

Suite: KEM MLKEM768-X25519 (X-Wing, draft-ietf-hpke-pq), KDF HKDF-SHA256, AEAD AES-128-GCM. What was sealed stays closed as
long as either of the two key agreements holds. `info` binds round, member and sender: under another name nothing opens.
The hybrid private key has no serialiser of its own: the seed of one part and the scalar of the other are stored, and both public
parts are named together by `key_id`.
Boundary: HPKE's ephemeral keys come from the operating system inside `cryptography`, not from an argument; opening is
deterministic.
"""

import functools

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.statements import digest

MLKEM_SEED_BYTES = 64
X25519_BYTES = 32
MLKEM_PUBLIC_BYTES = 1184
SEALED_EXTRA_BYTES = 1088 + 32 + 16
"""What sealing adds: the encapsulation of both parts and the tag."""

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


def key_id(mlkem_public: bytes, x25519_public: bytes) -> bytes:
    """The name of an epoch key: the digest of both public parts, 32 bytes."""
    return digest("epoch-key", mlkem_public, x25519_public)


class EpochKey:
    """A member's key for one epoch. Make it with `generate` or `from_bytes`.

    Erasing it means erasing every copy of `to_bytes`; what it could open is closed from then on.
    """

    __slots__ = ("_mlkem", "_private", "_x25519", "key_id", "mlkem_public", "x25519_public")

    def __init__(self, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        self._mlkem = mlkem
        self._x25519 = x25519
        self._private = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.mlkem_public = mlkem.public_key().public_bytes_raw()
        self.x25519_public = x25519.public_key().public_bytes_raw()
        self.key_id = key_id(self.mlkem_public, self.x25519_public)

    def __repr__(self) -> str:
        return f"EpochKey({self.key_id.hex()[:8]})"

    @classmethod
    def generate(cls) -> "EpochKey":
        """A new key, from the operating system's entropy."""
        return cls(MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, data: bytes) -> "EpochKey":
        """The key that `to_bytes` wrote.

        Raises:
            LocalError: the size is wrong.
        """
        if len(data) != MLKEM_SEED_BYTES + X25519_BYTES:
            needed = MLKEM_SEED_BYTES + X25519_BYTES
            raise LocalError("not a stored epoch key", got=len(data), needed=needed)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(data[:MLKEM_SEED_BYTES])
        return cls(mlkem, X25519PrivateKey.from_private_bytes(data[MLKEM_SEED_BYTES:]))

    def to_bytes(self) -> bytes:
        """The secret: ML-KEM's seed (64 bytes) and X25519's scalar (32), for the member's private store alone."""
        return self._mlkem.private_bytes_raw() + self._x25519.private_bytes_raw()

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The plaintext, if it was sealed to this key under this `info`.

        Args:
            sealed: what `seal` gave.
            info: what it is bound to.

        Raises:
            RemoteError: `unsealing`: it was altered, sealed to another key, or for another round, member or sender.
        """
        try:
            return _SUITE.decrypt(sealed, self._private, info)
        except (InvalidTag, ValueError):
            got = f"{len(sealed)} bytes"
            raise RemoteError("does not open", reason="unsealing", got=got, needed=f"sealed to {self!r}") from None


@functools.lru_cache(maxsize=64)
def _public(mlkem_public: bytes, x25519_public: bytes) -> MLKEM768X25519PublicKey:
    return MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(mlkem_public), X25519PublicKey.from_public_bytes(x25519_public)
    )


def seal(mlkem_public: bytes, x25519_public: bytes, info: bytes, plaintext: bytes) -> bytes:
    """Seal to a member's epoch key.

    Args:
        mlkem_public: ML-KEM-768, 1,184 bytes.
        x25519_public: 32 bytes.
        info: what it is bound to; the opener needs the same.
        plaintext: secret bytes.

    Returns:
        `SEALED_EXTRA_BYTES` more than the plaintext.

    Raises:
        RemoteError: `bad-epoch-key`: a public part is not one.
    """
    try:
        return _SUITE.encrypt(plaintext, _public(mlkem_public, x25519_public), info)
    except ValueError:
        got, needed = (len(mlkem_public), len(x25519_public)), (MLKEM_PUBLIC_BYTES, X25519_BYTES)
        raise RemoteError("not an epoch key", reason="bad-epoch-key", got=got, needed=needed) from None
