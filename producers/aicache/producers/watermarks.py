"""Where a partition begins and ends, asked until the broker can say.

A partition that was just made, or whose leader is changing, answers "not the leader" for a moment; that is no reason to give up.
Boundary: confluent-kafka, the clock.
"""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from aicache.privacy.errors import LocalError

TIMEOUT_S = 30.0
PAUSE_S = 0.05
PASSING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
}
"""`KafkaError.retriable()` is false for all of these: librdkafka sets that flag for transactions only."""


def watermarks(consumer: Consumer, topic: str, partition: int = 0, *, timeout_s: float = TIMEOUT_S) -> tuple[int, int]:
    """The first offset that is kept, and the one that the next record will get.

    Args:
        consumer: any, assigned or not.
        topic: full name.
        partition: of it.
        timeout_s: for all tries together.

    Raises:
        KafkaException: the broker refuses, or does not become ready in time.
        LocalError: it does not answer.
    """
    until_s = time.monotonic() + timeout_s
    place = TopicPartition(topic, partition)
    while True:
        try:
            found = consumer.get_watermark_offsets(place, timeout=timeout_s, cached=False)
        except KafkaException as error:
            if error.args[0].code() not in PASSING or time.monotonic() > until_s:
                raise
            time.sleep(PAUSE_S)
            continue
        if found is None:
            raise LocalError(f"the broker does not say where {topic} ends", got=None, needed="an answer in time")
        return int(found[0]), int(found[1])
