"""Times Flower's own SecAgg+ functions; run by `secure_aggregation.py` with the interpreter of Flower's environment.

100 neighbours, threshold 50, weights of the same length. A client's work is measured whole, setup and quantization excluded.
The server's unmasking takes minutes, so each kind of step is measured a few times and multiplied by how often the workflow does
it: for every client that stayed one reconstruction and one mask; for every one that is gone one reconstruction, and a key
agreement and a mask for each of its neighbours that stayed. Prints one line of JSON.

Usage: flower_secaggplus.py LENGTH… (of the client's vectors)
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module

import numpy as np
from flwr.common import ConfigRecord, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat

mod = import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")  # the package has a function of that name

NEIGHBOURS, THRESHOLD, CLIENTS, GONE = 100, 50, 1000, 100
MOD_RANGE, TARGET_RANGE, CLIPPING_RANGE = 1 << 32, 1 << 22, 8.0
SETUP = {
    Key.SAMPLE_NUMBER: CLIENTS,
    Key.SHARE_NUMBER: NEIGHBOURS,
    Key.THRESHOLD: THRESHOLD,
    Key.CLIPPING_RANGE: CLIPPING_RANGE,
    Key.TARGET_RANGE: TARGET_RANGE,
    Key.MOD_RANGE: MOD_RANGE,
    Key.MAX_WEIGHT: 1000.0,
}


def best_ms(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def client(length: int, repeats: int) -> float:
    """Milliseconds of one client: share keys, then mask (quantization taken off)."""
    states = [mod.SecAggPlusState(nid=nid) for nid in range(NEIGHBOURS)]
    for state in states:
        mod._setup(state, ConfigRecord(dict(SETUP)))
    keys = ConfigRecord({str(state.nid): [state.pk1, state.pk2] for state in states})
    ours = states[0]
    share_ms = best_ms(lambda: mod._share_keys(ours, keys), 2)
    share = ours.rd_seed_share_dict[0]
    ciphertexts = [
        encrypt(ours.ss2_dict[nid], share_keys_plaintext_concat(nid, 0, share, share)) for nid in range(1, NEIGHBOURS)
    ]
    vectors = ConfigRecord({Key.CIPHERTEXT_LIST: ciphertexts, Key.SOURCE_LIST: list(range(1, NEIGHBOURS))})
    update = np.random.default_rng(1).normal(0, 0.1, length)
    parameters = ndarrays_to_parameters([update])
    mask_ms = best_ms(lambda: mod._collect_masked_vectors(ours, vectors, 10, parameters), repeats)
    quantize_ms = best_ms(lambda: quantize([update], CLIPPING_RANGE, TARGET_RANGE), repeats)
    return share_ms + mask_ms - quantize_ms


def unmask(length: int) -> float:
    """Milliseconds for the server to unmask the sum of 1,000 clients of which 100 are gone, scaled from parts."""
    state = mod.SecAggPlusState(nid=1)
    mod._setup(state, ConfigRecord(dict(SETUP)))
    other = mod.SecAggPlusState(nid=2)
    mod._setup(other, ConfigRecord(dict(SETUP)))
    shares = create_shares(os.urandom(32), THRESHOLD, NEIGHBOURS)[:THRESHOLD]
    key_shares = create_shares(state.sk1, THRESHOLD, NEIGHBOURS)[:THRESHOLD]
    shapes = [(1,), (length,)]
    vector = pseudo_rand_gen(os.urandom(32), MOD_RANGE, shapes)

    def mask() -> None:
        parameters_subtraction(vector, pseudo_rand_gen(os.urandom(32), MOD_RANGE, shapes))

    def pair() -> None:
        shared = generate_shared_key(mod.bytes_to_private_key(state.sk1), mod.bytes_to_public_key(other.pk1))
        parameters_addition(vector, pseudo_rand_gen(shared, MOD_RANGE, shapes))

    stayed = CLIENTS - GONE
    pairs = GONE * (NEIGHBOURS - 1) * stayed // CLIENTS
    combine_ms = best_ms(lambda: combine_shares(shares), 2)
    combine_key_ms = best_ms(lambda: combine_shares(key_shares), 2)
    mask_ms, pair_ms = best_ms(mask, 3), best_ms(pair, 3)
    last_ms = best_ms(lambda: parameters_mod(vector, MOD_RANGE), 3)
    return stayed * (combine_ms + mask_ms) + GONE * combine_key_ms + pairs * pair_ms + last_ms


def main() -> None:
    lengths = [int(argument) for argument in sys.argv[1:]]
    found = {f"flower_client_ms_{length:.0e}".replace("e+0", "e"): client(length, 2) for length in lengths}
    found["flower_unmask_ms_1e5"] = unmask(100_000)
    print(json.dumps({key: round(value, 2) for key, value in found.items()}))


if __name__ == "__main__":
    main()
