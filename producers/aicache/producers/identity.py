"""Who a client is: its signing key and its pseudonym key, in a private folder that one process uses at a time.

Both keys are made once from the system's entropy and never leave the folder (file 0600, folder 0700). Boundary: files.
"""

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError
from aicache.privacy.statements import client_id

FILE = "identity.json"
KEY_BYTES = 32
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """A client's keys.

    Attributes:
        signing_key: Ed25519; signs envelopes and the request to join.
        pseudonym_key: 32 bytes; usage is published under names derived from it.
        paused: the owner has asked for silence.
    """

    signing_key: Ed25519PrivateKey = field(repr=False)
    pseudonym_key: bytes = field(repr=False)
    paused: bool = False

    @property
    def public_key(self) -> bytes:
        """Ed25519, 32 bytes."""
        return self.signing_key.public_key().public_bytes_raw()

    @property
    def client(self) -> bytes:
        """The name under which it contributes: the digest of its public key."""
        return client_id(self.public_key)


class Folder:
    """A client's private folder, locked for this process.

    Args:
        path: made where it does not exist.

    Raises:
        LocalError: another process uses it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock: IO[bytes] | None = (path / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise LocalError(
                f"another process uses the client in {path}: two would not know what the other spends",
                got=str(path),
                needed="a folder of its own",
            ) from None

    def close(self) -> None:
        """Let another process have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def identity(self) -> Identity | None:
        """The keys; None where none were made.

        Raises:
            LocalError: the file cannot be read as what it should be.
        """
        try:
            fields = json.loads((self.path / FILE).read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            raise self._broken() from None
        try:
            if fields["format"] != FORMAT:
                raise self._broken()
            return Identity(
                Ed25519PrivateKey.from_private_bytes(bytes.fromhex(fields["signing_key"])),
                bytes.fromhex(fields["pseudonym_key"]),
                bool(fields["paused"]),
            )
        except (KeyError, ValueError, TypeError):
            raise self._broken() from None

    def make_identity(self, entropy: ByteSource) -> Identity:
        """New keys, on disk before they are used.

        Raises:
            LocalError: there are keys already.
        """
        if (self.path / FILE).exists():
            raise LocalError("the client has keys already", got=str(self.path), needed="a folder without keys")
        identity = Identity(Ed25519PrivateKey.from_private_bytes(entropy(KEY_BYTES)), entropy(KEY_BYTES))
        self._write(identity)
        return identity

    def set_paused(self, identity: Identity, *, paused: bool) -> Identity:
        """Remember whether the owner wants silence."""
        changed = replace(identity, paused=paused)
        self._write(changed)
        return changed

    def forget(self) -> None:
        """Delete the keys: what was published under them cannot be linked to this client any more."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / FILE).unlink()

    def _write(self, identity: Identity) -> None:
        fields = {
            "format": FORMAT,
            "signing_key": identity.signing_key.private_bytes_raw().hex(),
            "pseudonym_key": identity.pseudonym_key.hex(),
            "paused": identity.paused,
        }
        write_private(self.path / FILE, json.dumps(fields).encode())

    def _broken(self) -> LocalError:
        return LocalError(
            f"{self.path / FILE} is not a client's identity: restore it from a backup, or delete it and join again",
            got="unreadable",
            needed=f"format {FORMAT}",
        )


def write_private(path: Path, data: bytes) -> None:
    """Replace a file as a whole, readable by its owner alone, on disk when this returns."""
    temporary = path.with_suffix(".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
