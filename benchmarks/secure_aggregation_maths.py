"""The costs of masking, adding, opening, and of a member, by the functions and parameters that run in production.

Times are the best of some repetitions on one core; what a client does once a round (computing the public elements) is counted,
not cached. Every sum that is opened on the way is compared with the integers that went in.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aicache.privacy import masking, quantize, shamir
from aicache.privacy.noise import discrete_gaussian
from aicache.privacy.parameters import N10K, MaskParameters
from aicache.privacy.sealing import EpochKey, seal
from aicache.privacy.statements import NO_EPOCH_KEY, ciphertext_digest, client_id, digest
from aicache.schemas.codec import Codec
from aicache.schemas.records import Envelope, Place
from aicache.schemas.signing import signed, verify_record

MASK = N10K
MEMBERS, THRESHOLD = 5, 3
RHO = digest("benchmark")
MESSAGE_MAX = 1000
GONE_PERCENT = 10
REDUCER_CLIENTS, REDUCER_LENGTH = 200, 1_000_000

T = TypeVar("T")


def best_ms(function: Callable[[], T], repeats: int = 9) -> tuple[float, T]:
    """The shortest of some runs, and what the last one gave."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3, result


def sender(public_elements_anew: bool = True) -> Callable[[np.ndarray], tuple[bytes, Envelope]]:
    """What a client does after its noise: encrypt, share, seal, digest, sign, pack."""
    identity = Ed25519PrivateKey.generate()
    name = client_id(identity.public_key().public_bytes_raw())

    def send(message: np.ndarray) -> tuple[bytes, Envelope]:
        if public_elements_anew:
            masking._cached_split.cache_clear()
        key = masking.sample_key(MASK, os.urandom)
        ciphertext = masking.encrypt(message, key, RHO, MASK, os.urandom)
        bound = ciphertext_digest(RHO, name, ciphertext)
        shares = shamir.split(key, THRESHOLD, MEMBERS, os.urandom)
        sealed = [
            seal(epoch.mlkem_public, epoch.x25519_public, digest("share", RHO, number, name), share + bound)
            for number, (epoch, share) in enumerate(zip(EPOCH_KEYS, shares, strict=True), 1)
        ]
        envelope = replace(BLANK, sender=name, digest=bound, sealed=sealed)
        return ciphertext, signed(envelope, identity)

    send.public_key = identity.public_key().public_bytes_raw()  # type: ignore[attr-defined]
    return send


EPOCH_KEYS = [EpochKey.generate() for _ in range(MEMBERS)]
BLANK = Envelope(
    "benchmark", "task", "round-1", RHO, bytes(32), 0, NO_EPOCH_KEY, -1, 7, bytes(32), Place(0, [1]), [], b""
)


def client(length: int, repeats: int) -> tuple[float, float, bytes, Envelope]:
    """Milliseconds of a client's first and later sendings in a round, and what it sent."""
    message = np.random.default_rng(1).integers(-MESSAGE_MAX, MESSAGE_MAX + 1, length)
    first, later = sender(), sender(public_elements_anew=False)
    first_ms, (ciphertext, envelope) = best_ms(lambda: first(message), repeats)
    later_ms, _ = best_ms(lambda: later(message), repeats)
    return first_ms, later_ms, ciphertext, envelope


def clients() -> dict[str, float]:
    found = {}
    found["client_ms_1e5"], found["client_again_ms_1e5"], ciphertext, envelope = client(100_000, 9)
    found["bytes_per_coordinate"] = len(ciphertext) / 100_000
    found["bytes_per_member"] = len(Codec().encode(envelope)) / MEMBERS
    found["client_ms_1e6"], found["client_again_ms_1e6"], _, _ = client(1_000_000, 5)
    return found


def client_full() -> dict[str, float]:
    """Clip, scale, round, draw the noise and add it, then everything above."""
    vector = np.random.default_rng(2).normal(size=100_000)
    send = sender()

    def full() -> None:
        message = quantize.quantize(vector, clip=1.0, scale=20_000.0, entropy=os.urandom)
        message += discrete_gaussian(40.0, message.size, os.urandom)
        send(message)

    return {"client_full_ms_1e5": best_ms(full)[0]}


def server_add() -> dict[str, float]:
    found = {}
    for label, length in (("1e5", 100_000), ("1e6", 1_000_000)):
        packed = os.urandom(masking.packed_size(length, MASK))
        total = np.zeros(len(packed) // 6, np.uint64)
        found[f"server_add_ms_{label}"] = best_ms(lambda: masking.add_packed(total, packed), 20)[0]  # noqa: B023
    return found


def opening(clients: int, length: int = 100_000) -> tuple[float, bool]:
    """Milliseconds to open the sum of the clients that stayed, from the members' summed shares, and whether it is exact."""
    stayed = clients - clients * GONE_PERCENT // 100
    rng = np.random.default_rng(3)
    total = np.zeros(masking.packed_size(length, MASK) // 6, np.uint64)
    expected = np.zeros(length, np.int64)
    sums = [shamir.ShareSum() for _ in range(MEMBERS)]
    for _ in range(stayed):
        message = rng.integers(-MESSAGE_MAX, MESSAGE_MAX + 1, length)
        key = masking.sample_key(MASK, os.urandom)
        masking.add_packed(total, masking.encrypt(message, key, RHO, MASK, os.urandom))
        for share_sum, share in zip(sums, shamir.split(key, THRESHOLD, MEMBERS, os.urandom), strict=True):
            share_sum.add(shamir.expand(share))
        expected += message
    openings = {number: sums[number - 1].residues() for number in (1, 3, 5)}

    def opened() -> np.ndarray:
        return masking.open_sum(total, shamir.combine(openings, THRESHOLD), stayed, length, RHO, MASK)

    ms, result = best_ms(opened)
    return ms, bool((result == expected).all())


def member() -> dict[str, float]:
    """What a member does for an envelope: verify, unseal, check the digest, expand, add."""
    send = sender(public_elements_anew=False)
    message = np.zeros(2048, np.int64)
    envelopes = [send(message)[1] for _ in range(50)]
    public_key = send.public_key  # type: ignore[attr-defined]
    number = MEMBERS  # its share is whole; the first members' are seeds, and cheaper

    def work() -> None:
        share_sum = shamir.ShareSum()
        for envelope in envelopes:
            verify_record(envelope, public_key)
            plain = EPOCH_KEYS[number - 1].open(
                envelope.sealed[number - 1], digest("share", RHO, number, envelope.sender)
            )
            assert plain[-32:] == envelope.digest
            share_sum.add(shamir.expand(plain[:-32]))

    return {"member_ms_per_client": best_ms(work, 5)[0] / len(envelopes)}


def reducer() -> dict[str, float | bool]:
    """Peak memory of a process that adds ciphertexts of 10^6 coordinates as they come and opens the sum."""
    size = masking.packed_size(REDUCER_LENGTH, MASK)
    command = [sys.executable, str(Path(__file__)), "reduce"]
    rng = np.random.default_rng(4)
    key_sum, expected = np.zeros(MASK.ring_degree, np.int64), np.zeros(REDUCER_LENGTH, np.int64)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(REDUCER_CLIENTS):
            message = rng.integers(-MESSAGE_MAX, MESSAGE_MAX + 1, REDUCER_LENGTH)
            key = masking.sample_key(MASK, os.urandom)
            packed = masking.encrypt(message, key, RHO, MASK, os.urandom)
            assert len(packed) == size
            process.stdin.write(packed)
            key_sum += key
            expected += message
        process.stdin.write(key_sum.tobytes())
        process.stdin.close()
        peak_kb = int(process.stdout.readline())
        result = np.frombuffer(process.stdout.read(), np.int64)
    return {"reducer_peak_mb_1e6": peak_kb / 1024, "exact": bool((result == expected).all())}


def _reduce(mask: MaskParameters = MASK) -> None:
    size = masking.packed_size(REDUCER_LENGTH, mask)
    total = np.zeros(size // 6, np.uint64)
    for _ in range(REDUCER_CLIENTS):
        masking.add_packed(total, sys.stdin.buffer.read(size))
    key_sum = np.frombuffer(sys.stdin.buffer.read(), np.int64)
    opened = masking.open_sum(total, key_sum, REDUCER_CLIENTS, REDUCER_LENGTH, RHO, mask)
    status = Path("/proc/self/status").read_text()
    peak_kb = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    sys.stdout.write(peak_kb + "\n")
    sys.stdout.flush()
    sys.stdout.buffer.write(opened.tobytes())


def run() -> dict[str, float | bool]:
    """All of it, under the names of the bars."""
    found: dict[str, float | bool] = {**clients(), **client_full(), **server_add(), **member()}
    found["open_ms_1e5"], exact = opening(1_000)
    found["open_ms_1e5_n10000"], exact_many = opening(10_000)
    memory = reducer()
    found["reducer_peak_mb_1e6"] = memory["reducer_peak_mb_1e6"]
    found["exact"] = exact and exact_many and bool(memory["exact"])
    return found


if __name__ == "__main__":
    assert sys.argv[1:] == ["reduce"], "run secure_aggregation.py"
    _reduce()
