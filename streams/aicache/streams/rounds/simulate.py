"""Try a task on made-up clients before anybody sees it: one round through the real quantiser, mask, noise and opening.

What comes out is what the task costs and how accurate it is, measured and as planned, so a plan that drowns in its noise is seen
in seconds. A clip that adapts is followed over some rounds first, and the round is then played at what it has come to. No Kafka, no
signatures: those change neither. Pure but for a stopwatch, which is an argument.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aicache.privacy import accounting, masking, parameters, shamir
from aicache.privacy.contribution import client_message, member_message
from aicache.privacy.entropy import ByteSource
from aicache.privacy.errors import LocalError
from aicache.privacy.statements import DIGEST_BYTES
from aicache.schemas.clipping import masked_length, rule_of, within
from aicache.schemas.records import Task
from aicache.streams.rounds.task import guarantee_of, planned_sigma, present_sigma, validate

CLIENTS_MAX = 60_000
ZIPF = 1.1
"""How unevenly made-up clients spread over labels: roughly as tags, packages and words do."""
ROUNDS_FOLLOWED = 20
"""Over how many rounds a clip that adapts is followed where the task has no end."""
NORMS_MEDIAN, NORMS_SPREAD = 3.0, 0.7
"""Norms of made-up clients where the clip adapts, in units of the first clip: log-normal, so that there is something to find."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What came out.

    Attributes:
        task, clients: what was tried.
        exact: whether the opened sum is, bit for bit, the clear sum of what the clients quantised and all noise.
        epsilon_round, epsilon_all, delta: of one round, and of all of the task's rounds together.
        error_planned, error_measured: of one coordinate of the mean, root mean square, in the task's own unit.
        signal: root mean square of the true mean's coordinates, in the same unit.
        client_ms: what one client spends on a round.
        ciphertext_bytes: what one client sends, its envelope apart.
        clips: where the clip adapts: the bound of the vector in each round, first to last.
        norm_wanted: where the clip adapts: the quantile of the clients' norms that it looks for.
    """

    task: str
    clients: int
    exact: bool
    epsilon_round: float
    epsilon_all: float
    delta: float
    error_planned: float
    error_measured: float
    signal: float
    client_ms: float
    ciphertext_bytes: int
    clips: Sequence[float] = ()
    norm_wanted: float = 0.0

    def lines(self) -> list[str]:
        """For people."""
        ratio = self.signal / self.error_measured if self.error_measured else math.inf
        verdict = "well above" if ratio > 5 else "above" if ratio > 1.5 else "not above"
        path = " → ".join(f"{clip:.3g}" for clip in self.clips)
        adaptive = [f"the clip over {len(self.clips)} rounds: {path} (the quantile is {self.norm_wanted:.3g})"]
        return [
            f"{self.task}: {self.clients} made-up clients, one round, opened {'exactly' if self.exact else 'WRONGLY'}",
            f"privacy: epsilon {self.epsilon_round:.3f} a round, {self.epsilon_all:.3f} for all, at delta {self.delta:g}",
            f"accuracy of a coordinate of the mean: ± {self.error_measured:.3g} (planned {self.error_planned:.3g})",
            f"the made-up signal is {self.signal:.3g}: {verdict} the noise",
            f"each client spends {self.client_ms:.1f} ms and sends {self.ciphertext_bytes / 1e3:.0f} kB",
            *(adaptive if self.clips else []),
        ]


def made_up(task: Task, clients: int, entropy: ByteSource) -> Iterator[NDArray[np.float64]]:
    """Vectors of made-up clients: counts where it counts, directions where it learns; within the clip, unless the clip adapts."""
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(entropy(16), "big")))
    weights = np.arange(1, task.length + 1, dtype=np.float64) ** -ZIPF
    weights /= weights.sum()
    centre = generator.normal(size=task.length)
    for _ in range(clients):
        if task.kind in ("histogram", "count-sketch", "sum"):
            vector = generator.multinomial(8, weights).astype(np.float64)
        elif task.kind == "evaluation":
            vector = np.array([float(generator.random() < 0.4), 1.0])
        else:
            vector = centre + generator.normal(size=task.length)
        norm = float(np.sqrt(np.square(vector).sum()))
        wanted = task.clip
        if task.adaptive is not None:
            wanted *= NORMS_MEDIAN * math.exp(NORMS_SPREAD * generator.normal())
        yield vector * (wanted / norm)


def simulate(
    task: Task,
    *,
    clients: int,
    entropy: ByteSource,
    seconds: Callable[[], float],
    vectors: Iterator[NDArray[np.float64]] | None = None,
    rounds: int = 0,
) -> Simulation:
    """One round.

    Args:
        task: validated here.
        clients: how many take part, n_min … n_max.
        entropy: for keys, noise and made-up vectors.
        seconds: a stopwatch, such as `time.perf_counter`.
        vectors: of the clients, float64; None: made up.
        rounds: over how many a clip that adapts is followed; 0: the task's, or `ROUNDS_FOLLOWED`.

    Raises:
        LocalError: the task cannot work, or the crowd does not fit it.
    """
    validate(task)
    if not task.n_min <= clients <= min(task.n_max, CLIENTS_MAX):
        raise LocalError("the crowd does not fit the task", got=clients, needed=(task.n_min, task.n_max))
    mask = parameters.by_name(task.parameters)
    seen = vectors or made_up(task, clients, entropy)
    path, wanted = [], 0.0
    if task.adaptive is not None:
        crowd = list(seen)
        norms = [float(np.sqrt(np.square(vector).sum())) for vector in crowd]
        wanted = float(np.quantile(norms, task.adaptive.quantile))
        path = clip_path(task, norms, rounds or task.rounds or ROUNDS_FOLLOWED, entropy)
        task, seen = replace(task, clip=path[-1]), iter(crowd)
    guarantee = guarantee_of(task)
    round_, truth, client_ms = _played(task, mask, seen, clients, entropy, seconds)
    opened = round_.open()[: task.length]
    unit = task.scale * clients
    rounding = 0.25 * clients  # the most that rounding at random adds to the variance of a coordinate
    planned = math.sqrt(present_sigma(task, clients) ** 2 + rounding) / unit
    measured = float(np.sqrt(np.mean(np.square(opened / unit - truth / clients))))
    return Simulation(
        task=task.task,
        clients=clients,
        exact=bool(np.array_equal(opened, round_.clear[: task.length])),
        epsilon_round=guarantee.epsilon,
        epsilon_all=accounting.epsilon_from_rdp(max(1, task.rounds) * np.asarray(guarantee.rdp), task.delta),
        delta=task.delta,
        error_planned=planned,
        error_measured=measured,
        signal=float(np.sqrt(np.mean(np.square(truth / clients)))),
        client_ms=client_ms,
        ciphertext_bytes=masking.packed_size(masked_length(task), mask),
        clips=[_vector_clip(replace(task, clip=clip)) for clip in path],
        norm_wanted=wanted,
    )


def _vector_clip(task: Task) -> float:
    how = rule_of(task).adaptive
    return task.clip if how is None else how.vector_clip(task.clip)


def _played(
    task: Task,
    mask: parameters.MaskParameters,
    vectors: Iterator[NDArray[np.float64]],
    clients: int,
    entropy: ByteSource,
    seconds: Callable[[], float],
) -> tuple["_Round", NDArray[np.float64], float]:
    """All senders of one round: the round, the true sum of the vectors, and a client's milliseconds."""
    of_clients, of_members = _shares(task)
    rule = rule_of(task)
    round_ = _Round(task, mask, entropy(DIGEST_BYTES), entropy)
    truth = np.zeros(task.length)
    began = seconds()
    for vector in vectors:
        truth += vector
        message = client_message(
            rule.apply(vector), clip=task.clip, scale=task.scale, sigma_share=of_clients, entropy=entropy
        )
        round_.add(message)
    client_ms = (seconds() - began) * 1e3 / clients
    for _ in range(task.members):
        round_.add(member_message(masked_length(task), sigma_share=of_members, entropy=entropy))
    return round_, truth, client_ms


def _shares(task: Task) -> tuple[float | None, float | None]:
    """σ of what each client adds, and of what each member adds."""
    share = accounting.share_sigma(task.noise, planned_sigma(task), task.members, task.threshold, task.honest)
    return (share, None) if task.noise == accounting.CLIENTS else (None, share)


def clip_path(task: Task, norms: Sequence[float], rounds: int, entropy: ByteSource) -> list[float]:
    """The clip of each round, from the first on, where clients have these norms: bits, rounding and noise are the real ones.

    Args:
        task: its clip adapts.
        norms: of the clients' vectors, the same in every round.
        rounds: how many.
        entropy: for rounding and noise.
    """
    assert task.adaptive is not None, "the caller has looked"
    clips = [task.clip]
    for _ in range(rounds - 1):
        here = replace(task, clip=clips[-1])
        rule = rule_of(here)
        assert rule.adaptive is not None
        of_clients, of_members = _shares(here)
        bits = 0
        for norm in norms:  # which way a vector points does not matter here: one coordinate stands for all
            vector = rule.apply(np.array([norm]))
            message = client_message(vector, clip=here.clip, scale=here.scale, sigma_share=of_clients, entropy=entropy)
            bits += int(message[-1])
        bits += sum(int(member_message(1, sigma_share=of_members, entropy=entropy)[0]) for _ in range(task.members))
        own = rule.adaptive.vector_clip(here.clip)
        followed = here.clip * (rule.adaptive.next_clip(own, bits / here.scale, len(norms)) / own)
        clips.append(within(followed, task.adaptive))
    return clips


class _Round:
    """Senders, committee and reducer of a round in one place, with the clear sum beside."""

    def __init__(self, task: Task, mask: parameters.MaskParameters, rho: bytes, entropy: ByteSource) -> None:
        self._task, self._mask, self._rho, self._entropy = task, mask, rho, entropy
        self._length = masked_length(task)
        self._total = np.zeros(masking.block_count(self._length, mask) * mask.ring_degree, np.uint64)
        self._shares = [shamir.ShareSum(mask.ring_degree) for _ in range(task.members)]
        self._senders = 0
        self.clear = np.zeros(self._length, np.int64)

    def add(self, message: NDArray[np.int64]) -> None:
        self.clear += message
        key = masking.sample_key(self._mask, self._entropy)
        masking.add_packed(self._total, masking.encrypt(message, key, self._rho, self._mask, self._entropy))
        shares = shamir.split(key, self._task.threshold, self._task.members, self._entropy)
        for total, share in zip(self._shares, shares, strict=True):
            total.add(shamir.expand(share, self._mask.ring_degree))
        self._senders += 1

    def open(self) -> NDArray[np.int64]:
        """With the last t members: any t would do."""
        first = self._task.members - self._task.threshold
        residues = {first + number + 1: total.residues() for number, total in enumerate(self._shares[first:])}
        key_sum = shamir.combine(residues, self._task.threshold)
        return masking.open_sum(self._total, key_sum, self._senders, self._length, self._rho, self._mask)
