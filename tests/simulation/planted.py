"""Known bugs, planted one at a time: the simulation is worth something only if its oracles find each of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from aicache.streams.committee.voting import Voter
from aicache.streams.reducer.logic import Reducer, RoundSums
from simulation.log import Store
from simulation.rounds import Rounds
from simulation.workers import Partition, Worker


@contextmanager
def early_acknowledgement() -> Iterator[None]:
    """Offsets are saved before the batch is safe: a crash in between loses it."""
    work = Partition.work

    def early(self: Partition, worker: Worker) -> None:
        position = worker.offsets.get(self.topic, 0)
        self.store.offsets = {self.topic: min(position + 1, len(self.messages))}
        work(self, worker)

    with patch.object(Partition, "work", early):
        yield


@contextmanager
def state_without_its_offset() -> Iterator[None]:
    """State and offset are not written together: after a crash the batch is counted again."""

    def split(self: Partition, worker: Worker, step: Any) -> None:
        before = dict(self.store.offsets)
        self.store.commit(worker.epoch, step, worker.offsets)
        if self.random.random() < 0.3 and before:
            self.store.offsets = before

    with patch.object(Partition, "commit", split):
        yield


@contextmanager
def nobody_is_fenced() -> Iterator[None]:
    """A worker that was frozen past its session may still write: a zombie."""
    commit = Store.commit
    with patch.object(Store, "commit", lambda self, _, step, offsets: commit(self, self.epoch, step, offsets)):
        yield


@contextmanager
def redelivered_inputs_count_again() -> Iterator[None]:
    """What the state has seen is not dropped."""
    with patch.object(Partition, "fresh", lambda _self, _worker, batch: list(batch)):
        yield


@contextmanager
def opened_without_a_quorum() -> Iterator[None]:
    """One vote suffices, for members and the reducer."""
    settle = Voter.settle

    def alone(self: Voter, current: Any) -> None:
        settle(self, replace(current, proposal=replace(current.proposal, quorum=1)))

    def chosen(self: RoundSums) -> bytes:
        return next((digest for digest in self.votes.values() if digest in self.manifests), b"")

    with patch.object(RoundSums, "chosen", property(chosen)), patch.object(Voter, "settle", alone):
        yield


@contextmanager
def unlisted_ciphertexts_stay_in_the_sum() -> Iterator[None]:
    """What was added early and is not in the manifest is not taken out again."""
    apply = Reducer._apply

    def kept(self: Reducer, current: Any, total: Any, place: Any, sender: bytes, digest: bytes | None) -> bool:
        return True if digest is None else apply(self, current, total, place, sender, digest)

    with patch.object(Reducer, "_apply", kept):
        yield


@contextmanager
def outputs_outside_the_transaction() -> Iterator[None]:
    """The coordinator publishes before its state is safe: after a crash it lists another manifest."""
    write = Rounds.write

    def early(self: Rounds, step: Any) -> None:
        self.publish(step.outputs)
        outputs, step.outputs = step.outputs, []
        write(self, step)
        step.outputs = outputs

    with patch.object(Rounds, "write", early):
        yield


PLANTED_IN_WORKERS: dict[str, Callable[[], Any]] = {
    "early acknowledgement": early_acknowledgement,
    "state without its offset": state_without_its_offset,
    "nobody is fenced": nobody_is_fenced,
    "redelivered inputs count again": redelivered_inputs_count_again,
}
PLANTED_IN_ROUNDS: dict[str, Callable[[], Any]] = {
    "opened without a quorum": opened_without_a_quorum,
    "unlisted ciphertexts stay in the sum": unlisted_ciphertexts_stay_in_the_sum,
    "outputs outside the transaction": outputs_outside_the_transaction,
}
