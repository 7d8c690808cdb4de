"""How every cost grows with the number of clients and the length of the vector; one process plays everybody, without a broker.

Each client draws a key, encrypts, shares, seals and signs; each of five members verifies, unseals and adds; the reducer adds and
opens. The opened sum is compared with the integers that went in.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aicache.privacy import masking, shamir
from aicache.privacy.statements import digest
from aicache.schemas.signing import verify_record
from secure_aggregation_maths import EPOCH_KEYS, MASK, MEMBERS, MESSAGE_MAX, RHO, THRESHOLD, best_ms, sender

LENGTH = 2048
CLIENTS = (1_000, 3_000, 10_000)
LENGTHS = (2_048, 10_000, 100_000, 1_000_000)
STEPS = ("client", "member", "add", "open")


@dataclass
class Costs:
    """Seconds in all of each step, and whether the sum is exact."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STEPS, 0.0))
    exact: bool = False

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


def play(clients: int, length: int) -> Costs:
    costs = Costs()
    rng = np.random.default_rng(clients)
    total = np.zeros(masking.packed_size(length, MASK) // 6, np.uint64)
    expected = np.zeros(length, np.int64)
    sums = [shamir.ShareSum() for _ in range(MEMBERS)]
    for _ in range(clients):
        message = rng.integers(-MESSAGE_MAX, MESSAGE_MAX + 1, length)
        send = sender(public_elements_anew=False)
        with costs.step("client"):
            ciphertext, envelope = send(message)
        with costs.step("member"):
            for number, (epoch, share_sum) in enumerate(zip(EPOCH_KEYS, sums, strict=True), 1):
                verify_record(envelope, send.public_key)  # type: ignore[attr-defined]
                plain = epoch.open(envelope.sealed[number - 1], digest("share", RHO, number, envelope.sender))
                share_sum.add(shamir.expand(plain[:-32]))
        with costs.step("add"):
            masking.add_packed(total, ciphertext)
        expected += message
    with costs.step("open"):
        key_sum = shamir.combine({number: sums[number - 1].residues() for number in (2, 4, 5)}, THRESHOLD)
        opened = masking.open_sum(total, key_sum, clients, length, RHO, MASK)
    costs.exact = bool((opened == expected).all())
    return costs


def by_length(length: int) -> dict[str, float]:
    """Milliseconds of one client's sending, of adding one ciphertext and of opening."""
    message = np.full(length, MESSAGE_MAX)
    send = sender()
    client_ms, (ciphertext, _) = best_ms(lambda: send(message), 3)
    total = np.zeros(len(ciphertext) // 6, np.uint64)
    add_ms, _ = best_ms(lambda: masking.add_packed(total, ciphertext), 3)
    key = masking.sample_key(MASK, os.urandom)
    total[:] = 0
    masking.add_packed(total, masking.encrypt(message, key, RHO, MASK, os.urandom))
    open_ms, opened = best_ms(lambda: masking.open_sum(total, key, 1, length, RHO, MASK), 3)
    assert (opened == message).all()
    return {"client": client_ms, "add": add_ms, "open": open_ms}


def run() -> dict[str, float | bool]:
    """Figures named growth_STEP_ms_nN (a client, or a client and member) and growth_STEP_ms_dD."""
    found: dict[str, float | bool] = {}
    exact = True
    for clients in CLIENTS:
        costs = play(clients, LENGTH)
        exact = exact and costs.exact
        for step, seconds in costs.seconds.items():
            units = {"open": 1, "member": clients * MEMBERS}.get(step, clients)
            found[f"growth_{step}_ms_n{clients}"] = seconds * 1e3 / units
    for length in LENGTHS:
        found.update({f"growth_{step}_ms_d{length}": ms for step, ms in by_length(length).items()})
    found["growth_exact"] = exact
    return found


def plot(figures: dict[str, float | bool], path: Path) -> None:
    """Both families of curves, on logarithmic axes."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, letter, points, label in (
        (axes[0], "n", CLIENTS, "clients (d = 2,048)"),
        (axes[1], "d", LENGTHS, "coordinates"),
    ):
        for number, step in enumerate(STEPS):
            values = [figures.get(f"growth_{step}_ms_{letter}{point}") for point in points]
            if None not in values:
                axis.loglog(
                    points,
                    values,
                    color=f"C{number}",
                    marker="o",
                    label={"open": "open (once)"}.get(step, f"{step} (each)"),
                )
        axis.set_xlabel(label)
        axis.grid(alpha=0.3, which="both")
        axis.legend()
    axes[0].set_ylabel("milliseconds")
    figure.tight_layout()
    figure.savefig(path)
