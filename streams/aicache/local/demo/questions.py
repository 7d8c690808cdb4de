"""The demo's data: a sample of Ask Ubuntu questions, and what each made-up client holds of it.

The data names no authors: a question belongs to the client that a hash of its number and the seed says. Pure but for reading the
package's file.
"""

import gzip
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from aicache.privacy.statements import digest

HELD_OUT = 0.2
"""The newest questions, asked when the model has been learned from the others."""
LABELS = 64
USAGE_QUESTIONS = 5_000
NAMESPACE = "tag:"


@dataclass(frozen=True, slots=True)
class Question:
    """A question: its number in time order and its tags."""

    number: int
    tags: tuple[str, ...]


@cache
def everything() -> tuple[Question, ...]:
    """All questions, in time order."""
    packed = files("aicache.local.demo").joinpath("data", "ask-ubuntu-tags.csv.gz").read_bytes()
    rows = gzip.decompress(packed).decode().splitlines()[1:]
    return tuple(
        Question(number, tuple(NAMESPACE + tag for tag in row.split(",")[1].split())) for number, row in enumerate(rows)
    )


def learned() -> tuple[Question, ...]:
    """The questions that clients hold."""
    return everything()[: round(len(everything()) * (1 - HELD_OUT))]


def held_out() -> tuple[Question, ...]:
    """The questions that nobody holds."""
    return everything()[len(learned()) :]


@cache
def labels() -> tuple[str, ...]:
    """The tags that tasks count and the model learns: the most frequent ones, a public list."""
    counts = Counter(tag for question in learned() for tag in question.tags)
    return tuple(tag for tag, _ in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:LABELS])


def all_tags() -> frozenset[str]:
    """Every tag of the sample: the public names that may leave a client."""
    return frozenset(tag for question in everything() for tag in question.tags)


def owner(question: Question, clients: int, seed: int) -> int:
    """The client that holds a question."""
    return int.from_bytes(digest("demo-owner", seed, question.number)[:8], "big") % clients


def dealt(clients: int, seed: int) -> list[list[Question]]:
    """The questions of each client, in time order."""
    hands: list[list[Question]] = [[] for _ in range(clients)]
    for question in learned():
        hands[owner(question, clients, seed)].append(question)
    return hands


def typed(question: Question, seed: int) -> tuple[tuple[str, ...], str]:
    """What of a question was typed first, and the tag that came last."""
    last = min(question.tags, key=lambda tag: digest("demo-last", seed, question.number, tag))
    return tuple(tag for tag in question.tags if tag != last), last
