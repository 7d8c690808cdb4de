"""What the demo shows: recall of the model, prequential recall of the recommendations, popularity beside both. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aicache.local.demo.questions import Question
from aicache.privacy.statements import digest
from aicache.producers.vectors import BEST, evaluation
from aicache.schemas.records import Model, ModelSpec, Recommendation, UsageBatch

TOP = 10
CURVE_POINTS = 60


def model_recall(spec: ModelSpec, model: Model, questions: Iterable[Question]) -> float:
    """Share of held-out questions whose hidden tag is among the model's best answers."""
    weights = np.frombuffer(model.weights, dtype="<f8")
    hits, trials = evaluation(spec, weights, (question.tags for question in questions))
    return float(hits / trials)


def popularity_recall(labels: Sequence[str], learned: Iterable[Question], questions: Iterable[Question]) -> float:
    """The same for an answer that names the most frequent tags that are not there yet."""
    counts = Counter(tag for question in learned for tag in question.tags)
    ranked = sorted(labels, key=lambda label: (-counts[label], label))
    known = set(labels)
    hits = trials = 0
    for question in questions:
        tags = [tag for tag in dict.fromkeys(question.tags) if tag in known]
        if len(tags) < 2:
            continue
        hidden = min(tags, key=lambda label: digest("hidden", label, *sorted(tags)))
        best = [label for label in ranked if label == hidden or label not in tags][:BEST]
        trials += 1
        hits += hidden in best
    return hits / trials


@dataclass(frozen=True, slots=True)
class Curve:
    """Prequential recall as questions come in: of recommendations and of popularity, over all so far."""

    questions: NDArray[np.int64]
    ours: NDArray[np.float64]
    popular: NDArray[np.float64]


def recommendation_curve(
    usage: Iterable[tuple[tuple[int, int], UsageBatch]], answers: Iterable[Recommendation]
) -> Curve:
    """Hold each answer against what the same person typed next, and popularity against the same.

    Args:
        usage: place (partition, offset) and record of each usage record, in the order of the log.
        answers: what was recommended.
    """
    given = {(answer.source.partition, answer.source.offset): answer for answer in answers}
    asked: dict[bytes, Recommendation | None] = {}
    shown: dict[bytes, set[str]] = {}
    counts: dict[int, Counter[str]] = {}
    ours, popular = [], []
    for place, batch in usage:
        event = batch.events[0]
        if event.kind != "used":
            continue
        seen = counts.setdefault(place[0], Counter())
        if event.context and set(event.context) == shown.get(batch.pseudonym):
            answer = asked.get(batch.pseudonym)
            best = [item.item for item in answer.items][:TOP] if answer else []
            ours.append(event.items[0] in best)
            ranked = [tag for tag, _ in seen.most_common(TOP + len(event.context)) if tag not in event.context][:TOP]
            popular.append(event.items[0] in ranked)
            seen.update(event.items)
            asked.pop(batch.pseudonym, None)
        elif not event.context:
            asked[batch.pseudonym] = given.get(place)
            shown[batch.pseudonym] = set(event.items)
            seen.update(event.items)
    count = np.arange(1, len(ours) + 1)
    return Curve(count, np.cumsum(ours) / count, np.cumsum(popular) / count)
