"""The closed vocabularies: text fields that hold one of a few words, and numbers that may be infinite.

In Avro they are plain strings, because an enum's symbols cannot grow without breaking one side or the other. The codec holds
records to these words in both directions: they say what is computed, so a reader that does not know a word must not guess.
What only labels an observation (the kind of a usage event) is open: readers pass over what they do not know. A proposal's words are
judged by each member, which says why it refuses. Pure.
"""

from collections.abc import Mapping

_TASK_KINDS = frozenset({"sum", "mean", "weighted-mean", "histogram", "pairs", "count-sketch", "model", "evaluation"})

WORDS: Mapping[tuple[str, str], frozenset[str]] = {
    ("Task", "state"): frozenset({"active", "paused", "ended"}),
    ("Task", "kind"): _TASK_KINDS,
    ("Task", "noise"): frozenset({"committee", "clients"}),
    ("Task", "clipping"): frozenset({"flat", "per-layer", "adaptive"}),
    ("Task", "robust"): frozenset({"none", "trimmed-mean", "median", "norm-filter"}),
    ("RoundClosed", "reason"): frozenset({"full", "deadline"}),
    ("Aggregate", "kind"): _TASK_KINDS,
    ("GroupSum", "status"): frozenset({"opened", "dropped"}),
    ("Guarantee", "mechanism"): frozenset({"discrete-gaussian-sum", "discrete-laplace", "randomized-response", "none"}),
    ("Guarantee", "noise"): frozenset({"committee", "clients", "local", "central", "none"}),
    ("Guarantee", "neighbouring"): frozenset({"add-or-remove", "replace-one"}),
    ("Incident", "status"): frozenset({"opened", "growing", "resolved"}),
}
"""(record, field) → the words it may hold."""

INFINITE = frozenset({("Guarantee", "epsilon"), ("Guarantee", "rdp"), ("Budget", "epsilon"), ("Budget", "rdp")})
"""The numbers that may be +∞: a divergence that has no bound. Every other number is finite, and none is NaN."""
