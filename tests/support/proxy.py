"""A network between clients and a broker that a test can break: replies get lost, connections are cut, the broker cannot be reached.

The broker tells its clients this proxy's address; itself and the oracle take another way. Frames of Kafka's protocol pass whole: a size,
then for a request its API key, version and correlation id, for a reply the correlation id.
"""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aicache.local.kafka import EmbeddedKafka, _free_port
from aicache.producers.connection import KafkaSettings

PRODUCE, INIT_PRODUCER, END_TRANSACTION = 0, 22, 26
FRAME_MAX = 64 << 20


class Proxy:
    """Passes frames between 127.0.0.1:`port` and a broker.

    Attributes:
        lost: how many replies were swallowed.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = _free_port((target,))
        self.lost = 0
        self._open: set[socket.socket] = set()
        self._losing: dict[int, int] = {}
        self._muted = False
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.restore()

    def lose_replies(self, api_key: int, times: int) -> None:
        """The next replies to requests of a kind do not arrive: the broker has done it, the connection is gone."""
        with self._lock:
            self._losing[api_key] = times

    def still_to_lose(self, api_key: int) -> int:
        """How many of them have not come up yet."""
        return self._losing.get(api_key, 0)

    def mute(self) -> None:
        """No reply arrives any more, though the broker does what it is asked."""
        self._muted = True

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self._close_all()

    def restore(self) -> None:
        """All works again, on new connections."""
        if self._muted:
            self._muted = False
            self._close_all()
        self._losing.clear()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _close_all(self) -> None:
        with self._lock:
            held = list(self._open)
        for one in held:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self.target), 5)
                broker.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, broker}
            doomed: set[int] = set()
            for pump in (self._requests, self._replies):
                threading.Thread(target=self._run, args=(pump, client, broker, doomed), daemon=True).start()

    def _run(self, pump: object, client: socket.socket, broker: socket.socket, doomed: set[int]) -> None:
        with suppress(OSError):
            pump(client, broker, doomed)  # type: ignore[operator]
        for one in (client, broker):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            with self._lock:
                if one in self._open:
                    self._open.discard(one)
                    one.close()

    def _requests(self, client: socket.socket, broker: socket.socket, doomed: set[int]) -> None:
        while frame := _frame(client):
            api_key, _, correlation = struct.unpack_from(">hhi", frame, 4)
            with self._lock:
                if self._losing.get(api_key, 0) > 0:
                    self._losing[api_key] -= 1
                    doomed.add(correlation)
            broker.sendall(frame)

    def _replies(self, client: socket.socket, broker: socket.socket, doomed: set[int]) -> None:
        while frame := _frame(broker):
            (correlation,) = struct.unpack_from(">i", frame, 4)
            if correlation in doomed:
                self.lost += 1
                return
            if self._muted:
                self.lost += 1
                continue
            client.sendall(frame)


def _frame(source: socket.socket) -> bytes:
    """The next frame with its size; empty at the end."""
    head = _exactly(source, 4)
    if len(head) < 4:
        return b""
    (size,) = struct.unpack(">i", head)
    assert 8 <= size <= FRAME_MAX or size >= 4, size
    body = _exactly(source, size)
    return head + body if len(body) == size else b""


def _exactly(source: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = source.recv(min(size, 1 << 16))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


@contextmanager
def broker_behind_proxy() -> Iterator[tuple[EmbeddedKafka, Proxy, KafkaSettings, KafkaSettings]]:
    """A broker, the proxy before it, the way around the proxy, and the way through it."""
    outer = _free_port(())
    inner = _free_port((outer,))
    controller = _free_port((outer, inner))
    proxy = Proxy(outer)
    listeners = {"PLAINTEXT": outer, "INTERNAL": inner, "CONTROLLER": controller}
    settings = {
        "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items()),
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port},INTERNAL://127.0.0.1:{inner}",
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
        "inter.broker.listener.name": "INTERNAL",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
    }
    with EmbeddedKafka(port=outer, settings=settings) as broker:
        try:
            yield broker, proxy, KafkaSettings(f"127.0.0.1:{inner}"), KafkaSettings(f"127.0.0.1:{proxy.port}")
        finally:
            proxy.cut()
