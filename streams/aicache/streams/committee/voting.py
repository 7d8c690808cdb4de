"""Steps 6 and 7: one vote a round, and after a quorum of votes the summed shares.

The vote is written before it is said, together with the charge to every listed client, and it is written once: the row's
`decision` changes from nothing to something and never again. What k members voted for may be opened at any later time, so it is
charged for good, by those who voted otherwise as soon as they see k votes.
Invariant: an opening is made only of shares that this member endorsed, for a manifest that passed its own checks, with k
valid votes for it in the store.
Boundary: the member's store; no clock, no entropy.
"""

from collections.abc import Callable

import numpy as np

from aicache.privacy import parameters
from aicache.privacy.accounting import ORDERS
from aicache.privacy.errors import RemoteError
from aicache.privacy.shamir import ShareSum, expand
from aicache.privacy.statements import record_digest
from aicache.schemas.records import Manifest, Opening, Vote
from aicache.streams.committee.core import ABORT, Core, Incoming, Round
from aicache.streams.committee.envelopes import Endorser
from aicache.streams.committee.rules import Endorsable, check_manifest

MANIFESTS_MAX = 4
"""Manifests of one round that are remembered: more than one is already an operator who misbehaves."""


class Voter:
    """Votes, counts votes, opens.

    Args:
        core: the member.
        endorser: keeps the shares.
    """

    def __init__(self, core: Core, endorser: Endorser) -> None:
        self._core = core
        self._endorser = endorser

    # ------------------------------------------------------------ manifests

    def manifest(self, item: Incoming, manifest: Manifest, current: Round) -> None:
        """Judge a manifest; vote for it where it is right and nothing was decided yet.

        Raises:
            RemoteError: what is wrong with it.
        """
        digest = record_digest("manifest", item.fingerprint, item.body)
        store = self._core.store
        if store.one("SELECT 1 FROM manifests WHERE round_id = ? AND digest = ?", current.round_id, digest) is not None:
            return
        seen = store.one("SELECT count(*) FROM manifests WHERE round_id = ?", current.round_id)[0]
        if seen >= MANIFESTS_MAX:
            raise RemoteError(
                "the round has too many manifests", reason="too-many-manifests", got=seen, needed=MANIFESTS_MAX
            )
        problem: RemoteError | None = None
        try:
            self._check(manifest, current)
        except RemoteError as error:
            problem = error
        store.run(
            "INSERT INTO manifests VALUES (?, ?, ?, ?)",
            current.round_id,
            digest,
            problem.reason if problem else "",
            self._core.kept.encode(manifest),
        )
        if problem is None and not current.over:
            if current.decision is None:
                self._decide(current, digest, manifest)
            elif current.decision not in (ABORT, digest):
                raise RemoteError("a second manifest for a round in which I have voted", reason="second-manifest")
        elif problem is not None and problem.reason != "not-in-s":
            raise problem

    def _check(self, manifest: Manifest, current: Round) -> None:
        if not current.approved:
            raise RemoteError("I take no part in this round", reason="not-in-s")
        store = self._core.store
        commitments = dict(store.all("SELECT member, commitment FROM approvals WHERE round_id = ?", current.round_id))
        vectors = dict(store.all("SELECT grp, digest FROM vectors WHERE round_id = ?", current.round_id))
        check_manifest(
            manifest,
            current.proposal,
            rho=current.rho,
            me=self._core.number,
            commitments=commitments,
            endorsed=self._endorsed(current.round_id),
            own_vectors=vectors,
        )

    def _endorsed(self, round_id: str) -> Callable[[bytes], Endorsable | None]:
        def find(sender: bytes) -> Endorsable | None:
            sql = "SELECT digest, model_version FROM senders WHERE round_id = ? AND sender = ?"
            row = self._core.store.one(sql, round_id, sender)
            return None if row is None else Endorsable(*row)

        return find

    # ------------------------------------------------------------ the one vote

    def _decide(self, current: Round, digest: bytes, manifest: Manifest | None) -> None:
        store = self._core.store
        written = store.run(
            "UPDATE rounds SET decision = ? WHERE round_id = ? AND decision IS NULL", digest, current.round_id
        )
        assert written == 1, "a round's decision is written once"
        if manifest is not None:
            self._charge(current, manifest)
        self._core.ledger.release(current.round_id)
        _, key_id = self._core.member_of(current, self._core.number)
        vote = Vote(
            deployment=self._core.deployment,
            task=current.proposal.task,
            round_id=current.round_id,
            rho=current.rho,
            member=self._core.number,
            epoch_key_id=key_id,
            manifest_digest=digest,
            signature=b"",
        )
        self._core.say("aicache.votes", current.round_id.encode(), vote)

    def abort(self, current: Round) -> None:
        """Promise never to vote for a manifest of this round; what was reserved is free again."""
        if current.approved and current.decision is None and not current.over:
            self._decide(current, ABORT, None)

    def _charge(self, current: Round, manifest: Manifest) -> None:
        clients = [entry.client for group in manifest.groups for entry in group.clients]
        # A round without a price can only have been voted for by others; what cannot be priced counts as everything.
        rdp = current.rdp if current.rdp.size else np.full(len(ORDERS), np.inf)
        self._core.ledger.charge(clients, current.proposal.purpose, current.window_ms, rdp)

    # ------------------------------------------------------------ counting and opening

    def count(self, vote: Vote, current: Round) -> None:
        """Note a verified vote."""
        self._core.store.run(
            "INSERT OR IGNORE INTO votes VALUES (?, ?, ?)", current.round_id, vote.member, vote.manifest_digest
        )

    def settle(self, current: Round) -> None:
        """Act on k votes: charge where I had not, open where I can, and be done with the round."""
        store = self._core.store
        sql = "SELECT digest FROM votes WHERE round_id = ? GROUP BY digest HAVING count(*) >= ?"
        row = store.one(sql, current.round_id, current.proposal.quorum)
        if row is None:
            return
        digest = bytes(row[0])
        if digest == ABORT:
            self.abort(current)
            self._finish(current, digest)
            return
        row = store.one(
            "SELECT record, reason FROM manifests WHERE round_id = ? AND digest = ?", current.round_id, digest
        )
        if row is None:
            return  # the manifest itself has not been read yet
        manifest = self._core.kept.decode(row[0], Manifest).record
        assert isinstance(manifest, Manifest)
        if current.decision != digest:
            self._charge(current, manifest)
            self._core.ledger.release(current.round_id)
        if row[1] == "" and not current.over:
            self._open(current, digest, manifest)
        self._finish(current, digest)

    def _open(self, current: Round, digest: bytes, manifest: Manifest) -> None:
        _, key_id = self._core.member_of(current, self._core.number)
        mask = parameters.by_name(current.proposal.parameters)
        for group in manifest.groups:
            senders = [entry.client for entry in group.clients]
            senders += [v.sender for member in manifest.members for v in member.vectors if v.group == group.group]
            total = ShareSum(mask.ring_degree)
            for sender in senders:
                share = self._endorser.share(current, sender)
                assert share is not None, "the manifest passed the check: all of it was endorsed"
                total.add(expand(share, mask.ring_degree))
            opening = Opening(
                deployment=self._core.deployment,
                task=current.proposal.task,
                round_id=current.round_id,
                rho=current.rho,
                manifest_digest=digest,
                member=self._core.number,
                epoch_key_id=key_id,
                group=group.group,
                shares=total.residues().astype("<u2").tobytes(),
                signature=b"",
            )
            self._core.say("aicache.openings", current.round_id.encode(), opening)

    def _finish(self, current: Round, digest: bytes) -> None:
        store = self._core.store
        store.run("UPDATE rounds SET counted = ?, over = 1 WHERE round_id = ?", digest, current.round_id)
        store.run("DELETE FROM manifests WHERE round_id = ?", current.round_id)
        forget_shares(self._core, current.round_id)

    def drop(self, current: Round) -> None:
        """Be done with a round without a word: whether this member voted in it before, its store no longer knows."""
        self._core.store.run("UPDATE rounds SET over = 1 WHERE round_id = ?", current.round_id)
        forget_shares(self._core, current.round_id)

    def give_up(self, current: Round) -> None:
        """Be done with a round that nothing came of: abort it where nothing was decided, and forget its shares."""
        self.abort(current)
        self._core.store.run("UPDATE rounds SET over = 1 WHERE round_id = ?", current.round_id)
        forget_shares(self._core, current.round_id)


def forget_shares(core: Core, round_id: str) -> None:
    """Delete what a round that is over no longer needs; promises and charges stay, and manifests until k votes are counted."""
    for table in ("senders", "vectors", "reserved"):
        core.store.run(f"DELETE FROM {table} WHERE round_id = ?", round_id)  # noqa: S608 - names from this line
