"""The reducer as a machine without I/O: what is read goes in, what is to be fetched and published comes out.

A ciphertext counts by the place and the digest that its signed envelope claims, whoever wrote the chunks. With one group, good
ciphertexts are added as they come, and what the manifest does not list is subtracted again: after the close only the openings
are waited for. With several groups the manifest draws the groups, and the listed ciphertexts are read once more.
Invariant: an aggregate is a function of the log and the manifest. Memory: one sum a group of the rounds that are open, and
`CACHE_BYTES` of chunks. Pure.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import masking, parameters
from aicache.privacy.errors import RemoteError
from aicache.privacy.statements import ciphertext_digest, client_id, record_digest
from aicache.schemas import topics
from aicache.schemas.records import (
    Aggregate,
    Approval,
    Endorsed,
    Enrolment,
    Envelope,
    GroupSum,
    Guarantee,
    Manifest,
    ManifestGroup,
    Opening,
    Place,
    Proposal,
    Receipt,
    Record,
    RoundAborted,
    RoundClosed,
    Task,
    UpdateChunk,
    Vote,
)
from aicache.schemas.signing import verify_record
from aicache.streams.committee.rules import chunks_of
from aicache.streams.reducer.noise import noise_of
from aicache.streams.reducer.opening import combine_groups, open_group
from aicache.streams.reducer.sums import RoundSums
from aicache.streams.rounds.budgets import guarantee_of
from aicache.streams.runtime.contract import Output

CACHE_BYTES = 64 * 1024 * 1024
"""Chunks that no envelope has claimed yet; the oldest go first and are fetched when they are claimed."""
RECEIPT_ENTRIES = 2_000
CLAIMS_MAX = 4
"""Envelopes of one sender that are looked at; delivering one twice is harmless, flooding is not answered."""
FINISHED_MAX = 100_000
"""Names of finished rounds that are remembered, so that their records are not taken for those of new ones."""
ROUND_KEPT_MS = 3_600_000
"""How long after its last moment a round without a result is held."""
DROP_WAIT_MS = 30_000
"""After k votes, how long openings are waited for before a group is dropped."""

Fetch = Callable[[Place], bytes | None]
"""Reads the chunks at a place again and joins their data; None where they are not in the log."""
Taken = tuple[Envelope, bytes | None]
SideBySide = Callable[[Callable[[Taken], bool], Iterable[Taken]], Iterator[bool]]
TAKEN_MAX = 16
"""Ciphertexts held at the same time while their digests are checked."""


class Reducer:
    """The machine.

    Args:
        deployment: records of another one are ignored.
        fetch: how chunks are read again.
        side_by_side: as `map`; digests are checked through it, so that it may use several threads.
    """

    def __init__(self, deployment: str, fetch: Fetch, side_by_side: SideBySide = map) -> None:
        self.deployment = deployment
        self._fetch = fetch
        self._side_by_side = side_by_side
        self.rounds: dict[str, RoundSums] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()
        self._keys: dict[bytes, bytes] = {}
        self._tasks: dict[tuple[str, int], list[str]] = {}
        self._chunks: OrderedDict[tuple[int, int], UpdateChunk] = OrderedDict()
        self._cached_bytes = 0
        self._position: dict[int, int] = {}
        self._receipts: dict[str, list[Endorsed]] = {}

    # ------------------------------------------------------------ reading

    def receive(self, record: Record, *, fingerprint: bytes, body: bytes, now_ms: int) -> None:
        """Take a record of a control topic in.

        Raises:
            RemoteError: the record is bad.
        """
        match record:
            case Task():
                self._tasks[record.task, record.version] = record.labels
            case Enrolment():
                if record.client == client_id(record.public_key):
                    self._keys[record.client] = record.public_key
            case Proposal():
                self._open(record, record_digest("proposal", fingerprint, body))
            case Aggregate():
                self._finish(record.round_id)
            case RoundAborted():
                self._abort(record)
            case Approval():
                pass  # clients need it; the reducer waits for votes
            case RoundClosed() | Manifest() | Envelope() | Vote() | Opening():
                current = self.rounds.get(record.round_id)
                if current is not None and record.rho == current.rho:
                    named = record_digest("manifest", fingerprint, body) if isinstance(record, Manifest) else b""
                    self._of_round(current, record, named, now_ms)
            case _:
                raise RemoteError("the reducer does not read this record", reason="wrong-record")

    def knows_client(self, client: bytes) -> bool:
        """Whether the client's key has been read: without it no envelope of it counts."""
        return client in self._keys

    def _finish(self, round_id: str) -> None:
        self.rounds.pop(round_id, None)
        self._finished[round_id] = None
        while len(self._finished) > FINISHED_MAX:
            self._finished.popitem(last=False)

    def _open(self, proposal: Proposal, rho: bytes) -> None:
        known = proposal.round_id in self._finished or proposal.round_id in self.rounds
        if proposal.deployment != self.deployment or known:
            return
        mask = parameters.by_name(proposal.parameters)
        size = masking.block_count(proposal.length, mask) * mask.ring_degree
        running = np.zeros(size, dtype=np.uint64) if proposal.groups == 1 else None
        labels = self._tasks.get((proposal.task, proposal.task_version), [])
        self.rounds[proposal.round_id] = RoundSums(proposal, rho, running, labels)

    def _abort(self, record: RoundAborted) -> None:
        current = self.rounds.get(record.round_id)
        if current is not None and not current.chosen:  # k votes in the log override any abort
            del self.rounds[record.round_id]

    def _of_round(
        self, current: RoundSums, record: RoundClosed | Manifest | Envelope | Vote | Opening, digest: bytes, now_ms: int
    ) -> None:
        match record:
            case RoundClosed():
                current.closed_ms = record.closed_ms
            case Manifest():
                current.manifests.setdefault(digest, record)
            case Envelope():
                self._claim(current, record)
            case Vote():
                self._verify(current, record)
                current.votes.setdefault(record.member, record.manifest_digest)
            case Opening():
                self._verify(current, record)
                mask = parameters.by_name(current.proposal.parameters)
                residues = np.frombuffer(record.shares, dtype="<u2").astype(np.uint16)
                if residues.size != mask.ring_degree or int(residues.max(initial=0)) >= mask.prime:
                    raise RemoteError("the opening's shares are not in the field", reason="bad-share")
                known = current.openings.setdefault((record.manifest_digest, record.group), {})
                known.setdefault(record.member, residues)
        if not current.voted_ms and current.chosen:
            current.voted_ms = now_ms

    @staticmethod
    def _verify(current: RoundSums, record: Vote | Opening | Envelope) -> None:
        roster = current.proposal.roster
        if not 1 <= record.member <= len(roster):
            raise RemoteError("no such member in the roster", reason="not-in-roster", got=record.member)
        verify_record(record, roster[record.member - 1].identity_key)

    def receive_chunk(self, partition: int, offset: int, chunk: UpdateChunk) -> None:
        """Take a chunk in, to be claimed by an envelope."""
        self._position[partition] = offset + 1
        self._chunks[partition, offset] = chunk
        self._cached_bytes += len(chunk.data)
        while self._cached_bytes > CACHE_BYTES:
            _, oldest = self._chunks.popitem(last=False)
            self._cached_bytes -= len(oldest.data)

    def position(self, partition: int, offset: int) -> None:
        """The chunks of a partition have been read up to an offset, whether there were any or not."""
        self._position[partition] = max(offset, self._position.get(partition, 0))

    # ------------------------------------------------------------ adding

    def _claim(self, current: RoundSums, envelope: Envelope) -> None:
        mask = parameters.by_name(current.proposal.parameters)
        offsets = envelope.place.offsets
        if len(offsets) != chunks_of(current.proposal.length, mask) or sorted(set(offsets)) != offsets:
            raise RemoteError("the envelope's place does not fit the round", reason="malformed")
        if envelope.sender in current.received:
            return
        if envelope.member:
            self._verify(current, envelope)
        elif envelope.sender in self._keys:
            verify_record(envelope, self._keys[envelope.sender])
        else:
            raise RemoteError("the client is not enrolled", reason="not-enrolled")
        if current.claims.get(envelope.sender, 0) >= CLAIMS_MAX:
            raise RemoteError("too many envelopes of one sender", reason="second-envelope")
        current.claims[envelope.sender] = current.claims.get(envelope.sender, 0) + 1
        current.waiting.append(envelope)

    def _settle_claims(self, current: RoundSums) -> None:
        later: list[Envelope] = []
        ready: dict[bytes, Envelope] = {}
        for envelope in current.waiting:
            read = self._position.get(envelope.place.partition, 0) > envelope.place.offsets[-1]
            if not read or envelope.sender in ready:
                later.append(envelope)  # its chunks have not been read so far, or its sender's first one may yet be bad
            elif envelope.sender not in current.received:
                ready[envelope.sender] = envelope
        current.waiting = later
        due = list(ready.values())
        for start in range(0, len(due), TAKEN_MAX):
            taken = [(envelope, self._take(envelope.place)) for envelope in due[start : start + TAKEN_MAX]]
            goods = self._side_by_side(lambda found: self._is_claimed(current, *found), taken)
            for (envelope, data), good in zip(taken, goods, strict=True):
                if good:
                    assert data is not None, "what is not there is not good"
                    self._count(current, envelope, data)

    def _is_claimed(self, current: RoundSums, envelope: Envelope, data: bytes | None) -> bool:
        """Whether the envelope's claim is true; one whose is false is in no receipt, so in no manifest."""
        return data is not None and self._is_good(current, envelope.sender, envelope.digest, data)

    def _count(self, current: RoundSums, envelope: Envelope, data: bytes) -> None:
        current.received[envelope.sender] = envelope.digest
        self._receipts.setdefault(current.proposal.round_id, []).append(Endorsed(envelope.sender, envelope.digest))
        if current.running is not None:
            masking.add_packed(current.running, data)
            current.added[envelope.sender] = (envelope.digest, envelope.place)

    @staticmethod
    def _is_good(current: RoundSums, sender: bytes, digest: bytes, data: bytes) -> bool:
        mask = parameters.by_name(current.proposal.parameters)
        return (
            len(data) == masking.packed_size(current.proposal.length, mask)
            and ciphertext_digest(current.rho, sender, data) == digest
        )

    def _take(self, place: Place) -> bytes | None:
        keys = [(place.partition, offset) for offset in place.offsets]
        if not all(key in self._chunks for key in keys):
            return self._fetch(place)
        data = b"".join(self._chunks[key].data for key in keys)
        for key in keys:
            self._cached_bytes -= len(self._chunks.pop(key).data)
        return data

    # ------------------------------------------------------------ answering

    def step(self, now_ms: int) -> list[Output]:
        """What is to be published now: receipts and aggregates."""
        outputs: list[Output] = []
        for current in list(self.rounds.values()):
            self._settle_claims(current)
            if now_ms > current.proposal.deadline_ms + current.proposal.grace_ms + ROUND_KEPT_MS:
                del self.rounds[current.proposal.round_id]  # nobody will ask for it any more
        for round_id, entries in self._receipts.items():
            outputs += self._receipt_outputs(round_id, entries)
        self._receipts = {}
        for current in list(self.rounds.values()):
            aggregate = self._answer(current, now_ms)
            if aggregate is not None:
                outputs.append(Output(topics.AGGREGATES.name, aggregate.round_id.encode(), aggregate))
                self._finish(aggregate.round_id)
        return outputs

    def _receipt_outputs(self, round_id: str, entries: list[Endorsed]) -> Iterator[Output]:
        current = self.rounds.get(round_id)
        for start in range(0, len(entries) if current else 0, RECEIPT_ENTRIES):
            assert current is not None
            record = Receipt(
                self.deployment, current.proposal.task, round_id, current.rho, entries[start : start + RECEIPT_ENTRIES]
            )
            yield Output(topics.ENDORSEMENTS.name, round_id.encode(), record)

    def _answer(self, current: RoundSums, now_ms: int) -> Aggregate | None:
        digest = current.chosen
        if not digest:
            return None
        manifest = current.manifests[digest]
        if not current.sums:
            current.sums = self._sums(current, manifest)
        groups: list[GroupSum] = []
        opened: list[NDArray[np.int64]] = []
        for group in manifest.groups:
            result = self._open_group(current, digest, manifest, group, now_ms)
            if result is None:
                return None
            record, total = result
            groups.append(record)
            if total is not None:
                opened.append(total)
        return self._aggregate(current, digest, groups, opened)

    def _open_group(
        self, current: RoundSums, digest: bytes, manifest: Manifest, group: ManifestGroup, now_ms: int
    ) -> tuple[GroupSum, NDArray[np.int64] | None] | None:
        proposal = current.proposal
        members = {entry.member for entry in manifest.members}
        openings = {m: r for m, r in current.openings.get((digest, group.group), {}).items() if m in members}
        waited = now_ms - current.voted_ms > DROP_WAIT_MS
        if len(openings) < proposal.threshold and not waited:
            return None
        total = current.sums[group.group]
        if total is None:
            return GroupSum(group.group, len(group.clients), "dropped", "ciphertext-missing", b""), None
        fresh = len(openings) > current.tried.get(group.group, 0)  # the same openings give the same answer
        if group.group not in current.opened and len(openings) >= proposal.threshold and fresh:
            current.tried[group.group] = len(openings)
            found = open_group(
                total,
                openings,
                proposal.threshold,
                senders=len(group.clients) + len(manifest.members),
                length=proposal.length,
                rho=current.rho,
                mask=parameters.by_name(proposal.parameters),
            )
            if found is not None:
                current.opened[group.group] = found.sum
        opened = current.opened.get(group.group)
        if opened is not None:
            data = opened.astype("<i8").tobytes() if proposal.groups > 1 else b""
            return GroupSum(group.group, len(group.clients), "opened", "", data), opened
        if waited or len(openings) == len(members):
            return GroupSum(group.group, len(group.clients), "dropped", "no-subset-opens", b""), None
        return None

    def _sums(self, current: RoundSums, manifest: Manifest) -> dict[int, NDArray[np.uint64] | None]:
        """The sum of exactly the listed ciphertexts of each group; None where one is not in the log any more.

        What is not summed yet is read in one pass over the log, in the order of its places.
        """
        mask = parameters.by_name(current.proposal.parameters)
        size = masking.block_count(current.proposal.length, mask) * mask.ring_degree
        wanted: dict[bytes, tuple[int, bytes, Place]] = {}
        for group in manifest.groups:
            wanted |= {entry.client: (group.group, entry.digest, entry.place) for entry in group.clients}
            for member in manifest.members:
                wanted |= {v.sender: (v.group, v.digest, v.place) for v in member.vectors if v.group == group.group}
        sums: dict[int, NDArray[np.uint64] | None] = {}
        for group in manifest.groups:
            sums[group.group] = current.running if current.running is not None else np.zeros(size, dtype=np.uint64)
        missing: list[tuple[Place, int, bytes, bytes | None]] = []  # without a digest: to be taken out again
        for sender, (digest, place) in current.added.items():
            if sender not in wanted or wanted[sender][1] != digest:
                missing.append((place, manifest.groups[0].group, sender, None))
        for sender, (number, listed, place) in wanted.items():
            if sender not in current.added or current.added[sender][0] != listed:
                missing.append((place, number, sender, listed))
        for place, number, sender, listed_or_none in sorted(
            missing, key=lambda row: (row[0].partition, row[0].offsets)
        ):
            total = sums[number]
            if total is not None and not self._apply(current, total, place, sender, listed_or_none):
                sums[number] = None
        return sums

    def _apply(
        self, current: RoundSums, total: NDArray[np.uint64], place: Place, sender: bytes, digest: bytes | None
    ) -> bool:
        """Read one ciphertext again and add it, or take it out again where no digest is given."""
        data = self._fetch(place)
        if data is None:
            return False
        if digest is None:
            masking.subtract_packed(total, data)
        elif self._is_good(current, sender, digest, data):
            masking.add_packed(total, data)
        else:
            return False
        return True

    def _aggregate(
        self, current: RoundSums, digest: bytes, groups: list[GroupSum], opened: list[NDArray[np.int64]]
    ) -> Aggregate:
        proposal = current.proposal
        counts = {group.group: group.n for group in groups if group.status == "opened"}
        total = np.zeros(0, dtype=np.int64)
        if opened:
            total = combine_groups(proposal.robust, opened, list(counts.values()))
        guarantee = guarantee_of(proposal)
        return Aggregate(
            deployment=self.deployment,
            task=proposal.task,
            task_version=proposal.task_version,
            round_id=proposal.round_id,
            number=proposal.number,
            kind=proposal.kind,
            manifest_digest=digest,
            closed_ms=current.closed_ms,
            n=sum(counts.values()),
            length=proposal.length,
            scale=proposal.scale,
            labels=current.labels,
            sum=total.astype("<i8").tobytes(),
            groups=groups,
            guarantee=Guarantee(**{name: getattr(guarantee, name) for name in Guarantee.__slots__}),
            sigma=noise_of(proposal, current.manifests[digest], counts),
        )
