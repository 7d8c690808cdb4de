"""The operator's key: it signs who is enrolled. A file that only its owner can read.

Boundary: one file and the system's entropy.
"""

import os
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy.errors import LocalError

KEY_BYTES = 32
OWNER_ONLY = 0o600
OTHERS = 0o077


def create(path: Path) -> Ed25519PrivateKey:
    """Make a new key.

    Raises:
        LocalError: there is one already: losing it would make every enrolment worthless.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    key = Ed25519PrivateKey.generate()
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWNER_ONLY)
    except FileExistsError:
        raise LocalError(f"{path} exists already: it is not overwritten", got=str(path), needed="a new file") from None
    with os.fdopen(handle, "w") as file:
        file.write(key.private_bytes_raw().hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key


def load(path: Path) -> Ed25519PrivateKey:
    """Read the key.

    Raises:
        LocalError: it is missing, no key, or others can read it.
    """
    try:
        mode = path.stat().st_mode
        raw = bytes.fromhex(path.read_text().strip())
    except FileNotFoundError:
        raise LocalError(
            f"the operator's key {path} does not exist: set operator.key", got=str(path), needed="a key file"
        ) from None
    except ValueError:
        raise LocalError(f"{path} holds no key", got="not hexadecimal", needed="64 hexadecimal digits") from None
    if mode & OTHERS:
        raise LocalError(f"others can read {path}: run chmod 600 {path}", got=oct(mode & 0o777), needed=oct(OWNER_ONLY))
    if len(raw) != KEY_BYTES:
        raise LocalError(f"{path} holds no Ed25519 key", got=len(raw), needed=KEY_BYTES)
    return Ed25519PrivateKey.from_private_bytes(raw)


def load_or_create(path: Path) -> Ed25519PrivateKey:
    """Read the key, or make it if there is none yet."""
    return load(path) if path.exists() else create(path)
