"""The scan of log segments finds what it must, however it is packed, and nothing else."""

import base64
import secrets
from collections.abc import Callable

import numpy as np
import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from aicache.local.kafka import EmbeddedKafka
from aicache.local.log_scan import Needles, scan
from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "zstd", "snappy"])
def test_a_secret_is_found_in_a_compressed_record(
    embedded_kafka: EmbeddedKafka, kafka: KafkaSettings, create_topic: Callable[..., str], compression: str
) -> None:
    planted, absent = secrets.token_hex(16).encode(), secrets.token_hex(16).encode()
    topic = create_topic("scan")
    producer = Producer(kafka.client_config(compression_type=compression))
    for _ in range(50):
        producer.produce(topic, b"repeated " * 30)
    producer.produce(topic, b"repeated " * 20 + planted, headers=[("trace", b"plain")])
    producer.flush(10)
    hits = scan(embedded_kafka.log_segments, [planted, absent])
    assert {hit.secret for hit in hits} == {0}
    assert any(hit.place.startswith(topic) and "@" in hit.place for hit in hits)


def test_a_secret_is_found_in_keys_and_headers(
    embedded_kafka: EmbeddedKafka, kafka: KafkaSettings, create_topic: Callable[..., str]
) -> None:
    in_key, in_header = secrets.token_hex(16).encode(), secrets.token_hex(16).encode()
    producer = Producer(kafka.client_config(compression_type="zstd"))
    producer.produce(create_topic("scan"), b"value", key=in_key, headers=[("trace", in_header)])
    producer.flush(10)
    assert {hit.secret for hit in scan(embedded_kafka.log_segments, [in_key, in_header])} == {0, 1}


@given(st.binary(min_size=12, max_size=40), st.binary(max_size=30), st.sampled_from(["plain", "hex", "base64"]))
def test_a_secret_is_found_wherever_it_stands_in_plain_encodings(secret: bytes, before: bytes, encoding: str) -> None:
    packed = {
        "plain": before + secret,
        "hex": before + secret.hex().encode(),
        "base64": base64.b64encode(before + secret + b"after"),
    }
    if encoding != "base64" or len(secret) >= 16:
        assert Needles([secret]).find(packed[encoding]) == {0}


def test_eight_bytes_of_a_secret_suffice_and_seven_do_not() -> None:
    secret = b"correct horse battery"
    assert Needles([secret]).find(b"xx" + secret[5:13] + b"yy") == {0}
    assert Needles([secret]).find(b"xx" + secret[5:12] + b"\x00yy") == set()


def test_eight_letters_in_utf_16_are_found_and_four_numbers_that_spell_some_of_them_are_not() -> None:
    secret = b"Secretmnpqrstvwxyz"
    assert Needles([secret]).find(b"xx" + secret[4:12].decode().encode("utf-16-le") + b"yy") == {0}
    numbers = np.frombuffer(secret[6:10], np.uint8).astype("<i2")  # as a snapshot keeps small ones
    assert Needles([secret]).find(b"xx" + numbers.tobytes() + b"yy") == set()


def test_a_secret_too_short_to_look_for_is_refused() -> None:
    with pytest.raises(LocalError, match="too short"):
        Needles([b"short"])
