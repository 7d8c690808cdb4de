"""Who holds all of the log and two members' shares cannot tell one client's vector from zeros; with a third share it can.

The attacker is the best that we know: it completes the shares that it has to a key as well as it can, takes the mask off and correlates
what is left with the vector that it suspects. The same attacker with three shares is the check that the test could find something.
"""

import numpy as np
import pytest

from aicache.privacy import masking, parameters, shamir
from support.attack import threshold_bound
from support.rounds import entropy_of

TRIALS, LENGTH, VALUE = 300, 256, 1_000
RHO = bytes(range(32))
MASK = parameters.N10K
ENTROPY = entropy_of("distinguishing")
VECTOR = np.where(np.frombuffer(ENTROPY(LENGTH), np.uint8) & 1, VALUE, -VALUE).astype(np.int64)


def view(vector: np.ndarray, members: tuple[int, ...]) -> tuple[bytes, dict[int, np.ndarray]]:
    """A client's ciphertext, and the opened shares of these members."""
    key = masking.sample_key(MASK, ENTROPY)
    shares = shamir.split(key, 3, 5, ENTROPY)
    return masking.encrypt(vector, key, RHO, MASK, ENTROPY), {n: shamir.expand(shares[n - 1]) for n in members}


def guess(ciphertext: bytes, shares: dict[int, np.ndarray]) -> float:
    """How much like the suspected vector it looks."""
    key = shamir.combine(shares, len(shares)) if shares else np.zeros(MASK.ring_degree, np.int64)
    total = np.zeros(masking.packed_size(LENGTH, MASK) // 6, np.uint64)
    masking.add_packed(total, ciphertext)
    # The mask of the guessed key: an encryption of nothing under it, but for errors that are far below a unit of the vector.
    mask = np.zeros_like(total)
    masking.add_packed(mask, masking.encrypt(np.zeros(LENGTH, np.int64), np.clip(key, -160, 160), RHO, MASK, ENTROPY))
    left = ((total - mask)[:LENGTH] & np.uint64(2**48 - 1)).astype(np.int64)
    left = np.where(left >= 2**47, left - 2**48, left) / 2**MASK.delta_bits
    return float(np.mean(left * np.sign(VECTOR)))


def bound(members: tuple[int, ...]) -> float:
    """The epsilon that this attacker proves, at delta = 0."""
    present = np.array([guess(*view(VECTOR, members)) for _ in range(TRIALS)])
    absent = np.array([guess(*view(np.zeros_like(VECTOR), members)) for _ in range(TRIALS)])
    spread = float(np.std(absent))
    return threshold_bound(present, absent, [VALUE / 2, -spread, 0.0, spread], 0.0)


@pytest.mark.parametrize("members", [(), (1,), (1, 2), (2, 5), (4, 5)])
def test_the_log_and_two_members_tell_nothing_about_one_client(members: tuple[int, ...]) -> None:
    assert bound(members) <= 0.0


def test_the_same_attacker_with_three_members_sees_the_vector() -> None:
    assert bound((1, 3, 5)) > 2.0
