"""A Kafka in memory, as far as the processors rely on it: ordered partitions, transactions, fencing.

A transaction is atomic: state, offsets and outputs appear together or not at all, and whoever opens a task's store fences the one
before. `Disk` says what survives a crash.
"""

from dataclasses import dataclass, field

from aicache.streams.runtime.contract import Output, Step


class CrashedError(Exception):
    """The process is gone: what it held in memory is lost."""


class FencedError(Exception):
    """Another worker has opened the store."""


@dataclass
class Store:
    """The changelog of one task.

    Attributes:
        entries: state keys and values, as committed.
        offsets: the next offset of each input topic, as committed.
        outputs: what was committed to other topics, by topic and key: the newest wins.
        epoch: of the worker that may write.
    """

    entries: dict[bytes, bytes] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    outputs: dict[tuple[str, bytes], Output] = field(default_factory=dict)
    history: list[Output] = field(default_factory=list)
    epoch: int = 0

    def open(self) -> int:
        """Become the only writer; gives the epoch to write with."""
        self.epoch += 1
        return self.epoch

    def commit(self, epoch: int, step: Step, offsets: dict[str, int]) -> None:
        """Write all of it, or nothing where somebody else has opened the store."""
        if epoch != self.epoch:
            raise FencedError
        for key, value in step.changed.items():
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value
        self.offsets = dict(offsets)
        for output in step.outputs:
            self.outputs[output.topic, output.key] = output
        self.history += step.outputs
