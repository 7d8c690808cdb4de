"""What must hold after a run of the data plane, whatever went wrong in it.

Every acknowledged input is in the result exactly once; the committed state and outputs are those of one undisturbed batch, byte for byte
(so a replay from offset 0 gives the same); counts that readers see never go back.
"""

from collections.abc import Sequence
from typing import Any

from aicache.schemas import topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Trend
from aicache.streams.runtime.contract import Fold
from aicache.streams.runtime.tasks import Raw, Task
from simulation.log import Log
from simulation.store import Place, SimulatedStore, simulated_tasks
from simulation.workers import Input, Plane, log_for
from support.counting import Counting


def result_of(log: Log, fold: Fold[Any]) -> tuple[Any, Any]:
    """What a reader finds: state and offsets by partition, and the newest record of every key of every output."""
    states = []
    with simulated_tasks():
        for partition in range(len(log.topics[topics.STATE_PREFIX + fold.name].partitions)):
            loaded = SimulatedStore(Place(log), fold.name, partition, fold.version).load()  # type: ignore[arg-type]
            states.append((dict(loaded.entries), dict(loaded.offsets)))
    inputs = {topic.name for topic in fold.inputs}
    outputs = {
        (name, partition, entry.key): entry.value
        for name, topic in log.topics.items()
        if name not in inputs and not name.startswith(topics.STATE_PREFIX)
        for partition in range(len(topic.partitions))
        for entry in log.read(name, partition)
    }
    return states, outputs


def undisturbed(fold: Fold[Any], inputs: Sequence[Sequence[Input]], clock: Log) -> tuple[Any, Any]:
    """What must come out: each partition's log in one batch, nothing goes wrong."""
    log = log_for(fold, len(inputs))
    with simulated_tasks():
        for partition in range(len(inputs)):
            task = Task(fold, Place(log), partition)  # type: ignore[arg-type]
            rows = clock.read(fold.inputs[0].name, partition)
            task.process([Raw(fold.inputs[0].name, partition, e.offset, e.timestamp_ms, e.key, e.value) for e in rows])
    return result_of(log, fold)


def check(plane: Plane) -> None:
    """The oracles."""
    for partition, rows in enumerate(plane.inputs):
        written = [(entry.key, entry.value) for entry in plane.log.read(plane.topic, partition)]
        assert written == list(rows), "an acknowledged input is missing or there twice"
    states, outputs = result_of(plane.log, plane.fold)
    expected_states, expected_outputs = undisturbed(plane.fold, plane.inputs, plane.log)
    assert [offsets for _, offsets in states] == [offsets for _, offsets in expected_states], "an input is missing"
    assert [kept for kept, _ in states] == [kept for kept, _ in expected_states], (
        "the state is not that of every input exactly once"
    )
    assert outputs == expected_outputs, "the outputs do not converge to the same bytes"
    if isinstance(plane.fold, Counting):
        check_order(plane)


def check_order(plane: Plane) -> None:
    """No count that a reader sees goes back."""
    codec = Codec()
    for partition in range(len(plane.log.topics[topics.TRENDS.name].partitions)):
        newest: dict[bytes, float] = {}
        for entry in plane.log.read(topics.TRENDS.name, partition):
            assert entry.value is not None
            value = codec.decode(entry.value, Trend).record.value
            assert value >= newest.get(entry.key, 0), "a count went back"
            newest[entry.key] = value
