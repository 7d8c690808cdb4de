"""Who a client is: its signing key and its pseudonym key, in a private folder that one process uses at a time.

Both keys are made once from the system's entropy and never leave the folder (file 0600, folder 0700). Whether the owner has asked
for silence is a file beside them, so that `aicache pause` reaches a client that runs. Boundary: files.
"""

import contextlib
import fcntl
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError
from aicache.privacy.statements import client_id
from aicache.producers.ledger import sync_folder

FILE = "identity.json"
PAUSED = "paused"
KEY_BYTES = 32
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """A client's keys.

    Attributes:
        signing_key: Ed25519; signs envelopes and the request to join.
        pseudonym_key: 32 bytes; usage is published under names derived from it.
    """

    signing_key: Ed25519PrivateKey = field(repr=False)
    pseudonym_key: bytes = field(repr=False)

    @property
    def public_key(self) -> bytes:
        """Ed25519, 32 bytes."""
        return self.signing_key.public_key().public_bytes_raw()

    @property
    def client(self) -> bytes:
        """The name under which it contributes: the digest of its public key."""
        return client_id(self.public_key)


DEFAULT_DEPLOYMENT = "aicache"


def default_folder(deployment: str) -> Path:
    """Where a client of a deployment keeps its keys and ledger unless its owner says otherwise: as `client.folder` has it."""
    from platformdirs import user_data_path

    return user_data_path("aicache") / ("client" if deployment == DEFAULT_DEPLOYMENT else f"client-{deployment}")


def set_paused(path: Path, *, paused: bool) -> None:
    """Ask a client for silence, or let it go on; also while another process uses its folder.

    Raises:
        LocalError: there is no such folder, or it cannot be written.
    """
    try:
        if paused:
            (path / PAUSED).touch(mode=0o600)
        else:
            (path / PAUSED).unlink(missing_ok=True)
    except OSError as error:
        raise LocalError(
            f"{path} is not a client's folder ({error.strerror})", got=str(path), needed="the folder of a client"
        ) from None


class Folder:
    """A client's private folder, locked for this process.

    Args:
        path: made where it does not exist.

    Raises:
        LocalError: another process uses it, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock: IO[bytes] | None = (path / "lock").open("ab")
        except OSError as error:
            raise LocalError(
                f"the client's folder {path} cannot be used ({error.strerror})",
                got=str(path),
                needed="a private folder",
            ) from None
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

    @property
    def paused(self) -> bool:
        """Whether the owner has asked for silence."""
        return (self.path / PAUSED).exists()

    def identity(self) -> Identity | None:
        """The keys; None where none were made.

        Raises:
            LocalError: the file cannot be read as what it should be, or others may read it.
        """
        path = self.path / FILE
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            fields = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (ValueError, OSError):
            raise self._broken() from None
        if mode & 0o077:
            raise LocalError(
                f"others may read the keys in {path}: chmod 600 it, or better make new ones",
                got=oct(mode),
                needed="0o600",
            )
        try:
            if fields["format"] != FORMAT:
                raise self._broken()
            return Identity(
                Ed25519PrivateKey.from_private_bytes(_key(fields["signing_key"])),
                _key(fields["pseudonym_key"]),
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

    def forget(self) -> None:
        """Delete the keys: what was published under them cannot be linked to this client any more."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / FILE).unlink()
            sync_folder(self.path)

    def _write(self, identity: Identity) -> None:
        fields = {
            "format": FORMAT,
            "signing_key": identity.signing_key.private_bytes_raw().hex(),
            "pseudonym_key": identity.pseudonym_key.hex(),
        }
        write_private(self.path / FILE, json.dumps(fields).encode())

    def _broken(self) -> LocalError:
        return LocalError(
            f"{self.path / FILE} is not a client's identity: restore it from a backup, or delete it and join again",
            got="unreadable",
            needed=f"format {FORMAT}",
        )


def _key(text: str) -> bytes:
    key = bytes.fromhex(text)
    if len(key) != KEY_BYTES:
        raise ValueError
    return key


def write_private(path: Path, data: bytes) -> None:
    """Replace a file as a whole, readable by its owner alone, on disk when this returns.

    Raises:
        LocalError: the disk failed; the file is as it was.
    """
    temporary = path.with_suffix(".new")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise LocalError(f"{path} cannot be written ({error})", got=str(error), needed="space on the disk") from None
