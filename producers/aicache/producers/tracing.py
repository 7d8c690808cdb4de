"""Traces from a client's record to the insights that follow from it, in Kafka headers (W3C Trace Context).

Whatever OpenTelemetry the process has been given is used (`opentelemetry-instrument`, or an application's own set-up); without one,
nothing is traced and no header is written. A record of a client begins a trace of its own, to which the application's span links:
its ids tie no two records together, and nothing of the application's traces leaves the machine. A batch of a processor is one span
that links to the records in it, and what it writes carries it on. Spans name topics, processors, partitions and counts; nothing else.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

HEADER = "traceparent"
LINKS_MAX = 128
"""Links of one span: OpenTelemetry's own default limit."""
Headers = Sequence[tuple[str, bytes]]


@cache
def _tracer() -> Any:
    """OpenTelemetry's tracer; None where the extra `tracing` is not installed."""
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("aicache")


def record_headers(topic: str) -> Headers:
    """Headers for a record that a client is about to write: a trace of its own; none where nothing is traced."""
    tracer = _tracer()
    if tracer is None:
        return ()
    from opentelemetry import context, trace

    around = trace.get_current_span().get_span_context()
    links = [trace.Link(around)] if around.is_valid else []
    span = tracer.start_span(f"publish {topic}", context=context.Context(), kind=trace.SpanKind.PRODUCER, links=links)
    span.end()
    return _headers(span)


@contextmanager
def batch_span(
    processor: str, partition: int, inputs: Iterable[Sequence[tuple[str, bytes | None]]]
) -> Iterator[Headers]:
    """The span of a batch, around its processing; gives the headers for what it writes.

    Args:
        processor: name of the fold.
        partition: of the task.
        inputs: the headers of each input.
    """
    tracer = _tracer()
    if tracer is None:
        yield ()
        return
    from opentelemetry import trace

    found = [value for headers in inputs for name, value in headers if name == HEADER and value]
    with tracer.start_as_current_span(
        f"process {processor}",
        kind=trace.SpanKind.CONSUMER,
        links=[link for value in found[:LINKS_MAX] for link in _links(value)],
        attributes={"messaging.system": "kafka", "aicache.partition": partition, "aicache.traced_inputs": len(found)},
    ) as span:
        yield _headers(span)


def _headers(span: Any) -> Headers:
    from opentelemetry import propagate, trace

    carrier: dict[str, str] = {}
    propagate.get_global_textmap().inject(carrier, trace.set_span_in_context(span))
    return [(HEADER, carrier[HEADER].encode())] if HEADER in carrier else ()


def _links(value: bytes) -> list[Any]:
    """A link to what a header names; none where it names nothing."""
    from opentelemetry import propagate, trace

    found = propagate.get_global_textmap().extract({HEADER: value.decode("ascii", "replace")})
    named = trace.get_current_span(found).get_span_context()
    return [trace.Link(named)] if named.is_valid else []
