"""How fast the reducer reads ciphertexts: fetched, decoded, digests checked and added, beside fetching them alone.

A round of made-up clients stands in the log with signed envelopes; the reducer starts, as after a crash, and reads all of it. A
mask looks random, so the ciphertexts are random bytes: adding them costs the same.
"""

import time
from dataclasses import replace

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from aicache.privacy import masking, parameters
from aicache.privacy.statements import ciphertext_digest
from aicache.producers.connection import KafkaSettings
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.chunks import chunks
from aicache.schemas.codec import Codec
from aicache.schemas.records import Place, Record, UpdateChunk
from aicache.streams.reducer.kafka import ReducerProcess
from aicache.streams.reducer.memory import keep_freed_memory
from support.rounds import DEPLOYMENT, World

LENGTH = 100_000
SHARE_BYTES = 64
LIMIT_S = 60.0
CODEC = Codec()


class Round:
    """A round of so many clients in the log of a deployment."""

    def __init__(self, settings: KafkaSettings, clients: int) -> None:
        self.settings = settings
        self.clients = clients
        self.size_bytes = 0
        create_topics(settings.client_config(), settings.prefix, replication=1)
        self._producer = Producer(
            settings.client_config(linger_ms=5, enable_idempotence=True, message_max_bytes=topics.RECORD_BYTES_MAX * 2)
        )
        self._fill(World())
        assert self._producer.flush(60) == 0

    def _write(self, topic: topics.Topic, key: bytes, record: Record, partition: int = 0) -> None:
        self._producer.produce(self.settings.name(topic.name), CODEC.encode(record), key, partition=partition)

    def _fill(self, world: World) -> None:
        now_ms = time.time_ns() // 1_000_000
        proposal, rho = world.propose(length=LENGTH, opened_ms=now_ms, deadline_ms=now_ms + 600_000)
        round_key = proposal.round_id.encode()
        self._write(topics.ROUNDS, round_key, proposal)
        mask = parameters.by_name(proposal.parameters)
        data = np.random.default_rng(1).bytes(masking.packed_size(LENGTH, mask))
        ends = dict.fromkeys(range(topics.UPDATES.partitions), 0)
        for number in range(self.clients):
            person, partition = world.person(), number % topics.UPDATES.partitions
            self._write(topics.ENROLMENTS, person.id, person.enrolment(world.operator))
            ciphertext = number.to_bytes(4, "little") + data[4:]
            pieces = chunks(proposal.round_id, person.id, ciphertext)
            for piece in pieces:
                self._write(topics.UPDATES, round_key, piece, partition)
            place = Place(partition, list(range(ends[partition], ends[partition] + len(pieces))))
            ends[partition] += len(pieces)
            digest = ciphertext_digest(rho, person.id, ciphertext)
            shares = [bytes(SHARE_BYTES)] * len(proposal.roster)
            envelope = person.envelope(proposal, rho, digest, shares, place, world.keys())
            self._write(topics.ENVELOPES, round_key, envelope)
            self.size_bytes += len(ciphertext)
            self._producer.poll(0)

    def reduce(self) -> float:
        """Megabytes a second of the reducer, from the first ciphertext read to the last one added."""
        process = ReducerProcess(self.settings)
        receive, began = process.reducer.receive_chunk, 0.0

        def first(partition: int, offset: int, chunk: UpdateChunk) -> None:
            nonlocal began
            began = began or time.perf_counter()
            receive(partition, offset, chunk)

        process.reducer.receive_chunk = first
        limit_s = time.monotonic() + LIMIT_S
        process.start()
        [current] = process.reducer.rounds.values()
        while len(current.added) < self.clients:
            process.step()
            assert time.monotonic() < limit_s, (len(current.added), self.clients)
        seconds = time.perf_counter() - began
        process.close()
        return self.size_bytes / seconds / 1e6

    def bare(self) -> float:
        """Megabytes a second of a consumer that only fetches."""
        consumer = Consumer(self.settings.reader_config("bare", enable_partition_eof=False, fetch_queue_backoff_ms=10))
        name = self.settings.name(topics.UPDATES.name)
        consumer.assign([TopicPartition(name, p, 0) for p in range(topics.UPDATES.partitions)])
        size, began = 0, 0.0
        while size < self.size_bytes:
            messages = consumer.consume(16, 0.02)
            began = began or (time.perf_counter() if messages else 0.0)
            size += sum(len(message.value()) for message in messages)
        seconds = time.perf_counter() - began
        consumer.close()
        return self.size_bytes / seconds / 1e6


def measure(settings: KafkaSettings, clients: int, repeats: int) -> dict[str, float]:
    """The median of several, one beside the other."""
    keep_freed_memory()  # as the reducer has it; here for both
    found = Round(replace(settings, deployment=DEPLOYMENT), clients)
    pairs = [(found.bare(), found.reduce()) for _ in range(repeats)]
    bare, ours = (float(np.median(column)) for column in zip(*pairs, strict=True))
    return {"reducer_mb_per_s": ours, "bare_mb_per_s": bare}
