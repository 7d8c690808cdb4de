"""From the log to the address: a consumer that commits an incident's offset once it has arrived, or never will.

At least once: a process that ends between the two sends again, with the same id. Each partition in order. What will not arrive is
counted and written to the dead letters (`aicache dead-letters list --processor webhook`), so that one bad record holds nothing up.
A group that has never read begins at the end of the log, and commits that at once. Boundary: confluent-kafka, through the sender HTTP.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from aicache.privacy.errors import RemoteError
from aicache.producers.connection import KafkaSettings
from aicache.producers.watermarks import watermarks
from aicache.schemas import topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import DeadLetter, Incident
from aicache.streams.runtime.logs import log
from aicache.streams.webhook.event import event_of
from aicache.streams.webhook.sending import Sender

PROCESSOR = "webhook"
POLL_S = 0.5
ANSWER_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Counts:
    """What became of the records so far.

    Attributes:
        arrived: sent, and taken.
        left_out: under the least severity.
        dead: cannot be sent, or were not taken.
        attempts: requests.
    """

    arrived: int = 0
    left_out: int = 0
    dead: int = 0
    attempts: int = 0


class Webhook:
    """The service.

    Args:
        settings: how to reach Kafka.
        sender: sends an event.
        group: of consumers; each group gets every incident.
        severity_min: incidents below it are left out, but for the end of one: it may have been above.
        from_beginning: where a group begins that has never read: at the log's beginning instead of its end.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        sender: Sender,
        *,
        group: str = PROCESSOR,
        severity_min: float = 0.0,
        from_beginning: bool = False,
    ) -> None:
        self.counts = Counts()
        self._settings = settings
        self._sender = sender
        self._severity_min = severity_min
        self._from_beginning = from_beginning
        self._codec = Codec()
        self._topic = settings.name(topics.ANOMALIES.name)
        self._consumer = Consumer(
            settings.client_config(
                client_id=f"aicache-{PROCESSOR}",
                group_id=settings.name(f"aicache-{group}"),
                enable_auto_commit=False,
                enable_auto_offset_store=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
            )
        )

    def run(self, stop: Callable[[], bool], on_ready: Callable[[], None] = lambda: None) -> None:
        """Until told to stop.

        Raises:
            KafkaException: Kafka is away, or has not committed; a supervisor starts the process again.
        """
        told = False

        def assigned(consumer: Consumer, places: list[TopicPartition]) -> None:
            nonlocal told
            consumer.assign(self._begin(places))
            if not told:
                told = True
                on_ready()

        self._consumer.subscribe([self._topic], on_assign=assigned)
        try:
            while not stop():
                message = self._consumer.poll(POLL_S)
                if message is not None and not self._take(message, stop):
                    return
        finally:
            self._consumer.close()

    def _begin(self, places: list[TopicPartition]) -> list[TopicPartition]:
        """Where to read on; a group that has read nothing yet commits where it begins, so that a restart misses nothing."""
        new = []
        known = self._consumer.committed(places, timeout=ANSWER_TIMEOUT_S)
        for place in known:
            if place.offset == OFFSET_INVALID:
                low, high = watermarks(self._consumer, place.topic, place.partition)
                place.offset = low if self._from_beginning else high
                new.append(place)
        if new:
            self._consumer.commit(offsets=new, asynchronous=False)
        return known

    def _take(self, message: Message, stop: Callable[[], bool]) -> bool:
        """Bring one record to its end; whether it got there before the service was told to stop."""
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return True
            raise KafkaException(error)
        try:
            incident = self._codec.decode(message.value() or b"", Incident).record
            if incident.severity < self._severity_min and incident.status != "resolved":
                self.counts.left_out += 1
            else:
                told: Iterable[tuple[str, bytes | None]] = message.headers() or ()  # type: ignore[assignment]
                headers = {name: value or b"" for name, value in told}
                sent = self._sender.send(event_of(headers, incident), stop)
                if sent is None:
                    return False
                self.counts.attempts += sent.attempts
                if not sent.arrived:
                    raise RemoteError(f"not taken after {sent.attempts} attempts", reason=sent.answer)
                self.counts.arrived += 1
        except RemoteError as problem:
            self._give_up(message, problem)
        self._consumer.commit(message=message, asynchronous=False)
        return True

    def _give_up(self, message: Message, problem: RemoteError) -> None:
        self.counts.dead += 1
        topic, partition, offset = topics.ANOMALIES.name, message.partition() or 0, message.offset() or 0
        log("not delivered", processor=PROCESSOR, partition=partition, offset=offset, reason=problem.reason)
        letter = DeadLetter(
            deployment=self._settings.deployment,
            processor=PROCESSOR,
            topic=topic,
            partition=partition,
            offset=offset,
            timestamp_ms=message.timestamp()[1],
            reason=problem.reason,
            detail=str(problem),
            size_bytes=len(message.value() or b""),
        )
        failed: list[KafkaError] = []
        producer = Producer(self._settings.client_config(client_id=f"aicache-{PROCESSOR}", acks="all"))
        producer.produce(
            self._settings.name(topics.DEAD_LETTERS.name),
            self._codec.encode(letter),
            f"{topic}/{partition}/{offset}/{PROCESSOR}".encode(),
            on_delivery=lambda error, _: failed.append(error) if error is not None else None,
        )
        if producer.flush(ANSWER_TIMEOUT_S) or failed:
            raise KafkaException(failed[0] if failed else KafkaError(KafkaError._MSG_TIMED_OUT))
