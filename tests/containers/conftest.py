"""A Docker engine, or a reason why there is none; the images that these tests need."""

from collections.abc import Iterator

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy

from support.containers import APICURIO, KAFKA, engine_error, free_port

READY_S = 90
testcontainers_config.ryuk_disabled = True  # its image is one more to fetch; containers here end with their fixtures


@pytest.fixture(scope="session", autouse=True)
def engine(request: pytest.FixtureRequest) -> None:
    """Skips where there is no Docker; with --containers-required that is a failure."""
    error = engine_error()
    if error and request.config.getoption("--containers-required"):
        pytest.fail(f"--containers-required, and {error}")
    if error:
        pytest.skip(error)


@pytest.fixture(scope="session")
def broker(engine: None) -> Iterator[str]:
    """The bootstrap address of a Kafka in a container."""
    port = free_port()
    container = (
        DockerContainer(KAFKA)
        .with_bind_ports(9092, port)
        .with_env("KAFKA_NODE_ID", "1")
        .with_env("KAFKA_PROCESS_ROLES", "broker,controller")
        .with_env("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093")
        .with_env("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER")
        .with_env("KAFKA_LISTENERS", "PLAINTEXT://:9092,CONTROLLER://:9093")
        .with_env("KAFKA_ADVERTISED_LISTENERS", f"PLAINTEXT://localhost:{port}")
        .with_env("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT")
        .with_env("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1")
        .with_env("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1")
        .with_env("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1")
        .waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(READY_S))
    )
    with container:
        yield f"localhost:{port}"


@pytest.fixture(scope="session")
def registry_url(engine: None) -> Iterator[str]:
    """The Confluent-compatible interface of an Apicurio registry."""
    strategy = HttpWaitStrategy(8080, "/apis/ccompat/v7/subjects").for_status_code(200).with_startup_timeout(READY_S)
    container = DockerContainer(APICURIO).with_exposed_ports(8080).waiting_for(strategy)
    with container:
        yield f"http://{container.get_container_host_ip()}:{container.get_exposed_port(8080)}/apis/ccompat/v7"
