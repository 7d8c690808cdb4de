"""A real HTTP server on this machine that notes what it is sent, and answers as a test says."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

CHUNK = bytes(1 << 16)


@dataclass
class Request:
    """One that came."""

    path: str
    headers: dict[str, str]
    body: bytes


class Listener:
    """The server; `answers` are the next statuses, 204 once there are none."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: list[int] = []
        self.retry_after: list[str] = []
        self.body_bytes = 0
        self.silent = False
        self.came = threading.Condition()
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def wait_for(self, count: int, timeout_s: float) -> bool:
        """Wait until so many have come."""
        with self.came:
            return self.came.wait_for(lambda: len(self.requests) >= count, timeout_s)

    def take(self, request: Request) -> tuple[int, str]:
        with self.came:
            self.requests.append(request)
            self.came.notify_all()
            code = self.answers.pop(0) if self.answers else (200 if self.body_bytes else 204)
            return code, self.retry_after.pop(0) if self.retry_after else ""

    def hold(self) -> None:
        self._ended.wait(10)


def _handler(listener: Listener) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if listener.silent:
                listener.hold()
                return
            code, retry_after = listener.take(Request(self.path, headers, body))
            self.send_response(code)
            if retry_after:
                self.send_header("Retry-After", retry_after)
            if 300 <= code < 400:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(listener.body_bytes))
            self.end_headers()
            try:
                for _ in range(0, listener.body_bytes, len(CHUNK)):
                    self.wfile.write(CHUNK)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
