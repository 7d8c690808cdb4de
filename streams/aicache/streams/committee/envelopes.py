"""Step 4, endorse: open each envelope as it arrives, and say which ones this member accepts.

An envelope is accepted if it is for this round, its sender is enrolled (or is a member of the roster, sending noise), its
signature verifies, it is the sender's first, the share in it opens and is bound to the same ciphertext, and the client's budget
covers the round. Accepting writes the share and the reservation; both are on disk before the endorsement leaves.
A digest binds rho, so an envelope cannot have been in a manifest of another round, and this one's manifest ends all endorsing.
Opened shares are kept under a key that lies beside the epoch key and is erased with it: erasing 32 bytes is believable, erasing
megabytes is not.
Boundary: the member's store; clock and entropy come as arguments.
"""

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aicache.privacy import parameters
from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import RemoteError
from aicache.privacy.statements import DIGEST_BYTES, NO_EPOCH_KEY, member_sender_id, share_info
from aicache.schemas.records import Endorsed, Endorsement, Envelope
from aicache.schemas.signing import verify_record
from aicache.streams.committee.core import Core, Round
from aicache.streams.committee.rules import chunks_of

SEED_BYTES = 32
NONCE_BYTES = 12
ENTRIES_MAX = 5_000


class Endorser:
    """Accepts envelopes, and collects them into endorsements.

    Args:
        core: the member.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._accepted: dict[str, list[Endorsed]] = {}

    def take(self, envelope: Envelope, current: Round, entropy: ByteSource) -> bool:
        """Judge one envelope.

        Returns:
            True where it was accepted, False where it was known already.

        Raises:
            RemoteError: why it is not endorsed.
        """
        store = self._core.store
        if envelope.rho != current.rho or envelope.task != current.proposal.task:
            raise RemoteError("the envelope is for another round", reason="wrong-round")
        if not current.approved:
            return False
        if current.closed or current.decision is not None:
            raise RemoteError("the round is closed", reason="closed")
        row = store.one(
            "SELECT digest FROM senders WHERE round_id = ? AND sender = ?", current.round_id, envelope.sender
        )
        if row is not None:
            if row[0] == envelope.digest:
                return False  # delivered twice, or a member that published again after a restart
            raise RemoteError("the sender has sent another envelope in this round", reason="second-envelope")
        self._check_form(envelope, current)
        if envelope.member:
            self._check_member(envelope, current)
        else:
            self._check_client(envelope, current)
        share = self._open(envelope, current)
        if not envelope.member:
            proposal = current.proposal
            self._core.ledger.reserve(
                envelope.sender, current.round_id, proposal.purpose, current.window_ms, current.rdp
            )
        self._keep(envelope, current, share, entropy)
        self._accepted.setdefault(current.round_id, []).append(Endorsed(envelope.sender, envelope.digest))
        return True

    def _check_form(self, envelope: Envelope, current: Round) -> None:
        proposal = current.proposal
        mask = parameters.by_name(proposal.parameters)
        offsets = envelope.place.offsets
        fits = (
            len(envelope.sealed) == len(proposal.roster)
            and len(envelope.digest) == DIGEST_BYTES
            and len(offsets) == chunks_of(proposal.length, mask)
            and envelope.place.partition >= 0
            and all(later > earlier for earlier, later in zip([-1, *offsets], offsets, strict=False))
        )
        if not fits:
            raise RemoteError("the envelope does not fit the round", reason="malformed")

    def _check_member(self, envelope: Envelope, current: Round) -> None:
        identity, key_id = self._core.member_of(current, envelope.member)
        right = (
            0 <= envelope.group < current.proposal.groups
            and envelope.sender == member_sender_id(identity, envelope.group)
            and envelope.epoch_key_id == key_id
            and envelope.model_version == -1
        )
        if not right:
            raise RemoteError("the envelope is not the member's own", reason="foreign-vector")
        verify_record(envelope, identity)

    def _check_client(self, envelope: Envelope, current: Round) -> None:
        proposal = current.proposal
        row = self._core.store.one(
            "SELECT public_key, part, admitted, revoked FROM enrolments WHERE client = ?", envelope.sender
        )
        ends = {place.partition: place.offset for place in proposal.enrolments_end}
        if row is None or row[3] or row[2] >= ends.get(row[1], 0):
            raise RemoteError("the client is not enrolled for this round", reason="not-enrolled")
        if envelope.group != -1 or envelope.epoch_key_id != NO_EPOCH_KEY:
            raise RemoteError("a client has no group and no epoch key", reason="malformed")
        versions = {version.version for version in proposal.model_versions} or {-1}
        if envelope.model_version not in versions:
            raise RemoteError("the round does not accept this model version", reason="wrong-model-version")
        verify_record(envelope, row[0])

    def _open(self, envelope: Envelope, current: Round) -> bytes:
        number = self._core.number
        assert current.epoch is not None
        key, _ = self._core.epoch_key(current.epoch)
        plain = key.open(envelope.sealed[number - 1], share_info(current.rho, number, envelope.sender))
        share, bound = plain[:-DIGEST_BYTES], plain[-DIGEST_BYTES:]
        if bound != envelope.digest:
            raise RemoteError("the share is bound to another ciphertext", reason="foreign-share")
        mask = parameters.by_name(current.proposal.parameters)
        size = SEED_BYTES if number < current.proposal.threshold else 2 * mask.ring_degree
        if len(share) != size:
            raise RemoteError("the share has the wrong size", reason="bad-share", got=len(share), needed=size)
        if size != SEED_BYTES and int(np.frombuffer(share, "<u2").max()) >= mask.prime:
            raise RemoteError("the share is not in the field", reason="bad-share")
        return share

    def _keep(self, envelope: Envelope, current: Round, share: bytes, entropy: ByteSource) -> None:
        assert current.epoch is not None
        _, storage_key = self._core.epoch_key(current.epoch)
        nonce = entropy(NONCE_BYTES)
        kept = nonce + AESGCM(storage_key).encrypt(nonce, share, current.rho + envelope.sender)
        self._core.store.run(
            "INSERT INTO senders VALUES (?, ?, ?, ?, ?)",
            current.round_id,
            envelope.sender,
            envelope.digest,
            envelope.model_version,
            kept,
        )

    def share(self, current: Round, sender: bytes) -> bytes | None:
        """The share that was kept of a sender, None where it was not endorsed."""
        row = self._core.store.one(
            "SELECT share FROM senders WHERE round_id = ? AND sender = ?", current.round_id, sender
        )
        if row is None or current.epoch is None:
            return None
        _, storage_key = self._core.epoch_key(current.epoch)
        kept = row[0]
        return AESGCM(storage_key).decrypt(kept[:NONCE_BYTES], kept[NONCE_BYTES:], current.rho + sender)

    def speak(self, closing: set[str]) -> None:
        """Endorse what was accepted in this batch; for rounds that close, reveal the nonce with the last endorsement."""
        for round_id in sorted(set(self._accepted) | closing):
            current = self._core.round(round_id)
            assert current is not None
            entries = self._accepted.pop(round_id, [])
            pieces = [entries[start : start + ENTRIES_MAX] for start in range(0, len(entries), ENTRIES_MAX)] or [[]]
            for index, piece in enumerate(pieces):
                last = round_id in closing and index == len(pieces) - 1
                self._endorse(current, current.sequence + index, piece, last=last)
            self._core.store.run(
                "UPDATE rounds SET sequence = ?, closed = ? WHERE round_id = ?",
                current.sequence + len(pieces),
                int(round_id in closing),
                round_id,
            )

    def _endorse(self, current: Round, sequence: int, entries: list[Endorsed], *, last: bool) -> None:
        _, key_id = self._core.member_of(current, self._core.number)
        assert current.nonce is not None
        record = Endorsement(
            deployment=self._core.deployment,
            task=current.proposal.task,
            round_id=current.round_id,
            rho=current.rho,
            member=self._core.number,
            epoch_key_id=key_id,
            sequence=sequence,
            entries=entries,
            last=last,
            nonce=current.nonce if last else b"",
            signature=b"",
        )
        self._core.say("aicache.endorsements", current.round_id.encode(), record)

    def forget(self) -> None:
        """Drop what a failed batch had accepted."""
        self._accepted.clear()
