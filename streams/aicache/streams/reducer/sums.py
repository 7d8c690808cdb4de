"""What the reducer knows of one round: the ciphertexts that are added, and who has said what of them. Pure."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from aicache.schemas.records import Envelope, Manifest, Place, Proposal


@dataclass(slots=True)
class RoundSums:
    """A round as the reducer sees it."""

    proposal: Proposal
    rho: bytes
    running: NDArray[np.uint64] | None
    labels: list[str]
    added: dict[bytes, tuple[bytes, Place]] = field(default_factory=dict)
    received: dict[bytes, bytes] = field(default_factory=dict)
    waiting: list[Envelope] = field(default_factory=list)
    claims: dict[bytes, int] = field(default_factory=dict)
    closed_ms: int = 0
    manifests: dict[bytes, Manifest] = field(default_factory=dict)
    votes: dict[int, bytes] = field(default_factory=dict)
    openings: dict[tuple[bytes, int], dict[int, NDArray[np.uint16]]] = field(default_factory=dict)
    voted_ms: int = 0
    sums: dict[int, NDArray[np.uint64] | None] = field(default_factory=dict)
    tried: dict[int, int] = field(default_factory=dict)
    opened: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def chosen(self) -> bytes:
        """The digest that k members voted for; empty while there is none."""
        votes = list(self.votes.values())
        return next((d for d in self.manifests if votes.count(d) >= self.proposal.quorum), b"")
