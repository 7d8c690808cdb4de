"""Private recommendations over an embedded Kafka: each basket a client of the SDK, a committee of processes, tables, answers.

usage: recommend_private_kafka.py DATA HIDDEN [--clients N] [--labels N] [--epsilon E]

The first N baskets of DATA are clients that contribute once to a task of pairs over the labels that are most frequent in the other
baskets (a public list). The members add the noise; the worker `private-tables` solves what opens; a client reads the tables and ranks,
and what it ranks is scored against HIDDEN. Beside it stands what the benchmark at full size would compute from the same clients.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import secure_aggregation_kafka as deployed
from aicache.local.kafka import EmbeddedKafka
from aicache.privacy import accounting
from aicache.producers.client import BlockingClient
from aicache.producers.session import Limit, Limits, Pins
from aicache.schemas.admin import create_topics
from aicache.schemas.records import Task
from aicache.streams.recommendations import private
from aicache.streams.rounds.kafka import create_task
from aicache.streams.rounds.task import from_mapping
from recommend import baskets
from recommend_private import DELTA, learned

MEMBERS, THRESHOLD = deployed.MEMBERS, deployed.THRESHOLD
WAIT_S = 900
TABLES = "from aicache.streams.recommendations.agents import run_private_tables as run; run(settings)"


def declared(labels: list[str], clients: int, epsilon: float, deployment: str) -> Task:
    return from_mapping(
        {
            "task": "together",
            "kind": private.KIND,
            "description": "which libraries are used together",
            "labels": labels,
            "epsilon": epsilon,
            "delta": DELTA,
            "clip": private.CLIP,
            "scale": private.SCALE,
            "members": MEMBERS,
            "threshold": THRESHOLD,
            "n_min": clients // 2 + 1,
            "n_max": clients,
            "deadline_ms": 3_600_000,
            "rounds": 1,
        },
        deployment,
    )


def recall(ranked: list[list[str]], wanted: list[set[str]], k: int) -> float:
    found = sum(len(hidden & set(best[:k])) for best, hidden in zip(ranked, wanted, strict=True))
    return round(found / sum(map(len, wanted)), 4)


def run(arguments: argparse.Namespace) -> dict[str, float | bool]:
    everyone = {user: [f"lib:{item}" for item in items] for user, items in baskets(arguments.data)}
    shown = dict(list(everyone.items())[: arguments.clients])
    others = Counter(item for user, items in everyone.items() if user not in shown for item in items)
    labels = [item for item, _ in others.most_common(arguments.labels)]
    known = set(labels)
    hidden = {
        user: {f"lib:{item}" for item in items} & known for user, items in baskets(arguments.hidden) if user in shown
    }
    deployed.SERVICES["tables"] = TABLES
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = stack.enter_context(EmbeddedKafka())
        settings = broker.settings(prefix="", deployment="benchmark")
        create_topics(settings.client_config(), settings.prefix, replication=1)
        hub = deployed.deploy(stack, settings, folder, "tables")
        pins = Pins({record.member: record.identity_key for record in hub.board.epoch_keys.values()}, THRESHOLD)
        total = np.zeros(len(labels) * (len(labels) + 1) // 2, np.int64)
        owner = Limits(epsilon_round=20.0, budgets={"*": Limit(50.0)})

        def add(made) -> None:
            np.add(total, made.message, out=total)

        clients = []
        for number, basket in enumerate(shown.values()):
            client = BlockingClient(hub, folder / f"client-{number}", pins=pins, limits=owner, on_contribution=add)
            clients.append(client)
            client.join()
            client.allow("together", lambda _task, basket=basket: [basket])
        assert hub.wait_for(lambda: all(client.enrolled for client in clients), WAIT_S)
        task = declared(labels, len(clients), arguments.epsilon, settings.deployment)
        times = deployed.Times(settings)
        began = time.monotonic()
        create_task(settings, task)
        aggregate = times.read(time.monotonic() + WAIT_S)
        opened_s = time.monotonic() - began
        times.consumer.close()
        noise = np.frombuffer(aggregate.sum, "<i8") - total
        assert hub.read_tables() is hub.tables
        assert hub.wait_for(lambda: len(hub.tables.rows("together")) == len(labels), WAIT_S)
        wanted = [hidden[user] for user in shown]
        began = time.perf_counter()
        ranked = [
            [found.item for found in clients[0].recommend_locally(basket, "lib", 10, task="together")]
            for basket in shown.values()
        ]
        asked_ms = (time.perf_counter() - began) * 1e3 / len(shown)
        popular = [[item for item in labels if item not in basket][:10] for basket in map(set, shown.values())]
        place = {label: number for number, label in enumerate(labels)}
        dealt = [[[place[item] for item in basket if item in place]] for basket in shown.values()]
        _, solved = learned(
            [baskets_ for baskets_ in dealt if baskets_[0]], len(labels), arguments.epsilon, accounting.COMMITTEE
        )
        direct = []
        for basket in shown.values():
            scores = (
                solved.weights[[place[item] for item in basket if item in place]].sum(axis=0) + 1e-3 * solved.popularity
            )
            scores[[place[item] for item in basket if item in place]] = -np.inf
            direct.append([labels[at] for at in np.argsort(-scores)[:10]])
        for client in clients:
            client.close()
        return {
            "clients": float(aggregate.n),
            "labels": float(len(labels)),
            "epsilon": aggregate.guarantee.epsilon,
            "delta": aggregate.guarantee.delta,
            "noise_sigma_planned": aggregate.guarantee.sigma,
            "noise_sigma_seen": float(np.std(noise)),
            "opened_s": round(opened_s, 1),
            "answer_ms": round(asked_ms, 3),
            **{f"recall_at_{k}": recall(ranked, wanted, k) for k in (5, 10)},
            **{f"full_size_path_recall_at_{k}": recall(direct, wanted, k) for k in (5, 10)},
            **{f"popularity_recall_at_{k}": recall(popular, wanted, k) for k in (5, 10)},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("hidden", type=Path)
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--epsilon", type=float, default=4.0)
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
