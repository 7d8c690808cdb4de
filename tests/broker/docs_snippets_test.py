"""The Python of the README runs as it stands, against a real deployment."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from aicache.local.kafka import EmbeddedKafka
from aicache.schemas import topics
from aicache.schemas.admin import create_topics
from aicache.schemas.codec import Codec
from aicache.schemas.records import Incident

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
INCIDENT = Incident(
    "aicache", "i1", "opened", "failure-rate", "op:build", "pypi:app@1.1", ["pypi:app@1.1"], 0, 0, 0.1, 0.02, "share of uses",
    0.5, 0.99, "op:build fails in 10.0% of uses with pypi:app@1.1", 100, None,
)  # fmt: skip


def snippets() -> list[str]:
    return BLOCK.findall((ROOT / "README.md").read_text())


@pytest.fixture(scope="module")
def broker() -> EmbeddedKafka:
    with EmbeddedKafka() as kafka:
        settings = kafka.settings()
        create_topics(settings.client_config())
        producer = Producer(settings.client_config())
        producer.produce(topics.ANOMALIES.name, Codec().encode(INCIDENT), b"i1")
        assert producer.flush(30) == 0
        yield kafka


@pytest.mark.parametrize("number", range(len(snippets())))
def test_a_snippet_of_the_readme_runs(number: int, broker: EmbeddedKafka, tmp_path: Path) -> None:
    code = snippets()[number].replace("localhost:9092", broker.bootstrap_servers)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "a snippet shows something"


def test_the_insights_snippet_shows_the_incident(broker: EmbeddedKafka, tmp_path: Path) -> None:
    code = snippets()[-1].replace("localhost:9092", broker.bootstrap_servers)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert INCIDENT.explanation in done.stdout
