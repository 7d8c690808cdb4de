"""Known bugs, planted one at a time: the simulation is worth something only if its oracles find each of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any
from unittest.mock import patch

from aicache.streams.committee.voting import Voter
from aicache.streams.reducer.logic import Reducer
from aicache.streams.reducer.sums import RoundSums
from aicache.streams.runtime.contract import Step
from aicache.streams.runtime.tasks import Prepared, Raw, Task
from simulation.log import Log, Producer
from simulation.rounds import Rounds
from simulation.store import PlayedProducer, SimulatedStore
from simulation.workers import Plane, Worker


@contextmanager
def early_acknowledgement() -> Iterator[None]:
    """Offsets are saved before the batch is safe: a crash in between loses it."""
    write = Task.write

    def early(self: Task[Any], prepared: Prepared) -> None:
        self._store.write(Step(), prepared.offsets)
        self._store.commit()
        write(self, prepared)

    with patch.object(Task, "write", early):
        yield


@contextmanager
def state_without_its_offset() -> Iterator[None]:
    """State and offset are not written together: after a crash in between the batch is counted again."""

    def split(self: Task[Any], prepared: Prepared) -> None:
        self._store.write(prepared.step, self._committed, prepared.bad)
        self._store.commit()
        self._store.write(Step(), prepared.offsets)

    with patch.object(Task, "write", split):
        yield


@contextmanager
def nobody_is_fenced() -> Iterator[None]:
    """Every process has a transactional id of its own, so one that was frozen past its session may still write: a zombie."""
    numbers = count()

    def own(self: PlayedProducer, log: Log, name: str) -> None:
        self.log, self.writer, self.fenced = log, log.writer(f"{name}-{next(numbers)}"), False

    with patch.object(PlayedProducer, "__init__", own):
        yield


@contextmanager
def redelivered_inputs_count_again() -> Iterator[None]:
    """What the state has seen is not dropped."""

    def fresh(self: Task[Any], inputs: Sequence[Raw]) -> Sequence[Raw]:
        for raw in inputs:
            self.offsets[raw.topic] = max(raw.offset + 1, self.offsets.get(raw.topic, 0))
        return inputs

    with patch.object(Task, "_fresh", fresh):
        yield


@contextmanager
def gaps_are_skipped() -> Iterator[None]:
    """Reading goes on behind what was fetched, not at the state's place, and nobody looks at the offsets."""
    opened = Plane.open
    fetched: dict[tuple[int, int], int] = {}

    def ahead(self: Plane, worker: Worker, partition: int) -> None:
        opened(self, worker, partition)
        worker.positions[partition] = max(worker.positions[partition], fetched.get((id(self), partition), 0))

    def fresh(self: Task[Any], inputs: Sequence[Raw]) -> Sequence[Raw]:
        found = [raw for raw in inputs if raw.offset >= self.offsets.get(raw.topic, 0)]
        self.offsets.update((raw.topic, raw.offset + 1) for raw in found)
        return found

    fetch = Plane.fetch

    def remember(self: Plane, worker: Worker) -> None:
        fetch(self, worker)
        for partition, position in worker.positions.items():
            fetched[id(self), partition] = position

    with (
        patch.object(Plane, "open", ahead),
        patch.object(Plane, "fetch", remember),
        patch.object(Task, "_fresh", fresh),
    ):
        yield


@contextmanager
def a_store_is_opened_for_a_partition_not_owned() -> Iterator[None]:
    """Batches of the assignment before are processed too: opening their store fences the owner."""

    def deliver(self: Plane, worker: Worker, partition: int, raws: list[Raw]) -> None:
        if partition not in worker.tasks:
            self.open(worker, partition)
        self.commit(worker, partition, raws)

    with patch.object(Plane, "deliver", deliver):
        yield


@contextmanager
def the_state_is_read_uncommitted() -> Iterator[None]:
    """What an aborted transaction has left is loaded."""

    def changelog(self: SimulatedStore) -> Iterator[tuple[bytes, bytes | None]]:
        for entry in self._log.read(self._topic, self.partition, committed=False):
            yield entry.key, entry.value

    with patch.object(SimulatedStore, "_changelog", changelog):
        yield


@contextmanager
def a_client_sends_again_without_its_sequence_number() -> Iterator[None]:
    """After a lost acknowledgement the record is another one to the broker."""
    send = Producer.send

    def anew(self: Producer, topic: str, partition: int, key: bytes, value: bytes | None, **_: Any) -> int:
        return send(self, topic, partition, key, value)

    with patch.object(Producer, "send", anew):
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


@contextmanager
def a_restart_forgets_the_clip() -> Iterator[None]:
    """What the rounds have learned of the norms is not written down: after a restart the clip is the task's again."""
    kept = ("rounds", "finished", "failures", "next_ms", "open_round")
    with patch("aicache.streams.rounds.state.PROGRESS", kept):
        yield


PLANTED_IN_WORKERS: dict[str, Callable[[], Any]] = {
    "early acknowledgement": early_acknowledgement,
    "state without its offset": state_without_its_offset,
    "nobody is fenced": nobody_is_fenced,
    "redelivered inputs count again": redelivered_inputs_count_again,
    "gaps are skipped": gaps_are_skipped,
    "a store is opened for a partition not owned": a_store_is_opened_for_a_partition_not_owned,
    "the state is read uncommitted": the_state_is_read_uncommitted,
    "a client sends again without its sequence number": a_client_sends_again_without_its_sequence_number,
}
PLANTED_IN_ROUNDS: dict[str, Callable[[], Any]] = {
    "opened without a quorum": opened_without_a_quorum,
    "unlisted ciphertexts stay in the sum": unlisted_ciphertexts_stay_in_the_sum,
    "outputs outside the transaction": outputs_outside_the_transaction,
    "a restart forgets the clip": a_restart_forgets_the_clip,
}
