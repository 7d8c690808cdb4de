import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicache.privacy import masking
from aicache.privacy.errors import LocalError, RemoteError
from aicache.privacy.parameters import N10K, N60K, MaskParameters
from aicache.privacy.sampling import Stream
from support import naive

N = naive.N
RHO = bytes(range(32))


def _stream(seed: int) -> Stream:
    return Stream(seed.to_bytes(32, "big"))


def _fresh_sum(length: int) -> np.ndarray:
    return np.zeros(masking.block_count(length, N10K) * N, np.uint64)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 3 * N),
    st.integers(0, 2**32 - 1),
    st.sampled_from([N10K, N60K]),
    st.sampled_from(["random", "lowest", "highest"]),
)
def test_ciphertexts_and_opened_sums_agree_with_the_reference(
    length: int, seed: int, parameters: MaskParameters, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    bound = parameters.sum_bound
    message = {
        "random": rng.integers(1 - bound, bound, length),
        "lowest": np.full(length, 1 - bound),
        "highest": np.full(length, bound - 1),
    }[kind]
    key_seed, error_seed = bytes(rng.bytes(32)), bytes(rng.bytes(32))
    key = masking.sample_key(parameters, lambda _: key_seed)
    assert key.tolist() == naive.gaussian(key_seed, N)
    packed = masking.encrypt(message, key, RHO, parameters, lambda _: error_seed)
    assert len(packed) == masking.packed_size(length, parameters)
    assert packed == naive.encrypt(message.tolist(), key.tolist(), RHO, parameters.delta, error_seed)
    total = _fresh_sum(length)
    masking.add_packed(total, packed)
    opened = masking.open_sum(total, key, 1, length, RHO, parameters)
    assert opened.tolist() == message.tolist()
    assert opened.tolist() == naive.open_sum(total.tolist(), key.tolist(), 1, length, RHO, parameters.delta)


def test_the_sum_of_many_ciphertexts_opens_with_the_sum_of_keys() -> None:
    rng, entropy, length = np.random.default_rng(1), _stream(1), 2 * N - 3
    total, key_sum, expected = _fresh_sum(length), np.zeros(N, np.int64), np.zeros(length, np.int64)
    packed = []
    for _ in range(200):
        message = rng.integers(-1000, 1001, length)
        key = masking.sample_key(N10K, entropy)
        packed.append(masking.encrypt(message, key, RHO, N10K, entropy))
        masking.add_packed(total, packed[-1])
        key_sum += key
        expected += message
    assert (masking.open_sum(total, key_sum, 200, length, RHO, N10K) == expected).all()
    assert naive.add(packed[:3])[:9] == [
        sum(c) % naive.Q for c in zip(*(naive.words(p, 6)[:9] for p in packed[:3]), strict=True)
    ]


def test_sums_at_the_ends_of_the_range_open_exactly() -> None:
    """At ±(sum_bound − 1) the errors, of either sign, do not carry the sum across ±q/2."""
    entropy = _stream(2)
    for parameters in (N10K, N60K):
        half = parameters.sum_bound // 2
        for values in ((-half, 1 - half), (half, half - 1)):
            total, key_sum = _fresh_sum(5), np.zeros(N, np.int64)
            for value in values:
                key = masking.sample_key(parameters, entropy)
                masking.add_packed(total, masking.encrypt(np.full(5, value), key, RHO, parameters, entropy))
                key_sum += key
            assert masking.open_sum(total, key_sum, 2, 5, RHO, parameters).tolist() == [sum(values)] * 5


@pytest.mark.parametrize("parameters", [N10K, N60K], ids=["n10k", "n60k"])
def test_the_largest_allowed_errors_open_and_one_more_does_not(parameters: MaskParameters) -> None:
    """At n = senders_max: keys and remainders exactly at 8σ√n, in every coefficient, still open to the exact sum."""
    senders = parameters.senders_max
    bound = parameters.remainder_bound(senders)
    signs = np.random.default_rng(3).choice(np.array([-1, 1]), N)
    message = np.arange(-N // 2, N // 2) * 1000

    def total(remainder: np.ndarray, key_sum: np.ndarray) -> np.ndarray:
        masked = naive.multiply(naive.public_elements(RHO, 1)[0], key_sum.tolist())
        plain = message * parameters.delta + remainder
        return np.array([(m + int(p)) % naive.Q for m, p in zip(masked, plain, strict=True)], np.uint64)

    key_sum = signs * bound
    opened = masking.open_sum(total(bound * signs, key_sum), key_sum, senders, N, RHO, parameters)
    assert (opened == message).all()
    over = bound * signs
    over[7] += signs[7]
    with pytest.raises(RemoteError) as caught:
        masking.open_sum(total(over, key_sum), key_sum, senders, N, RHO, parameters)
    assert caught.value.reason == "remainder"
    assert (caught.value.got, caught.value.needed) == (bound + 1, bound)
    key_sum[9] += signs[9]
    with pytest.raises(RemoteError, match="summed key"):
        masking.open_sum(total(bound * signs, key_sum), key_sum, senders, N, RHO, parameters)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, N - 1), st.sampled_from([-1, 1, 100]), st.integers(0, 2**20))
def test_a_sum_of_keys_that_is_false_in_one_coefficient_does_not_pass(index: int, off: int, seed: int) -> None:
    entropy = _stream(seed)
    key = masking.sample_key(N10K, entropy)
    total = _fresh_sum(3)
    masking.add_packed(total, masking.encrypt(np.array([1, 2, 3]), key, RHO, N10K, entropy))
    false = key.copy()
    false[index] += off
    with pytest.raises(RemoteError) as caught:
        masking.open_sum(total, false, 1, 3, RHO, N10K)
    assert caught.value.reason == "remainder"


def test_another_round_or_a_missing_ciphertext_does_not_pass() -> None:
    entropy = _stream(4)
    keys = [masking.sample_key(N10K, entropy) for _ in range(2)]
    packed = [masking.encrypt(np.array([5]), key, RHO, N10K, entropy) for key in keys]
    total = _fresh_sum(1)
    masking.add_packed(total, packed[0])
    with pytest.raises(RemoteError):
        masking.open_sum(total, keys[0], 1, 1, bytes(32), N10K)
    with pytest.raises(RemoteError):
        masking.open_sum(total, keys[0] + keys[1], 2, 1, RHO, N10K)
    masking.add_packed(total, packed[1])
    assert masking.open_sum(total, keys[0] + keys[1], 2, 1, RHO, N10K).tolist() == [10]
    masking.subtract_packed(total, packed[0])
    assert masking.open_sum(total, keys[1], 1, 1, RHO, N10K).tolist() == [5]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_packing_adding_and_subtracting_agree_with_plain_integers(seed: int, blocks: int) -> None:
    rng = np.random.default_rng(seed)
    values = [rng.integers(0, naive.Q, blocks * N, np.uint64) for _ in range(2)]
    packed = [masking.pack(value).tobytes() for value in values]
    assert packed[0] == b"".join(int(v).to_bytes(6, "little") for v in values[0])
    total = np.zeros(blocks * N, np.uint64)
    for each in packed:
        masking.add_packed(total, each)
    mask = np.uint64(naive.Q - 1)
    assert (total & mask).tolist() == naive.add(packed)
    masking.subtract_packed(total, packed[0])
    assert (total & mask).tolist() == values[1].tolist()


def test_a_ciphertext_of_the_wrong_size_leaves_the_sum_untouched() -> None:
    total = np.arange(N, dtype=np.uint64)
    for packed in (bytes(6 * N - 1), bytes(6 * N + 6), b""):
        for change in (masking.add_packed, masking.subtract_packed):
            with pytest.raises(RemoteError) as caught:
                change(total, packed)
            assert (caught.value.got, caught.value.needed) == (len(packed), 6 * N)
    assert (total == np.arange(N, dtype=np.uint64)).all()


def test_bad_messages_and_keys_are_refused_without_quoting_them() -> None:
    entropy = _stream(5)
    key = masking.sample_key(N10K, entropy)
    good = np.array([1])
    bad_messages = [
        np.array([1.0]),
        np.array([[1]]),
        np.array([], np.int64),
        np.array([N10K.sum_bound]),
        np.array([-N10K.sum_bound]),
    ]
    for message in [*bad_messages, good.astype(np.int32)]:
        with pytest.raises(LocalError) as caught:
            masking.encrypt(message, key, RHO, N10K, entropy)
        assert str(N10K.sum_bound) not in str(caught.value)
        assert caught.value.needed is not None
    for bad_key in (key[:-1], key.astype(np.int32), np.full(N, 161), np.full(N, -161)):
        with pytest.raises(LocalError):
            masking.encrypt(good, bad_key, RHO, N10K, entropy)
    total = _fresh_sum(1)
    for senders in (0, N10K.senders_max + 1):
        with pytest.raises(LocalError):
            masking.open_sum(total, key, senders, 1, RHO, N10K)
    with pytest.raises(LocalError):
        masking.open_sum(total, np.full(N, 32_761), 1, 1, RHO, N10K)
    with pytest.raises(LocalError):
        masking.open_sum(total[:-4], key, 1, 1, RHO, N10K)


def test_long_vectors_take_the_same_path_without_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    message = np.arange(3 * N)
    key = masking.sample_key(N10K, _stream(6))
    cached = masking.encrypt(message, key, RHO, N10K, _stream(7))
    monkeypatch.setattr(masking, "CACHED_BLOCKS_MAX", 0)
    monkeypatch.setattr(masking, "BLOCKS_AT_ONCE", 2)
    assert masking.encrypt(message, key, RHO, N10K, _stream(7)) == cached


def test_keys_and_errors_have_the_law_of_the_table() -> None:
    """Chi-square over 2 million draws, fixed seed; variance within 0.5%; nothing beyond 10σ."""
    table = np.array(naive.gaussian_table(), dtype=np.float64) / 2.0**64
    drawn = masking._sampler(16, 160).draw(2_000_000, _stream(8))
    assert np.abs(drawn).max() <= 160
    expected = np.diff(np.concatenate([[0.0], table, [1.0]])) * drawn.size
    seen = np.bincount(drawn + 160, minlength=321)
    likely = expected >= 20
    chi = float((((seen - expected) ** 2)[likely] / expected[likely]).sum())
    degrees = int(likely.sum()) - 1
    assert abs(chi - degrees) < 5 * (2 * degrees) ** 0.5
    assert abs(drawn.std() / 16 - 1) < 0.005


def test_two_ciphertexts_of_one_message_share_nothing() -> None:
    """Neither differences nor halves of ciphertexts of zeros are distinguishable from uniform bytes by their byte counts."""
    entropy = _stream(9)
    zeros = np.zeros(8 * N, np.int64)
    packed = [
        np.frombuffer(masking.encrypt(zeros, masking.sample_key(N10K, entropy), RHO, N10K, entropy), np.uint8)
        for _ in range(2)
    ]
    for data in (packed[0], packed[0] ^ packed[1]):
        counts = np.bincount(data, minlength=256)
        chi = float(((counts - data.size / 256) ** 2 / (data.size / 256)).sum())
        assert abs(chi - 255) < 6 * (2 * 255) ** 0.5
