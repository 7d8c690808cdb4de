"""What a client would contribute to a task, and what of it would leave: the client's own path, in a round that is made up.

Vector, clipping, rounding, noise, mask, shares and envelope are the shipped ones; committee and round exist for this call alone, so what
comes out opens for nobody. Nothing is charged and nothing is sent. Pure but for keys, which the cryptography library draws itself.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy import accounting
from aicache.privacy.entropy import ByteSource
from aicache.privacy.quantize import l2_norm
from aicache.privacy.sealing import EpochKey
from aicache.privacy.statements import record_digest
from aicache.producers.identity import Identity
from aicache.producers.session import make_contribution, make_envelope, make_message
from aicache.producers.vectors import vector_of
from aicache.schemas.clipping import rule_of
from aicache.schemas.codec import Codec, body_of
from aicache.schemas.records import CommitteeMember, Model, ModelSpec, ModelVersion, Place, Proposal, Task
from aicache.streams.rounds.proposing import propose
from aicache.streams.rounds.state import State, TaskState
from aicache.streams.rounds.task import guarantee_of, validate

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Preview:
    """What would happen to a client's data.

    Attributes:
        task, kind, purpose: what it is for.
        stays: what the data is before it is masked, which never leaves: length, coordinates that are not zero, the L2 norm, the norm that
            is left after clipping, and the largest of the integers that are masked, noise by the client included.
        leaves: the records that would be published and their bytes; the public fields of the envelope.
        noise: σ of the noise in the opened sum, of the client's own share of it, and who adds it, in steps of the integer grid.
        epsilon_round, epsilon_all, delta: what it costs: one round, and all of the task's rounds.
        opened_with: the smallest number of clients whose sum is ever opened.
    """

    task: str
    kind: str
    purpose: str
    stays: dict[str, float]
    leaves: dict[str, Any]
    noise: dict[str, Any]
    epsilon_round: float
    epsilon_all: float
    delta: float
    opened_with: int


def preview(
    task: Task,
    data: Any,
    *,
    entropy: ByteSource,
    now_ms: int,
    model: Model | None = None,
    spec: ModelSpec | None = None,
) -> Preview:
    """Contribute to a made-up round.

    Args:
        task: as declared.
        data: what the client holds, in the form of `aicache.producers.vectors`.
        entropy: for rounding, noise, keys.
        now_ms: Unix milliseconds.
        model: for model and evaluation tasks: the version to start from.
        spec: for evaluation tasks: that of the model task.

    Raises:
        LocalError: the task cannot work, or the data does not fit it.
    """
    validate(task)
    vector = vector_of(task, data, model, spec)
    proposal, keys = _round(task, model, entropy, now_ms)
    rho = record_digest("proposal", *body_of(proposal))
    message = make_message(proposal, vector, entropy)
    identity = Identity(Ed25519PrivateKey.from_private_bytes(entropy(KEY_BYTES)), entropy(KEY_BYTES))
    version = -1 if model is None else model.version
    made = make_contribution(proposal, rho, message, keys, identity.client, entropy, version)
    envelope = make_envelope(made, Place(0, list(range(len(made.chunks)))), identity)
    guarantee = guarantee_of(task)
    clipped = rule_of(task).apply(vector)[: task.length]
    share = accounting.share_sigma(task.noise, guarantee.sigma, task.members, task.threshold, task.honest)
    codec = Codec()
    return Preview(
        task=task.task,
        kind=task.kind,
        purpose=task.purpose,
        stays={
            "coordinates": task.length,
            "not_zero": int(np.count_nonzero(vector)),
            "norm": l2_norm(vector),
            "norm_clipped": min(l2_norm(clipped), task.clip),
            "largest_integer": int(np.abs(message).max()),
        },
        leaves={
            "chunks": len(made.chunks),
            "chunks_bytes": sum(len(codec.encode(chunk)) for chunk in made.chunks),
            "envelope_bytes": len(codec.encode(envelope)),
            "envelope": {
                "sender": "the digest of the client's public key",
                "model_version": version,
                "digest": "of the ciphertext",
                "sealed": f"a key share for each of {task.members} members, of whom {task.threshold} open a sum",
                "signature": "of the client",
            },
        },
        noise={
            "by": task.noise,
            "sigma_sum": guarantee.sigma,
            "sigma_own": share if task.noise == accounting.CLIENTS else 0.0,
            "scale": task.scale,
        },
        epsilon_round=guarantee.epsilon,
        epsilon_all=accounting.epsilon_from_rdp(max(1, task.rounds) * np.asarray(guarantee.rdp), task.delta),
        delta=task.delta,
        opened_with=task.n_min,
    )


def _round(
    task: Task, model: Model | None, entropy: ByteSource, now_ms: int
) -> tuple[Proposal, dict[bytes, CommitteeMember]]:
    """A proposal of the task by nobody, with a committee that nobody is."""
    state = State(tasks={task.task: TaskState(task)}, now_ms=now_ms)
    for number in range(1, task.members + 1):
        key = EpochKey.generate()
        identity = Ed25519PrivateKey.from_private_bytes(entropy(KEY_BYTES)).public_key().public_bytes_raw()
        state.committee[number] = CommitteeMember(
            deployment=task.deployment,
            member=number,
            identity_key=identity,
            epoch=1,
            epoch_key_id=key.key_id,
            mlkem_key=key.mlkem_public,
            x25519_key=key.x25519_public,
            valid_from_ms=now_ms,
            valid_until_ms=2**62,
            retired=False,
            signature=b"",
        )
    if model is not None:
        state.versions[task.evaluates or task.task] = [ModelVersion(model.version, model.digest)]
    proposal = propose(state, task, 1, now_ms).proposal
    return proposal, {member.epoch_key_id: member for member in state.committee.values()}


def lines(found: Preview) -> list[tuple[str, str]]:
    """For people: what, and how much of it."""
    stays, leaves, noise = found.stays, found.leaves, found.noise
    cut = stays["norm_clipped"] / stays["norm"] if stays["norm"] else 1.0
    by = "nothing: the committee adds it" if noise["by"] != accounting.CLIENTS else f"σ = {noise['sigma_own']:.4g}"
    units = noise["sigma_sum"] / noise["scale"]
    size = f"{stays['coordinates']} numbers, {stays['not_zero']} of them not zero, norm {stays['norm']:.4g}"
    left = f"to norm {stays['norm_clipped']:.4g}, " + (f"{cut:.0%} of it" if cut < 1 else "all of it")
    pieces = "one record" if leaves["chunks"] == 1 else f"{leaves['chunks']} records"
    rows = [
        ("task", f"{found.task}: {found.kind}, for {found.purpose}"),
        ("stays here: the vector", size),
        ("stays here: clipped", left),
        ("stays here: integers", f"{noise['scale']:g} steps a unit, none above {stays['largest_integer']}"),
        ("leaves: ciphertext", f"{pieces}, {leaves['chunks_bytes']} bytes that look like random ones"),
        (
            "leaves: envelope",
            f"{leaves['envelope_bytes']} bytes: who, which round, digest, sealed key shares, signature",
        ),
        ("opened", f"only the sum of at least {found.opened_with} clients"),
        ("noise in that sum", f"σ = {noise['sigma_sum']:.4g} steps ({units:.3g} units); this client adds {by}"),
        ("cost", f"epsilon {found.epsilon_round:.3f} a round, {found.epsilon_all:.3f} for all, delta {found.delta:g}"),
    ]
    if leaves["envelope"]["model_version"] >= 0:
        rows.insert(6, ("leaves: model version", str(leaves["envelope"]["model_version"])))
    return rows
