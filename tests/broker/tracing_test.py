"""A trace goes from a client's record through a processor's batch to the insight that follows, and tells nothing else."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aicache.producers import tracing
from aicache.producers.connection import KafkaSettings
from aicache.producers.kafka import Hub
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.streams.runtime.direct import DirectShell
from support.counting import Counting, usage
from support.workers import create_counting_topics


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", lambda: provider.get_tracer("aicache"))
    yield exporter
    provider.shutdown()


def process(kafka: KafkaSettings, records: int) -> None:
    """Count so many records."""
    seen: list[int] = []
    shell = DirectShell(Counting(), kafka, on_batch=lambda _partition, inputs, _seconds: seen.append(inputs))
    shell.run(lambda: sum(seen) >= records)


def headers_of(kafka: KafkaSettings, topic: topics.Topic, count: int) -> list[dict[str, bytes]]:
    consumer = Consumer(kafka.reader_config("test"))
    consumer.assign([TopicPartition(kafka.name(topic.name), p, 0) for p in range(topic.partitions)])
    found: list[dict[str, bytes]] = []
    while len(found) < count:
        found += [dict(message.headers() or ()) for message in consumer.consume(100, 0.1) if not message.error()]
    consumer.close()
    return found


def test_an_insight_leads_back_to_the_client_that_it_follows_from(
    kafka: KafkaSettings, spans: InMemorySpanExporter
) -> None:
    create_counting_topics(kafka)
    create_topics(kafka.client_config(), kafka.prefix)
    with Hub(kafka, tracing=True) as hub, tracing._tracer().start_as_current_span("app") as app:
        places = [hub.publish(topics.USAGE, b"k", usage([f"item:{n}"])) for n in range(2)]
        assert all(place.result(30) for place in places)
    process(kafka, 2)
    outputs = headers_of(kafka, topics.TRENDS, 2)
    published = [span for span in spans.get_finished_spans() if span.name == "publish aicache.usage"]
    batches = [span for span in spans.get_finished_spans() if span.name == f"process {Counting.name}"]
    traces = {ids(span)[0] for span in (*published, app)}
    assert len(traces) == 3, "records share no trace with each other or with the application"
    assert [ids(link) for span in published for link in span.links] == [ids(app)] * 2
    assert {ids(link) for span in batches for link in span.links} == {ids(span) for span in published}
    assert {written(header["traceparent"]) for header in outputs} == {ids(span) for span in batches}


def test_spans_hold_no_item_no_name_and_no_pseudonym(kafka: KafkaSettings, spans: InMemorySpanExporter) -> None:
    create_counting_topics(kafka)
    create_topics(kafka.client_config(), kafka.prefix)
    with Hub(kafka, tracing=True) as hub:
        assert hub.publish(topics.USAGE, b"the-key", usage(["item:the-item"], pseudonym=7)).result(30)
    process(kafka, 1)
    told = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "process" in told
    assert not [word for word in ("the-key", "the-item", usage([], pseudonym=7).pseudonym.hex()) if word in told]


def test_nothing_is_written_where_nothing_is_traced(kafka: KafkaSettings) -> None:
    create_counting_topics(kafka)
    create_topics(kafka.client_config(), kafka.prefix)
    with Hub(kafka) as hub:
        assert hub.publish(topics.USAGE, b"k", usage(["item:1"])).result(30)
    process(kafka, 1)
    assert headers_of(kafka, topics.USAGE, 1) == [{}]
    assert headers_of(kafka, topics.TRENDS, 1) == [{}]


def ids(of: ReadableSpan | trace.Link) -> tuple[int, int]:
    context = of.context
    assert context is not None
    return context.trace_id, context.span_id


def written(header: bytes) -> tuple[int, int]:
    """The ids in a `traceparent`."""
    _, trace_id, span_id, _ = header.decode().split("-")
    return int(trace_id, 16), int(span_id, 16)
