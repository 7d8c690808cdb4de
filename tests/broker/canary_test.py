"""Ten thousand planted secrets, in every field and in error texts: none reaches the log, one planted in the clear is found."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from aicache.local.kafka import EmbeddedKafka
from aicache.local.log_scan import scan
from aicache.privacy.errors import LocalError
from aicache.producers import BlockingClient, Hub, Rules, Situation
from aicache.schemas import topics
from aicache.schemas.admin import create_topics

CANARIES = 10_000
ALLOWED = frozenset({"pypi:numpy", "op:build", "tag:python"})
FORMS = (
    "/home/{}/project/main.py",
    "C:\\Users\\{}\\secret.txt",
    "{} Miller",
    "{}@example.org",
    "def {}(x): return x",
    "ghp_{}",
    "{}.corp.internal",
    "{}",
)


def canaries() -> list[str]:
    return [FORMS[n % len(FORMS)].format("Zq" + os.urandom(9).hex()) for n in range(CANARIES)]


def attempts(secret: str) -> Iterator[dict[str, object]]:
    """Every field that an application fills."""
    yield {"items": [secret]}
    yield {"items": [f"pypi:{secret}"]}
    yield {"items": ["op:build"], "context": [f"tag:{secret}"]}
    yield {"items": ["op:build"], "release": secret}
    yield {"items": ["op:build"], "release": f"pypi:{secret}@1.0"}
    yield {"items": ["op:build"], "release": f"pypi:numpy@{secret}"}


def test_canary_secrets_never_reach_the_log_and_one_in_the_clear_is_found(tmp_path: Path) -> None:
    secrets = canaries()
    control = f"control-{os.urandom(12).hex()}"
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        settings = kafka.settings()
        create_topics(settings.client_config())
        with (
            Hub(settings) as hub,
            BlockingClient(hub, tmp_path / "client", rules=Rules(allowed=ALLOWED)) as client,
        ):
            for number, secret in enumerate(secrets):
                field = list(attempts(secret))[number % 6]
                with pytest.raises(LocalError) as refused:
                    client.record("used", **field)  # type: ignore[arg-type]
                told = f"{refused.value} {refused.value.got} {refused.value.needed}"
                assert secret not in told, "an error quotes a secret"
            for secret in secrets[:50]:
                for word in ("language", "framework", "os_family", "task"):
                    with pytest.raises(LocalError):
                        Situation(**{word: secret})
            client.record("used", ["pypi:numpy"])
            assert len(client.flush().acknowledged) == 1
        producer = Producer(settings.client_config(compression_type="zstd"))
        producer.produce(topics.USAGE.name, b"in the clear: " + control.encode())
        assert producer.flush(30) == 0
        hits = scan(kafka.log_segments, [secret.encode() for secret in (*unique(secrets), control)])
        assert {hit.secret for hit in hits} == {CANARIES}
        assert control not in kafka.log_file.read_text(errors="replace")


def unique(secrets: list[str]) -> list[str]:
    """Only what is secret about each: its surroundings are common words that may well occur."""
    return ["Zq" + secret.split("Zq", 1)[1][:18] for secret in secrets]
