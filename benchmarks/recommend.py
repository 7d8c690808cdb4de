"""Recommendations on `user,item,timestamp` files, each method beside the others under one protocol.

usage: recommend.py DATA [--protocol prequential|hold-one|hidden] [--hidden FILE] [--epsilon E] [--methods NAME,…] [--limit N] [--json]

prequential: for each event all items known so far that the user has not had are ranked, scored, then the event is learned; an item
never seen before is a miss. hold-one: a user is a basket; of each with two items or more one is hidden (index: SHA-256 of the basket's
rank as decimal text, first 8 bytes big-endian, modulo the size), scored, then the whole basket is learned. hidden: all baskets of DATA
are learned, then for each what is not in it is ranked and scored against FILE. With --epsilon, `private` is learned from what private
sums of pairs open to at delta 1e-6 (hidden: each basket is a client, hold-one: one table from the first 70%, asked on the rest), beside
the same without noise. Ties go to the smaller item number.
Times are the processor's, of one core: the threads of NumPy's products are switched off, and what is compiled is loaded before.
"""

import argparse
import csv
import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from aicache.streams.recommendations.combination import load_loops
from aicache.streams.recommendations.ranker import top
from recommend_methods import METHODS, Method

NAMESPACE = "item:"
LAST = 0.3
MISS = 1 << 30


class Trial:
    """A method under the protocol, with where it ranked what was looked for and what it took."""

    def __init__(self, name: str, method: Method) -> None:
        self.name, self.method = name, method
        self.places: list[int] = []
        self.rank_us: list[float] = []
        self.learn_s = 0.0

    def ask(self, context: list[int], targets: Sequence[int | None], numbers: "Numbers") -> None:
        """Where each target is ranked among all that are known and not at hand; a miss where it was never seen."""
        if not self.method.ready():
            return
        if all(target is None for target in targets):
            self.places += [MISS] * len(targets)
            return
        ids = numbers.array()
        began = time.process_time()
        scores = np.asarray(self.method.scores(context, len(ids)))
        allowed = np.ones(len(ids), dtype=bool)
        allowed[context] = False
        top(scores, allowed, 10)
        self.rank_us.append((time.process_time() - began) * 1e6)
        for target in targets:
            if target is None or not allowed[target]:  # never seen, or had before: not among what is ranked
                self.places.append(MISS)
                continue
            ahead = (scores > scores[target]) | ((scores == scores[target]) & (ids < ids[target]))
            self.places.append(int((ahead & allowed).sum()))

    def learn(self, names: list[str], context: list[int], target: int) -> None:
        began = time.process_time()
        self.method.learn(names, context, target)
        self.learn_s += time.process_time() - began

    def learn_basket(self, names: list[str], numbers: list[int]) -> None:
        began = time.process_time()
        self.method.learn_basket(names, numbers)
        self.learn_s += time.process_time() - began

    def settle(self) -> None:
        began = time.process_time()
        self.method.settle()
        self.learn_s += time.process_time() - began

    def figures(self, events: int) -> dict[str, float]:
        places = np.array(self.places, dtype=np.float64)
        late = places[int(LAST * len(places)) :]
        gain = np.where(places < 10, 1 / np.log2(places + 2), 0.0)
        return {
            "recall_at_5": round(float((places < 5).mean()), 4),
            "recall_at_10": round(float((places < 10).mean()), 4),
            "hit_rate_at_20": round(float((places < 20).mean()), 4),
            "mrr_at_20": round(float(np.where(places < 20, 1 / (places + 1), 0.0).mean()), 4),
            "ndcg_at_10": round(float(gain.mean()), 4),
            "last_70": round(float((late < 10).mean()), 4),
            "rank_p99_ms": round(float(np.percentile(self.rank_us, 99)) / 1e3, 3) if self.rank_us else 0.0,
            "learn_us": round(self.learn_s / max(events, 1) * 1e6, 1),
            "events_per_s": round(events / (self.learn_s + sum(self.rank_us) / 1e6), 1),
        }


def rows(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="") as file:
        return [(row["user"], row["item"]) for row in csv.DictReader(file)]


def baskets(path: Path) -> Iterator[tuple[str, list[str]]]:
    for user, group in groupby(rows(path), key=lambda row: row[0]):
        yield user, list(dict.fromkeys(item for _, item in group))


class Numbers:
    """Numbers in the order of first sight."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}
        self.ids: list[int] = []
        self._array = np.zeros(0, dtype=np.int64)

    def add(self, item: str) -> int:
        if item not in self.of:
            self.of[item] = len(self.of)
            self.ids.append(int(item) if item.isdigit() else len(self.of))
        return self.of[item]

    def array(self) -> NDArray[np.int64]:
        if len(self._array) != len(self.ids):
            self._array = np.array(self.ids, dtype=np.int64)
        return self._array


def hidden_index(rank: int, size: int) -> int:
    return int.from_bytes(hashlib.sha256(str(rank).encode()).digest()[:8], "big") % size


def prequential(path: Path, trials: list[Trial], limit: int) -> int:
    numbers, history = Numbers(), {}
    events = 0
    for user, item in rows(path)[: limit or None]:
        had = history.setdefault(user, [])
        context = [numbers.of[other] for other in had]
        for trial in trials:
            trial.ask(context, [numbers.of.get(item)], numbers)
        target = numbers.add(item)
        for trial in trials:
            trial.learn([NAMESPACE + other for other in (*had, item)], context, target)
        if item not in had:
            had.append(item)
        events += 1
    return events


def hold_one(path: Path, trials: list[Trial], limit: int) -> int:
    numbers = Numbers()
    events = 0
    for rank, (_, items) in enumerate(baskets(path)):
        if limit and rank >= limit:
            break
        if len(items) > 1:
            hidden = items[hidden_index(rank, len(items))]
            context = [numbers.of[item] for item in items if item != hidden and item in numbers.of]
            for trial in trials:
                trial.ask(context, [numbers.of.get(hidden)], numbers)
        known = [numbers.add(item) for item in items]
        for trial in trials:
            trial.learn_basket([NAMESPACE + item for item in items], known)
        events += len(items)
    return events


def hidden(path: Path, answers: Path, trials: list[Trial], limit: int) -> int:
    numbers = Numbers()
    shown = dict(list(baskets(path))[: limit or None])
    events = 0
    for items in shown.values():
        known = [numbers.add(item) for item in items]
        for trial in trials:
            trial.learn_basket([NAMESPACE + item for item in items], known)
        events += len(items)
    for trial in trials:
        trial.settle()
    for user, wanted in baskets(answers):
        if user in shown:
            context = [numbers.of[item] for item in shown[user]]
            # Of several hidden items each is looked for in its own place among all answers.
            for trial in trials:
                trial.ask(context, [numbers.of.get(item) for item in wanted], numbers)
    return events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--protocol", choices=("prequential", "hold-one", "hidden"), default="prequential")
    parser.add_argument("--hidden", type=Path)
    parser.add_argument("--limit", type=int, default=0, help="only so many events or baskets")
    parser.add_argument("--methods", help="only these, with commas between them")
    parser.add_argument(
        "--epsilon", type=float, default=0.0, help="also what is learned from private sums alone, at this epsilon"
    )
    parser.add_argument("--noise", choices=("committee", "clients"), default="committee", help="who adds the noise")
    parser.add_argument(
        "--clients", type=int, default=10_000, help="hold-one: baskets are dealt to so many clients in turn"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.protocol == "hidden" and arguments.hidden is None:
        parser.error("--protocol hidden needs --hidden FILE")
    chosen = arguments.methods.split(",") if arguments.methods else list(METHODS)
    unknown = sorted(set(chosen) - set(METHODS))
    if unknown:
        parser.error(f"no method is called {', '.join(unknown)}; there are {', '.join(METHODS)}")
    trials = [Trial(name, made) for name in chosen if (made := METHODS[name](arguments)) is not None]
    run: dict[str, Callable[[], int]] = {
        "prequential": lambda: prequential(arguments.data, trials, arguments.limit),
        "hold-one": lambda: hold_one(arguments.data, trials, arguments.limit),
        "hidden": lambda: hidden(arguments.data, arguments.hidden, trials, arguments.limit),
    }
    load_loops()  # as a worker does before it says that it is ready
    events = run[arguments.protocol]()
    result = {
        "data": arguments.data.name,
        "protocol": arguments.protocol,
        "events": events,
        "methods": {trial.name: trial.figures(events) for trial in trials},
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    if arguments.json:
        print(json.dumps(result))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['data']}, {arguments.protocol}, {events:,} events")
    table.add_column("method")
    for name in next(iter(result["methods"].values())):
        table.add_column(name)
    for name, figures in result["methods"].items():
        table.add_row(name, *map(str, figures.values()))
    Console(width=200, file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
