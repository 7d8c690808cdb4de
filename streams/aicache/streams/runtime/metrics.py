"""Metrics and health of one worker: Prometheus text on /metrics, /live and /ready for orchestrators, on 127.0.0.1.

The names are a promise (docs/runtime.md); labels are processor, topic and partition, and the fixed reasons of dead letters: never
a key, a client or a value. `/live` fails when the worker should be started again, `/ready` until it holds its partitions.
Boundary: one listening socket and its thread.
"""

import threading
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

HOST = "127.0.0.1"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Health:
    """Whether a service lives and reads, and what its process uses (memory, processor time, open files)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.live = True
        self.ready = False
        ProcessCollector(registry=self.registry)


class Metrics(Health):
    """What one worker tells of itself.

    Args:
        processor: name of the fold.
    """

    def __init__(self, processor: str) -> None:
        super().__init__()
        self.processor = processor
        task, place = ["processor", "partition"], ["processor", "topic", "partition"]
        self._inputs = self._counter("inputs", "Inputs processed.", task)
        self._batches = self._counter("batches", "Transactions committed for a batch of inputs.", task)
        self._dead = self._counter("dead_letters", "Inputs set aside.", ["processor", "reason"])
        self._fenced = self._counter("fenced", "Partitions given up to another worker.", ["processor"])
        self._seconds = Histogram(
            "aicache_worker_batch_seconds",
            "From a batch in hand to its transaction committed.",
            ["processor"],
            buckets=SECONDS,
            registry=self.registry,
        ).labels(processor)
        self._partitions = self._gauge("partitions", "Partitions held.", ["processor"])
        self._position = self._gauge("position", "Next offset to read.", place)
        self._lag = self._gauge("lag", "Records that wait.", place)
        self._skew = self._gauge("event_skew_seconds", "Age of the newest input when it was processed.", task)
        self._state = self._counter("state_changes", "State keys written.", task)
        self._loading = self._gauge("load_seconds", "How long opening a partition took.", task)
        self._partitions.labels(processor).set(0)

    def _counter(self, name: str, told: str, labels: list[str]) -> Counter:
        return Counter(f"aicache_worker_{name}", told, labels, registry=self.registry)

    def _gauge(self, name: str, told: str, labels: list[str]) -> Gauge:
        return Gauge(f"aicache_worker_{name}", told, labels, registry=self.registry)

    def batch(self, partition: int, inputs: int, seconds: float) -> None:
        """A batch was committed."""
        self._inputs.labels(self.processor, partition).inc(inputs)
        self._batches.labels(self.processor, partition).inc()
        self._seconds.observe(seconds)

    def step(self, partition: int, *, reasons: Iterable[str], changes: int, skew_ms: int) -> None:
        """What a committed batch has led to."""
        for reason in reasons:
            self._dead.labels(self.processor, reason).inc()
        self._state.labels(self.processor, partition).inc(changes)
        self._skew.labels(self.processor, partition).set(skew_ms / 1_000)

    def opened(self, partition: int, seconds: float) -> None:
        """A partition was opened."""
        self._loading.labels(self.processor, partition).set(seconds)

    def fenced(self) -> None:
        """A partition was given up to another worker."""
        self._fenced.labels(self.processor).inc()

    def held(self, partitions: Iterable[int]) -> None:
        """What is held now."""
        self._partitions.labels(self.processor).set(len(list(partitions)))

    def places(self, positions: Mapping[tuple[str, int], int], ends: Mapping[tuple[str, int], int]) -> None:
        """Where reading stands; what is not held any more is told no longer."""
        self._position.clear()
        self._lag.clear()
        for (topic, partition), position in positions.items():
            self._position.labels(self.processor, topic, partition).set(position)
            if (topic, partition) in ends:
                self._lag.labels(self.processor, topic, partition).set(max(0, ends[topic, partition] - position))


def names(metrics: Metrics) -> set[str]:
    """The names of our own that are exported, as Prometheus sees them, without the suffixes of a histogram."""
    found = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}
    return {name for name in found if name.startswith("aicache_")}


class MetricsServer:
    """Serves a service's metrics and health until it is closed.

    Args:
        health: of the service; a worker's are its metrics.
        port: on 127.0.0.1; 0: any free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, health: Health, port: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, kind, body = _answer(health, self.path)
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the name that http.server calls
                del format, args

        self._server = ThreadingHTTPServer((HOST, port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _answer(health: Health, path: str) -> tuple[int, str, bytes]:
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, generate_latest(health.registry)
    states = {"/live": health.live, "/ready": health.ready and health.live}
    if path not in states:
        return 404, "text/plain", b"/metrics, /live or /ready\n"
    return (200, "text/plain", b"yes\n") if states[path] else (503, "text/plain", b"no\n")
