import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.privacy import shamir
from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.sampling import Stream
from support import naive

HALF = shamir.PRIME // 2


def _stream(seed: int) -> Stream:
    return Stream(seed.to_bytes(32, "big"))


counts = st.integers(1, 7).flatmap(lambda members: st.tuples(st.integers(1, members), st.just(members)))
secrets = st.lists(st.integers(-HALF, HALF), min_size=1, max_size=15)


@settings(max_examples=60, deadline=None)
@given(secrets, counts, st.integers(0, 2**32))
def test_shares_agree_with_the_reference_and_every_subset_opens(
    secret: list[int], numbers: tuple[int, int], seed: int
) -> None:
    threshold, members = numbers
    seeds: list[bytes] = []

    def entropy(size: int) -> bytes:
        seeds.append(_stream(seed + len(seeds))(size))
        return seeds[-1]

    encoded = shamir.split(np.array(secret, np.int64), threshold, members, entropy)
    shares = [shamir.expand(share, len(secret)) for share in encoded]
    assert encoded[: threshold - 1] == seeds
    assert [share.tolist() for share in shares] == naive.split(secret, threshold, members, seeds)
    for subset in itertools.combinations(range(1, members + 1), threshold):
        opened = shamir.combine({member: shares[member - 1] for member in subset}, threshold)
        assert opened.tolist() == secret
        assert naive.combine({member: shares[member - 1].tolist() for member in subset}) == secret


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), counts, st.integers(0, 2**32))
def test_the_sum_of_shares_opens_the_sum_of_secrets(senders: int, numbers: tuple[int, int], seed: int) -> None:
    threshold, members = numbers
    rng, entropy = np.random.default_rng(seed), _stream(seed)
    secret_values = rng.integers(-HALF // senders, HALF // senders + 1, (senders, 50))
    sums = [shamir.ShareSum(50) for _ in range(members)]
    for secret in secret_values:
        for total, share in zip(sums, shamir.split(secret, threshold, members, entropy), strict=True):
            total.add(shamir.expand(share, 50))
    chosen = rng.permutation(members)[:threshold]
    opened = shamir.combine({int(i) + 1: sums[i].residues() for i in chosen}, threshold)
    assert (opened == secret_values.sum(axis=0)).all()


def test_fewer_shares_than_the_threshold_are_independent_of_the_secret() -> None:
    """For any two shares of three, every secret is consistent with exactly one third share: two say nothing."""
    shares = [shamir.expand(share, 1) for share in shamir.split(np.array([1234]), 3, 5, _stream(1))]
    known = {2: int(shares[1][0]), 4: int(shares[3][0])}
    for secret in (-HALF, 0, 7, HALF):
        third = naive.interpolate({0: secret % naive.P, **known}, 5)
        opened = shamir.combine(
            {5: np.array([third], np.uint16), **{m: np.array([v], np.uint16) for m, v in known.items()}}, 3
        )
        assert opened.tolist() == [secret]


def test_seeds_expand_to_uniform_residues() -> None:
    """A chi-square test over 256 equal classes: words from p on are skipped, not folded."""
    residues = shamir.expand_seed(_stream(2)(32), 2_000_000)
    assert residues.dtype == np.uint16
    assert residues.max() == shamir.PRIME - 1
    edges = np.linspace(0, shamir.PRIME, 257).astype(int)
    seen = np.histogram(residues, bins=edges)[0]
    expected = np.diff(edges) / shamir.PRIME * residues.size
    chi = float(((seen - expected) ** 2 / expected).sum())
    assert abs(chi - 255) < 5 * (2 * 255) ** 0.5
    assert residues[:2048].tolist() == naive.expand_seed(_stream(2)(32), 2048)


def test_the_sum_of_the_most_shares_does_not_overflow() -> None:
    total = shamir.ShareSum(3)
    share = np.full(3, shamir.PRIME - 1, np.uint16)
    for _ in range(70_000):
        total.add(share)
    assert total.count == 70_000
    assert total.residues().tolist() == [-70_000 % shamir.PRIME] * 3


def test_bad_secrets_and_counts_are_refused() -> None:
    entropy = _stream(3)
    good = np.array([1, 2])
    for secret in (
        np.array([HALF + 1]),
        np.array([-HALF - 1]),
        np.array([1.0]),
        np.array([[1]]),
        np.array([], np.int64),
        np.zeros(16, np.int64),
    ):
        with pytest.raises(LocalError):
            shamir.split(secret, 2, 3, entropy)
    for threshold, members in ((0, 3), (4, 3), (2, 65), (-1, 0)):
        with pytest.raises(LocalError) as caught:
            shamir.split(good, threshold, members, entropy)
        assert caught.value.got == (threshold, members)


def test_bad_shares_are_refused_and_leave_sums_untouched() -> None:
    for encoded in (b"", bytes(31), bytes(4095), bytes(4098), shamir.PRIME.to_bytes(2, "little") * 2048):
        with pytest.raises(RemoteError) as caught:
            shamir.expand(encoded)
        assert caught.value.reason == "bad-share"
    total = shamir.ShareSum(2)
    total.add(np.array([1, 2], np.uint16))
    for share in (np.array([1], np.uint16), np.array([1, 2]), np.array([[1, 2]], np.uint16)):
        with pytest.raises(LocalError):
            total.add(share)
    assert total.count == 1
    assert total.residues().tolist() == [1, 2]
    one = np.array([1], np.uint16)
    for shares, threshold in (({1: one}, 2), ({1: one, 2: one}, 1), ({0: one}, 1), ({65: one}, 1), ({}, 0)):
        with pytest.raises(LocalError):
            shamir.combine(shares, threshold)
    with pytest.raises(RemoteError):
        shamir.combine({1: one, 2: np.array([1, 2], np.uint16)}, 2)
    with pytest.raises(RemoteError):
        shamir.combine({1: np.array([shamir.PRIME], np.uint16)}, 1)
