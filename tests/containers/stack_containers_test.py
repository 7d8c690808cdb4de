"""The image is built, and with compose every service of a deployment becomes ready."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aicache.local.deployment import service_names
from aicache.schemas.admin import check_topics
from support.containers import compose, free_port

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
PROJECT = "aicachetest"
READY_S = 180
BUILD_S = 300


@pytest.fixture(scope="module")
def image(engine: None) -> str:
    command = ["docker", "build", "--file", "docker/Dockerfile", "--tag", "aicache", "."]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_S)
    assert built.returncode == 0, built.stdout[-3_000:] + built.stderr[-3_000:]
    return "aicache"


@pytest.fixture(scope="module")
def stack(image: str) -> Iterator[int]:
    """The whole deployment; gives the port of its Kafka."""
    port = free_port()
    words = [*compose(), "--project-name", PROJECT, "--file", str(ROOT / "docker/compose.yaml")]
    environment = {**os.environ, "KAFKA_PORT": str(port)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*words, *arguments], env=environment, capture_output=True, text=True, timeout=READY_S)

    try:
        up = run("up", "--detach")
        assert up.returncode == 0, up.stdout[-3_000:] + up.stderr[-3_000:] + run("logs", "--tail", "20").stdout[-6_000:]
        yield port
    finally:
        run("down", "--volumes", "--timeout", "5")


def state_of(service: str) -> str:
    """The health of a service's container."""
    labels = (f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}")
    filters = [word for label in labels for word in ("--filter", f"label={label}")]
    command = ["docker", "ps", "--all", "--quiet", *filters]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    if not listed.stdout.split():
        return "missing"
    found = subprocess.run(["docker", "inspect", listed.stdout.split()[0]], capture_output=True, text=True, check=True)
    return str(json.loads(found.stdout)[0]["State"]["Health"]["Status"])


def test_the_image_runs_as_nobody_special_and_has_a_health_check(image: str) -> None:
    shown = subprocess.run(["docker", "inspect", image], capture_output=True, text=True, check=True)
    config = json.loads(shown.stdout)[0]["Config"]
    assert config["User"] == "aicache"
    assert config["Healthcheck"]["Test"] == ["CMD", "healthcheck"]


def test_every_service_becomes_ready(stack: int) -> None:
    names = service_names(5)
    until = time.monotonic() + READY_S
    states = {name: state_of(name) for name in names}
    while set(states.values()) != {"healthy"} and time.monotonic() < until:
        states = {name: state_of(name) for name in names}  # each look takes the docker command's time
    assert set(states.values()) == {"healthy"}, states
    assert check_topics({"bootstrap.servers": f"localhost:{stack}"}) == []
