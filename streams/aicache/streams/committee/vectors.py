"""Step 3, members are senders too: a vector of noise only, for each group, so that no opened sum lacks noise or honest keys.

Drawn once and written down with its digest, ciphertext and sealed shares before anything of it is sent; a member that restarts
sends the same bytes again. The mask key and the noise themselves are never written.
Boundary: the member's store; entropy comes as an argument.
"""

from aicache.privacy import masking, parameters, shamir
from aicache.privacy.accounting import share_sigma
from aicache.privacy.contribution import member_message
from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import RemoteError
from aicache.privacy.sealing import seal
from aicache.privacy.statements import ciphertext_digest, member_sender_id, share_info
from aicache.schemas.chunks import chunks as split_chunks
from aicache.schemas.records import Envelope, Place, UpdateChunk
from aicache.streams.committee.core import Core, Round

LENGTH_BYTES = 4


def _join(parts: list[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(LENGTH_BYTES, "big") + part for part in parts)


def _split(joined: bytes) -> list[bytes]:
    parts, start = [], 0
    while start < len(joined):
        end = start + LENGTH_BYTES + int.from_bytes(joined[start : start + LENGTH_BYTES], "big")
        parts.append(joined[start + LENGTH_BYTES : end])
        start = end
    return parts


class Vectors:
    """The member's own vectors: which are due, their bytes, and their envelopes.

    Args:
        core: the member.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def due(self) -> list[tuple[str, int]]:
        """Round and group of each vector that is to be sent now: k approvals stand, it is not placed, the round is not closed."""
        due = []
        for current in self._core.live_rounds():
            if not current.approved or current.closed or current.decision is not None:
                continue
            sql = "SELECT count(*) FROM approvals WHERE round_id = ?"
            if self._core.store.one(sql, current.round_id)[0] < current.proposal.quorum:
                continue
            sql = "SELECT grp FROM vectors WHERE round_id = ? AND placed = 1"
            placed = {row[0] for row in self._core.store.all(sql, current.round_id)}
            due += [(current.round_id, group) for group in range(current.proposal.groups) if group not in placed]
        return due

    def chunks(self, round_id: str, group: int, entropy: ByteSource) -> list[UpdateChunk]:
        """The vector's chunks: drawn and written now, or as they were written before.

        Opens a transaction of its own; when it returns, the digest is on disk and the chunks may be published.
        """
        current = self._core.round(round_id)
        assert current is not None
        store = self._core.store
        sender = member_sender_id(self._core.identity, group)
        row = store.one("SELECT ciphertext FROM vectors WHERE round_id = ? AND grp = ?", round_id, group)
        if row is None:
            with store.transaction():
                ciphertext = self._draw(current, group, sender, entropy)
        else:
            ciphertext = row[0]
        return split_chunks(round_id, sender, ciphertext)

    def _draw(self, current: Round, group: int, sender: bytes, entropy: ByteSource) -> bytes:
        proposal, rho = current.proposal, current.rho
        mask = parameters.by_name(proposal.parameters)
        members = len(proposal.roster)
        sigma = None
        if proposal.noise == "committee":
            sigma = share_sigma(proposal.noise, proposal.sigma, members, proposal.threshold, proposal.honest)
        vector = member_message(proposal.length, sigma_share=sigma, entropy=entropy)
        key = masking.sample_key(mask, entropy)
        ciphertext = masking.encrypt(vector, key, rho, mask, entropy)
        bound = ciphertext_digest(rho, sender, ciphertext)
        sealed = []
        for entry, share in zip(proposal.roster, shamir.split(key, proposal.threshold, members, entropy), strict=True):
            record = self._core.published_key(entry.epoch_key_id)
            if record is None:
                raise RemoteError(f"member {entry.member}'s epoch key has not been read", reason="unknown-epoch-key")
            info = share_info(rho, entry.member, sender)
            sealed.append(seal(record.mlkem_key, record.x25519_key, info, share + bound))
        self._core.store.run(
            "INSERT INTO vectors VALUES (?, ?, ?, ?, ?, 0)", current.round_id, group, bound, ciphertext, _join(sealed)
        )
        return ciphertext

    def placed(self, round_id: str, group: int, place: Place) -> None:
        """The broker has the chunks: sign the envelope that says where (in a transaction of its own)."""
        current = self._core.round(round_id)
        assert current is not None
        store = self._core.store
        _, key_id = self._core.member_of(current, self._core.number)
        with store.transaction():
            row = store.one("SELECT digest, sealed FROM vectors WHERE round_id = ? AND grp = ?", round_id, group)
            if row is None or row[1] is None:
                return  # the round is over, or the envelope stands already
            envelope = Envelope(
                deployment=self._core.deployment,
                task=current.proposal.task,
                round_id=round_id,
                rho=current.rho,
                sender=member_sender_id(self._core.identity, group),
                member=self._core.number,
                epoch_key_id=key_id,
                group=group,
                model_version=-1,
                digest=row[0],
                place=place,
                sealed=_split(row[1]),
                signature=b"",
            )
            self._core.say("aicache.envelopes", round_id.encode(), envelope)
            sql = "UPDATE vectors SET placed = 1, ciphertext = NULL, sealed = NULL WHERE round_id = ? AND grp = ?"
            store.run(sql, round_id, group)
