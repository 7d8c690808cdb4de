"""A fold that counts items: small enough to be obviously right, so that what is tested is the runtime."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from aicache.privacy.errors import LocalError, RemoteError
from aicache.schemas import topics
from aicache.schemas.records import Trend, UsageBatch, UsageEvent
from aicache.streams.runtime.contract import Batch, Output, Step

DEPLOYMENT = "test"
HANGS_AT = ""
"""An item at which the fold hangs, as a dead lock does."""
SLOW_S = 0.0
"""What each batch takes besides, as a fold does whose logic is slow."""


class Counting:
    """How often each item was used; each batch publishes the new counts of what it changed."""

    name = "trends"  # has a state topic
    version = 1
    inputs = (topics.USAGE,)

    def empty(self, partition: int) -> Counter[str]:
        del partition
        return Counter()

    def load(self, partition: int, entries: Iterable[tuple[bytes, bytes]], version: int) -> Counter[str]:
        del partition
        if version != self.version:
            raise LocalError("counts of another version", got=version, needed=self.version)
        return Counter({key.decode(): int(value) for key, value in entries})

    def apply(self, state: Counter[str], batch: Batch) -> Step:
        step = Step()
        new: Counter[str] = Counter()
        for message in batch.messages:
            assert isinstance(message.record, UsageBatch)
            if message.record.language == "poison":
                step.dead.append((message, RemoteError("it is poison", reason="poison")))
                continue
            new.update([item for event in message.record.events for item in event.items])
        if HANGS_AT in new:
            threading.Event().wait()
        if SLOW_S:
            time.sleep(SLOW_S)
        state.update(new)
        for item in sorted(new):
            key, count = item.encode(), state[item]
            step.changed[key] = str(count).encode()
            step.outputs.append(
                Output(topics.TRENDS.name, key, Trend(DEPLOYMENT, item, 0, 0, float(count), 0.0, "uses", None))
            )
        return step


def usage(items: Sequence[str], language: str = "python", pseudonym: int = 0, size_bytes: int = 0) -> UsageBatch:
    padding = np.random.default_rng(1).bytes(size_bytes) if size_bytes else b""  # zeros would shrink on their way
    event = UsageEvent("used", 1_700_000_000, list(items), [], "", 1, padding, -1, 0.0)
    name = pseudonym.to_bytes(16, "big")
    return UsageBatch(DEPLOYMENT, name, 1, 0, language, "", "linux", "build", "pytest@9", [event])
