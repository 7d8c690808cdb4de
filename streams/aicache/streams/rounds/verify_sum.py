"""The arithmetic of a verified round: digests of ciphertexts, their sum, the openings, the aggregate.

Pure: the records come in as arguments; chunks are streamed, so memory is one sum a group and one ciphertext.
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import masking, parameters
from aicache.privacy.errors import RemoteError
from aicache.privacy.statements import ciphertext_digest
from aicache.schemas.codec import Codec, SingleObject
from aicache.schemas.records import (
    Aggregate,
    Guarantee,
    Manifest,
    Opening,
    Place,
    Proposal,
    RoundClosed,
    Task,
    UpdateChunk,
)
from aicache.streams.committee.rules import chunks_of
from aicache.streams.reducer.noise import noise_of
from aicache.streams.reducer.opening import combine_groups, open_group
from aicache.streams.rounds.budgets import guarantee_of
from aicache.streams.rounds.exported import RoundLog

GroupSums: TypeAlias = dict[int, NDArray[np.uint64]]
OpenedGroups: TypeAlias = dict[int, NDArray[np.int64] | None]
PENDING_BYTES_MAX = 256 * 1024 * 1024
"""Chunks of ciphertexts that are not whole yet; senders write theirs together, so few ever are."""


def require(holds: bool, reason: str, message: str) -> None:
    """A check of a verified round, with its stable reason."""
    if not holds:
        raise RemoteError(message, reason=reason)


# ---------------------------------------------------------------- ciphertexts


class _Adder:
    """Puts listed ciphertexts together from their chunks and adds each to the sum of its group."""

    def __init__(self, proposal: Proposal, rho: bytes, manifest: Manifest, sums: GroupSums) -> None:
        self._proposal, self._rho, self._sums = proposal, rho, sums
        self._mask = parameters.by_name(proposal.parameters)
        self._wanted: dict[bytes, tuple[int, bytes, Place]] = {}
        self._chunk_of: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._pieces: dict[bytes, dict[int, bytes]] = {}
        self._pending_bytes = 0
        self.done: set[bytes] = set()
        size = masking.block_count(proposal.length, self._mask) * self._mask.ring_degree
        for group in manifest.groups:
            sums[group.group] = np.zeros(size, np.uint64)
            for entry in group.clients:
                self._want(entry.client, group.group, entry.digest, entry.place)
            for member in manifest.members:
                for vector in member.vectors:
                    if vector.group == group.group:
                        self._want(vector.sender, group.group, vector.digest, vector.place)

    def _want(self, sender: bytes, group: int, digest: bytes, place: Place) -> None:
        name = sender.hex()[:8]
        require(sender not in self._wanted, "client-twice", f"sender {name} is listed twice")
        needed = chunks_of(self._proposal.length, self._mask)
        require(
            len(place.offsets) == needed, "malformed", f"sender {name} has {len(place.offsets)} places, not {needed}"
        )
        self._wanted[sender] = (group, digest, place)
        for index, offset in enumerate(place.offsets):
            known = self._chunk_of.setdefault((place.partition, offset), (sender, index))
            require(known == (sender, index), "place-twice", f"sender {name} names a place that another one names too")

    def take(self, partition: int, offset: int, value: bytes, codec: Codec) -> None:
        """A chunk, which counts if the manifest names its place."""
        named = self._chunk_of.get((partition, offset))
        if named is None or named[0] in self.done:
            return
        sender, index = named
        chunk = codec.decode(value, UpdateChunk).record
        pieces = self._pieces.setdefault(sender, {})
        if index in pieces:
            return
        pieces[index] = chunk.data
        self._pending_bytes += len(chunk.data)
        require(self._pending_bytes <= PENDING_BYTES_MAX, "too-large", "too many ciphertexts are not whole")
        if len(pieces) == len(self._wanted[sender][2].offsets):
            self._add(sender, b"".join(pieces[index] for index in sorted(pieces)))
            self._pending_bytes -= sum(map(len, pieces.values()))
            del self._pieces[sender]

    def _add(self, sender: bytes, data: bytes) -> None:
        group, digest, _ = self._wanted[sender]
        right = ciphertext_digest(self._rho, sender, data) == digest
        require(right, "wrong-digest", f"the ciphertext of sender {sender.hex()[:8]} is not the one that was endorsed")
        masking.add_packed(self._sums[group], data)
        self.done.add(sender)

    def missing(self) -> list[bytes]:
        """Listed senders whose ciphertext is not in the log."""
        return sorted(self._wanted.keys() - self.done)


def add_ciphertexts(log: RoundLog, proposal: Proposal, rho: bytes, manifest: Manifest, sums: GroupSums) -> str:
    """Read every listed ciphertext at its place, check its digest, and add it up in `sums`.

    Raises:
        RemoteError: one is missing or is another one.
    """
    adder = _Adder(proposal, rho, manifest, sums)
    codec = Codec(SingleObject())
    for entry in log.chunks():
        adder.take(entry.partition, entry.offset, entry.value, codec)
    missing = adder.missing()
    require(not missing, "ciphertext-missing", f"{len(missing)} listed ciphertexts are not in the log")
    return f"{len(adder.done)} ciphertexts, digests right, added modulo 2^48"


# ---------------------------------------------------------------- openings


def check_openings(openings: list[Opening], proposal: Proposal, manifest: Manifest, digest: bytes) -> str:
    """Enough members have signed an opening of each group.

    Args:
        openings: those whose signatures verify.
        proposal: the round.
        manifest: the one that was voted for.
        digest: its digest.
    """
    counts = []
    for group in manifest.groups:
        members = _residues(openings, proposal, manifest, digest, group.group)
        counts.append(len(members))
        enough = len(members) >= proposal.threshold
        require(
            enough, "too-few-openings", f"group {group.group}: {len(members)} valid, {proposal.threshold} are needed"
        )
    return f"{min(counts)} or more for each of {len(counts)} groups"


def _residues(
    openings: list[Opening], proposal: Proposal, manifest: Manifest, digest: bytes, group: int
) -> dict[int, NDArray[np.uint16]]:
    mask = parameters.by_name(proposal.parameters)
    members = {entry.member for entry in manifest.members}
    found: dict[int, NDArray[np.uint16]] = {}
    for record in openings:
        if record.manifest_digest != digest or record.group != group or record.member not in members:
            continue
        if len(record.shares) == 2 * mask.ring_degree:
            residues = np.frombuffer(record.shares, "<u2").astype(np.uint16)
            if int(residues.max()) < mask.prime:
                found.setdefault(record.member, residues)
    return found


def open_groups(
    openings: list[Opening],
    proposal: Proposal,
    rho: bytes,
    manifest: Manifest,
    digest: bytes,
    sums: GroupSums,
    opened: OpenedGroups,
) -> str:
    """Open each group's sum again; None in `opened` where no subset of the openings passes."""
    mask = parameters.by_name(proposal.parameters)
    told: list[str] = []
    for group in manifest.groups:
        residues = _residues(openings, proposal, manifest, digest, group.group)
        senders = len(group.clients) + len(manifest.members)
        result = open_group(
            sums[group.group],
            residues,
            proposal.threshold,
            senders=senders,
            length=proposal.length,
            rho=rho,
            mask=mask,
        )
        opened[group.group] = None if result is None else result.sum
        if result is None:
            told.append(f"group {group.group}: no {proposal.threshold} of {len(residues)} openings fit its ciphertexts")
        else:
            told.append(f"group {group.group}: {len(group.clients)} clients, opened by members {list(result.used)}")
    return "; ".join(told)


# ---------------------------------------------------------------- the aggregate


def check_aggregate(
    aggregates: list[Aggregate],
    closings: list[RoundClosed],
    tasks: list[Task],
    proposal: Proposal,
    manifest: Manifest,
    digest: bytes,
    rho: bytes,
    opened: OpenedGroups,
) -> str:
    """The published aggregate is what the log and the manifest make of it, in every field."""
    require(bool(aggregates), "no-aggregate", "the round has no aggregate yet")
    closed = {record.closed_ms for record in closings if record.rho == rho}
    labels = [task.labels for task in tasks if task.version == proposal.task_version and task.task == proposal.task]
    sigma = noise_of(proposal, manifest, [number for number, total in opened.items() if total is not None])
    for aggregate in aggregates:
        _check_groups(aggregate, proposal, manifest, opened)
        expected = _expected(proposal, manifest, digest, opened)
        for name, value in expected.items():
            same = getattr(aggregate, name) == value
            require(same, "wrong-sum" if name == "sum" else "wrong-aggregate", f"its {name} is not what the log gives")
        # Records of the first version do not tell it: then nobody is told anything false.
        require(aggregate.sigma in (0.0, sigma), "wrong-aggregate", "its sigma is not what the manifest gives")
        require(aggregate.closed_ms in closed, "wrong-aggregate", "its closing is not in the log")
        require(not labels or aggregate.labels in labels, "wrong-aggregate", "its labels are not the task's")
    n, epsilon = aggregates[0].n, aggregates[0].guarantee.epsilon
    return f"recomputed bit for bit: n = {n}, epsilon = {epsilon:.3f} a round"


def _check_groups(aggregate: Aggregate, proposal: Proposal, manifest: Manifest, opened: OpenedGroups) -> None:
    numbers = [group.group for group in manifest.groups]
    require(
        [group.group for group in aggregate.groups] == numbers, "wrong-aggregate", "its groups are not the manifest's"
    )
    for group, listed in zip(aggregate.groups, manifest.groups, strict=True):
        name = f"group {group.group}"
        require(group.n == len(listed.clients), "wrong-aggregate", f"{name} says {group.n} clients")
        total = opened[group.group]
        if group.status == "opened":
            require(total is not None, "wrong-sum", f"{name} is said to be opened, but no openings fit")
            assert total is not None
            data = total.astype("<i8").tobytes() if proposal.groups > 1 else b""
            require(group.sum == data, "wrong-sum", f"{name} has another sum")
        else:
            require(group.status == "dropped", "wrong-aggregate", f"{name} is {group.status}")
            require(total is None, "wrongly-dropped", f"{name} was dropped, but openings in the log fit it")
            require(group.sum == b"", "wrong-aggregate", f"{name} was dropped and has a sum")


def _expected(proposal: Proposal, manifest: Manifest, digest: bytes, opened: OpenedGroups) -> Mapping[str, object]:
    listed = [(len(group.clients), opened[group.group]) for group in manifest.groups]
    counts = [n for n, total in listed if total is not None]
    sums = [total for _, total in listed if total is not None]
    guarantee = guarantee_of(proposal)
    total = combine_groups(proposal.robust, sums, counts) if sums else np.zeros(0, np.int64)
    return {
        "deployment": proposal.deployment,
        "task": proposal.task,
        "task_version": proposal.task_version,
        "round_id": proposal.round_id,
        "number": proposal.number,
        "kind": proposal.kind,
        "manifest_digest": digest,
        "n": sum(counts),
        "length": proposal.length,
        "scale": proposal.scale,
        "sum": total.astype("<i8").tobytes(),
        "guarantee": Guarantee(**{name: getattr(guarantee, name) for name in Guarantee.__slots__}),
    }
