"""A service says how it is, ends when it is told to or when it is stuck, and leaves its port free."""

import signal
import subprocess
import sys
import urllib.error
import urllib.request

import psutil
import pytest

WAIT_S = 30
CODE = """
import sys, threading
from aicache.cli import service
from aicache.cli.frame import OK
service.STUCK_S = 0.3

def body(stop, ready):
    held = threading.Event()
    if {stuck}:
        stop()
        held.wait()
    threading.Timer(0.0, ready).start()
    while not stop():
        held.wait(0.01)

import typer
try:
    service.serve("it", body, metrics_port={port})
except typer.Exit as ended:
    sys.exit(ended.exit_code)
"""


def start(*, stuck: bool = False, port: int = 0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CODE.format(stuck=stuck, port=port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def asked(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, ""


def test_a_service_that_reads_says_so_at_its_port_and_ends_with_the_signal(free_port: int) -> None:
    with start(port=free_port) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready it\n"
        assert asked(free_port, "/ready") == (200, "yes\n")
        assert asked(free_port, "/live") == (200, "yes\n")
        code, text = asked(free_port, "/metrics")
        assert code == 200
        assert "process_resident_memory_bytes" in text
        assert asked(free_port, "/else")[0] == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    assert free_port not in {used.laddr.port for used in psutil.net_connections("tcp") if used.status == "LISTEN"}


def test_a_service_that_comes_round_no_more_ends_itself() -> None:
    with start(stuck=True) as process:
        assert process.wait(WAIT_S) == 70
        assert process.stderr is not None
        assert "it is stuck" in process.stderr.read()


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])
