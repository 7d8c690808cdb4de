"""A schema registry as a process, as far as aicache asks one: `python -m support.run_registry PORT`; what it holds goes with it.

The same schemas registered in the same order get the same ids again.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SCHEMAS: list[tuple[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/config":
            return self.answer(200, {"compatibilityLevel": "FULL_TRANSITIVE"})
        number = int(self.path.rpartition("/")[2])
        found = 1 <= number <= len(SCHEMAS)
        return self.answer(200, {"schema": SCHEMAS[number - 1][1]}) if found else self.answer(404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        entry = (self.path.split("/")[2], body["schema"])
        if entry not in SCHEMAS:
            if not self.path.endswith("/versions"):
                return self.answer(404, {})
            SCHEMAS.append(entry)
        return self.answer(200, {"id": SCHEMAS.index(entry) + 1})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, {})

    def answer(self, code: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(f"ready registry {server.server_port}", flush=True)
    server.serve_forever()
