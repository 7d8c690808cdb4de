"""Services as processes on a real Kafka, for broker tests: started by what they run, awaited by the line that they print."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from aicache.producers.connection import KafkaSettings

WAIT_S = 60
HEAD = """
import sys
from pathlib import Path
from aicache.producers.connection import KafkaSettings
servers, prefix, deployment, *rest = sys.argv[1:]
settings = KafkaSettings(servers, prefix=prefix, deployment=deployment)
"""
MEMBER = (
    HEAD
    + """
from aicache.streams.committee.commands import run
run(settings, Path(rest[0]))
"""
)
REDUCER = (
    HEAD
    + """
from aicache.streams.reducer.kafka import run
run(settings)
"""
)
COORDINATOR = (
    HEAD
    + """
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from aicache.streams.rounds.agents import run
from aicache.streams.rounds.enrolment import Admission
run(settings, Admission("open", 1_000, Ed25519PrivateKey.from_private_bytes(bytes.fromhex(rest[0]))))
"""
)


class Processes:
    """Starts services and ends them all."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self.kafka = kafka
        self.folder = folder
        self._all: list[subprocess.Popen[str]] = []

    def start(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        where = [self.kafka.bootstrap_servers, self.kafka.prefix, self.kafka.deployment, *arguments]
        errors = (self.folder / f"service-{len(self._all)}.log").open("w")
        with errors:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *where], stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self._all.append(process)
        return process

    def ready(self, *processes: subprocess.Popen[str]) -> None:
        for process in processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "ready " in line, (line, self.said())

    def said(self) -> str:
        """What the services have written to their error output, the last of it."""
        return "\n".join(path.read_text()[-2_000:] for path in sorted(self.folder.glob("service-*.log")))

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait(WAIT_S)

    def stop(self) -> None:
        for process in self._all:
            if process.poll() is None:
                process.terminate()
        for process in self._all:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
