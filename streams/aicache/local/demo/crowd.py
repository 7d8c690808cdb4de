"""One process of the demo's crowd: `python -m aicache.local.demo.crowd`, told what to do by JSON lines, answering by JSON lines.

Its clients are the SDK's, each with its own keys and ledger; they share one connection. Some misbehave: a fifth vanishes after
sending its ciphertext, one seals garbage, one replays another's envelope.
"""

import json
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aicache.local.demo import script
from aicache.local.demo.questions import Question, all_tags, dealt, labels, typed
from aicache.privacy.errors import LocalError
from aicache.privacy.statements import digest
from aicache.producers import (
    Acknowledged,
    BlockingClient,
    Contribution,
    Hub,
    KafkaSettings,
    Limit,
    Limits,
    Pins,
    Rules,
    Situation,
)
from aicache.schemas import topics
from aicache.schemas.records import Envelope, Place, Task
from aicache.schemas.signing import signed
from aicache.streams.anomalies.sketches import pack, sketch_of

USAGE_PAUSE_S = 0.002
QUESTION_S = 600
"""Simulated time between two questions of the whole crowd."""
STOP = '["stop"]\n'
LANGUAGES = ("python", "cpp", "java", "javascript", "rust")


class Person(BlockingClient):
    """A client of the demo: the SDK's, with its share of the questions and, sometimes, a bad day."""

    number: int
    hand: list[Question]
    crowd: "Crowd"
    periods = 0

    def data(self, task: Task) -> Any:
        """What it holds for a task."""
        if task.task == script.COUNTS:
            period, self.periods = self.periods % script.COUNT_ROUNDS, self.periods + 1
            half = len(self.hand) // script.COUNT_ROUNDS
            known = set(labels())
            mine = self.hand[period * half : (period + 1) * half]
            return [tag for question in mine for tag in question.tags if tag in known]
        return [question.tags for question in self.hand]

    def _finish(self, made: Contribution, places: list[Acknowledged]) -> None:
        if self.crowd.vanishes(self.number, made.proposal.round_id):
            self.crowd.vanished += 1
            return
        super()._finish(made, places)


class Misbehaving(Person):
    """Seals garbage, or replays another's envelope under its own name; signed with its own, enrolled key."""

    def _finish(self, made: Contribution, places: list[Acknowledged]) -> None:
        assert self._session is not None
        if self.number == script.REPLAYER:
            stolen = self.crowd.envelopes.get(made.proposal.round_id)
            if stolen is None:
                return
            record = signed(replace(stolen, sender=self.identity.client), self.identity.signing_key)
        else:
            place = Place(places[0].partition, sorted(where.offset for where in places))
            honest = self._session.envelope(made, place)
            record = signed(
                replace(honest, sealed=[os.urandom(len(s)) for s in honest.sealed]), self.identity.signing_key
            )
        self.crowd.misbehaved += 1
        self.hub.publish(topics.ENVELOPES, made.proposal.round_id.encode(), record)


class Crowd:
    """The clients of this process.

    Args:
        told: the first line of input: where Kafka is, whom to trust, which clients to be.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.seed = int(told["seed"])
        self.hub = Hub(KafkaSettings(told["bootstrap_servers"], prefix=told["prefix"], deployment=told["deployment"]))
        self.people: list[Person] = []
        self.messages: dict[str, dict[bytes, NDArray[np.int32]]] = {}
        self.envelopes: dict[str, Envelope] = {}
        self.vanished = self.misbehaved = self.usage_records = self.refused_secrets = 0

    def vanishes(self, number: int, round_id: str) -> bool:
        """Whether a client is gone before it sends the envelope of a round."""
        chance = int.from_bytes(digest("demo-vanish", self.seed, round_id, number)[:4], "big") / 2**32
        return chance < script.VANISH and number > script.VICTIM

    def gather(self) -> None:
        """Make the clients: keys, ledgers, what each holds."""
        pins = Pins({int(n): bytes.fromhex(key) for n, key in self.told["pins"].items()}, self.told["threshold"])
        limits = Limits(budgets={"*": Limit(8.0, delta=script.DELTA)}, n_min=script.N_MIN, epsilon_round=8.0)
        rules = Rules(time_step_s=60, allowed=all_tags() | _operations())
        hands = dealt(script.CLIENTS, self.seed)
        self.hub.start()
        for number in range(self.told["first"], self.told["last"]):
            kind = Misbehaving if number in {script.GARBAGE, script.REPLAYER} else Person
            person = kind(
                self.hub,
                Path(self.told["folder"]) / f"client-{number}",
                pins=pins,
                limits=limits,
                situation=Situation(language=LANGUAGES[number % 5], os_family="linux", task="edit", tool="demo@1.0"),
                rules=rules,
                on_contribution=self._note,
            )
            person.number, person.hand, person.crowd = number, hands[number], self
            self.people.append(person)

    def _note(self, made: Contribution) -> None:
        """Remember what a client masked: the demo's own check, on the client's side."""
        client = made.chunks[0].sender
        self.messages.setdefault(made.proposal.round_id, {})[client] = made.message.astype(np.int32)

    def join(self) -> None:
        """Ask to be enrolled, all of them, and wait for the operator."""
        asked = [self.hub.publish(topics.JOINS, person.identity.client, person.request()) for person in self.people]
        for done in asked:
            done.result(60)
        if not self.hub.wait_for(lambda: all(person.enrolled for person in self.people), 60):
            raise LocalError("the operator did not admit everybody", got="silence", needed="an enrolment each")

    def contribute(self) -> None:
        """From now on take part in every round."""
        if self.told["first"] <= script.VICTIM < self.told["last"]:
            self._let_the_replayer_see()
        for person in self.people:
            for name in (script.COUNTS, script.MODEL):
                person.allow(name, person.data)

    def _let_the_replayer_see(self) -> None:
        """Envelopes can be read by all: the replayer takes the victim's as soon as it is signed."""
        session = self.people[script.VICTIM - self.told["first"]]._session
        assert session is not None
        honest = session.envelope

        def seen(made: Contribution, place: Place) -> Envelope:
            record = honest(made, place)
            self.envelopes[made.proposal.round_id] = record
            replayer = self.people[script.REPLAYER - self.told["first"]]
            replayer._finish(made, [Acknowledged("", place.partition, offset) for offset in place.offsets])
            return record

        session.envelope = seen

    def leak(self, canaries: list[str]) -> None:
        """A careless application tries to send secrets in every field; the SDK refuses each."""
        for number, secret in enumerate(canaries):
            person = self.people[number % len(self.people)]
            for attempt in (
                {"items": [f"tag:{secret}"]},
                {"items": [secret]},
                {"items": ["tag:wine"], "context": [f"pypi:{secret}"]},
                {"items": ["op:build"], "release": f"pypi:{secret}@1.0"},
                {"items": ["op:build"], "release": f"pypi:builder@{secret}"},
            ):
                try:
                    person.record("used", **attempt)
                except LocalError as error:
                    assert secret not in str(error), "an error quotes a secret"
                    self.refused_secrets += 1

    def report_telemetry(self) -> None:
        """What everybody's tools saw in the simulated minutes before now, in the order of time."""
        start_s = int(self.told["start_s"])
        seen: dict[int, list[tuple[script.Telemetry, Person]]] = {}
        for person in self.people:
            for entry in script.telemetry(np.random.default_rng([self.seed, person.number])):
                seen.setdefault(entry.minute, []).append((entry, person))
        began_s = time.monotonic()
        for minute in range(script.MINUTES):
            for entry, person in seen.get(minute, []):
                person.record(
                    entry.kind,
                    [entry.operation],
                    time_s=start_s + 60 * entry.minute,
                    release=entry.release,
                    count=entry.count,
                    sketch=pack(sketch_of(entry.durations_s)) if entry.durations_s else b"",
                )
            for _, person in seen.get(minute, []):
                self._send_usage(person)
            # All processes of the crowd live through the simulated minutes side by side.
            time.sleep(max(0.0, began_s + (minute + 1) * script.MINUTE_S - time.monotonic()))

    def report_usage(self) -> None:
        """Type the tags of some questions: first all but one, then the one."""
        mine = sorted(
            (
                (question, person)
                for person in self.people
                for question in person.hand
                if question.number < self.told["usage_questions"] and len(question.tags) > 1
            ),
            key=lambda pair: pair[0].number,
        )
        start_s = int(self.told["start_s"])
        for question, person in mine:
            first, last = typed(question, self.seed)
            when_s = start_s - (self.told["usage_questions"] - question.number) * QUESTION_S
            person.record("used", first, time_s=when_s)
            self._send_usage(person)
            person.record("used", [last], context=first, time_s=when_s)
            self._send_usage(person)
            time.sleep(USAGE_PAUSE_S)

    def _send_usage(self, person: Person) -> None:
        self.usage_records += len(person.send_queued())

    def live(self) -> None:
        """Be careless, report what tools saw, type questions."""
        self.leak(self.told["canaries"])
        self.report_telemetry()
        self.report_usage()

    def sum_of(self, round_id: str, clients: list[str], file: str) -> int:
        """Write the clear sum of what these clients masked, those of this process; gives how many they were."""
        kept = self.messages.get(round_id, {})
        mine = [kept[name] for client in clients if (name := bytes.fromhex(client)) in kept]
        if mine:
            np.save(file, np.sum(mine, axis=0, dtype=np.int64))
        return len(mine)

    def numbers(self) -> dict[str, Any]:
        """What this process did."""
        outcomes: dict[str, int] = {}
        for person in self.people:
            for what in person.outcomes.values():
                outcomes[what] = outcomes.get(what, 0) + 1
        spent = [sum(entry.epsilon for entry in person.ledger.spent(script.DELTA)) for person in self.people]
        return {
            "clients": len(self.people),
            "vanished": self.vanished,
            "misbehaved": self.misbehaved,
            "usage_records": self.usage_records,
            "refused_secrets": self.refused_secrets,
            "outcomes": outcomes,
            "epsilon_max": max(spent),
            "undelivered": self.hub.flush(),
        }


def _operations() -> frozenset[str]:
    return frozenset(
        name
        for operation, releases in (*script.FAILURES, *script.DURATIONS)
        for name in (operation, *(release.partition("@")[0] for release in releases))
    )


def _listen(lines: "SimpleQueue[str]") -> None:
    """Hand on what is said; when the story is gone, go too, whatever is being done."""
    for line in sys.stdin:
        lines.put(line)
        if line == STOP:
            return
    os._exit(1)


def main() -> None:
    """Do what standard input says, line by line, until it ends."""
    lines: SimpleQueue[str] = SimpleQueue()
    told = json.loads(sys.stdin.readline())
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    crowd = Crowd(told)
    commands = {
        "gather": crowd.gather,
        "join": crowd.join,
        "contribute": crowd.contribute,
        "live": crowd.live,
        "numbers": crowd.numbers,
    }
    while (line := lines.get()) != STOP:
        word, *arguments = json.loads(line)
        answer = crowd.sum_of(*arguments) if word == "sum" else commands[word]()
        print(json.dumps({"done": word, "answer": answer}), flush=True)
    crowd.hub.close()


if __name__ == "__main__":
    main()
