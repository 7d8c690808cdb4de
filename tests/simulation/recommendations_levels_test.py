"""Both levels of recommendations under crashes, zombies and redelivery: the state and the answers of every input exactly once."""

import numpy as np
import pytest

from aicache.schemas.codec import Codec
from aicache.schemas.records import (
    FeedbackSums,
    ItemCount,
    ItemVectors,
    Recommendation,
    TableWeights,
    UsageBatch,
    UsageEvent,
)
from aicache.streams.recommendations import counts, feedback
from aicache.streams.recommendations import state as state_module
from aicache.streams.recommendations.feedback import ON, Policy
from aicache.streams.recommendations.logic import Recommendations
from aicache.streams.recommendations.merging import Merging
from aicache.streams.runtime.contract import Batch, Message
from simulation.oracles import check
from simulation.workers import Input, Plane

MESSAGES = 90
SEEDS = 4


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots, publications and closings come often enough to fall between faults."""
    monkeypatch.setattr(state_module, "SNAPSHOT_EVERY", 40)
    monkeypatch.setattr(counts, "FIRST", 15)
    monkeypatch.setattr(counts, "PERIOD_MS", 9_000)
    monkeypatch.setattr(counts, "VECTORS_EVERY", 15)
    monkeypatch.setattr(feedback, "PUBLISH_EVERY", 3)
    monkeypatch.setattr(feedback, "WINDOW_MS", 5_000)


def usage(random: np.random.Generator) -> list[Message]:
    """Use, feedback on the answers that it gets, and now and then an erasure."""
    fold = Recommendations(Policy(ON, 0.2))
    state, log, told = fold.empty(0), list[Message](), list[UsageEvent]()
    for offset in range(MESSAGES):
        who = int(random.integers(6)).to_bytes(16, "big")
        message = Message("aicache.usage", 0, offset, offset * 1_000, who, None)
        if random.random() > 0.03:
            items = [f"tag:{n}" for n in random.choice(9, int(random.integers(1, 4)), replace=False)]
            events = [UsageEvent("used", 0, items, ["tag:0"], "", 1, b"", -1, 0.0), *told]
            message = message._replace(record=UsageBatch("test", who, 1, 0, "c", "", "", "", "", events))
        log.append(message)
        told = []
        for output in fold.apply(state, Batch(0, [message])).outputs:
            answer = output.record
            if isinstance(answer, Recommendation) and answer.items:
                names, place = [item.item for item in answer.items], f"0/{offset}"
                told.append(UsageEvent("shown", 0, names, [], "", 1, b"", 0, 0.0, place))
                told.append(UsageEvent("taken", 0, names[-1:], [], "", 1, b"", len(names) - 1, 0.0, place))
        # The next speaker tells of the last answer: half of the time it is another's, and passed over.
    return log


@pytest.mark.parametrize("seed", range(SEEDS))
def test_both_levels_keep_their_promises_under_faults(seed: int) -> None:
    random = np.random.default_rng(seed)
    messages = usage(random)
    first = Plane(Recommendations(Policy(ON, 0.2)), [written(messages)], random)
    first.run()
    check(first)
    fold = Recommendations(Policy(ON, 0.2))
    outputs = fold.apply(fold.empty(0), Batch(0, messages)).outputs
    kinds = {ItemCount, ItemVectors, TableWeights, FeedbackSums}
    published = [output.record for output in outputs if type(output.record) in kinds]
    assert {type(record) for record in published} == kinds
    log = [Message("aicache.counts", 0, offset, 0, b"", record) for offset, record in enumerate(published)]
    second = Plane(Merging(), [written(log)], random)
    second.run()
    check(second)


def written(messages: list[Message]) -> list[Input]:
    codec = Codec()
    return [(m.key, None if m.record is None else codec.encode(m.record)) for m in messages]
