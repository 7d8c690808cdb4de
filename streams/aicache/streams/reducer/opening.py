"""Step 8: from a sum of ciphertexts and the members' openings to the sum of the vectors, and from group sums to one answer.

Any `threshold` honest openings give the same sum; a false one fails the test of `masking.open_sum`, and the next subset is tried.
Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import masking, shamir
from aicache.privacy.errors import RemoteError
from aicache.privacy.parameters import MaskParameters

SUBSETS_MAX = 500
"""Subsets of openings tried: all of them for committees of up to eleven members."""
TRIM = 0.2
"""Share of group means cut off at each end by the trimmed mean."""
NORM_FACTOR = 3.0
"""Group means with a norm above this many times the median norm are left out by the norm filter."""

ROBUST_GROUPS_MIN = 3
"""Of fewer groups no rule can tell which is the bad one: they are added up."""

IntVector = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Opened:
    """A sum, and the members whose openings did not fit it."""

    sum: IntVector
    used: tuple[int, ...]


def open_group(
    total: NDArray[np.uint64],
    openings: Mapping[int, NDArray[np.uint16]],
    threshold: int,
    *,
    senders: int,
    length: int,
    rho: bytes,
    mask: MaskParameters,
) -> Opened | None:
    """Open a sum with the first subset of openings that passes the test.

    Args:
        total: sum of the ciphertexts mod q, uint64, padded to whole blocks.
        openings: residues of summed key shares, by member.
        threshold: how many open a sum.
        senders: how many ciphertexts were added, members' vectors included.
        length: coordinates of the vector.
        rho: digest of the proposal.
        mask: parameters of the mask.

    Returns:
        None where no subset passes.
    """
    for chosen in islice(combinations(sorted(openings), threshold), SUBSETS_MAX):
        key_sum = shamir.combine({member: openings[member] for member in chosen}, threshold)
        try:
            return Opened(masking.open_sum(total, key_sum, senders, length, rho, mask), chosen)
        except RemoteError:
            continue
    return None


def means_averaged(rule: str, groups: int) -> int:
    """How many groups' means each coordinate of the answer is the average of, at least; 0 where the answer is the plain sum.

    Args:
        rule: none, trimmed-mean, median or norm-filter.
        groups: how many were opened.

    Raises:
        RemoteError: `unknown-rule`.
    """
    if rule == "none" or groups < ROBUST_GROUPS_MIN:
        return 0
    if rule == "median":
        return 2 - groups % 2
    if rule == "trimmed-mean":
        return groups - 2 * int(groups * TRIM)
    if rule == "norm-filter":
        return (groups + 1) // 2  # those whose norm is at most the median
    raise RemoteError("not a rule over groups", reason="unknown-rule", got=rule)


def combine_groups(rule: str, sums: Sequence[IntVector], counts: Sequence[int]) -> IntVector:
    """One sum for all opened groups.

    Without a rule it is their sum. A robust rule takes a mean over the groups' means that a few bad groups cannot move far
    (Yin et al., ICML 2018), and gives it back times the number of clients, so that sum / n is the answer in either case.

    Args:
        rule: none, trimmed-mean, median or norm-filter.
        sums: of each opened group, int64, all of one length.
        counts: clients of each group.

    Raises:
        RemoteError: `unknown-rule`.
    """
    if not means_averaged(rule, len(sums)):
        return np.sum(sums, axis=0, dtype=np.int64)
    means = np.stack([group / count for group, count in zip(sums, counts, strict=True)])
    if rule == "median":
        answer = np.median(means, axis=0)
    elif rule == "trimmed-mean":
        cut = int(len(means) * TRIM)
        answer = np.sort(means, axis=0)[cut : len(means) - cut].mean(axis=0)
    else:
        norms = np.linalg.norm(means, axis=1)
        answer = means[norms <= NORM_FACTOR * np.median(norms)].mean(axis=0)
    return np.rint(answer * sum(counts)).astype(np.int64)
