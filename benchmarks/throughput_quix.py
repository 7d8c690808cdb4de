"""Counts the items of usage records with Quix Streams; run by `throughput.py` with the interpreter of Quix's environment.

As its users have it: a message is one event, counts are in its own state with a changelog, the new count goes to a topic, and
whatever can be set is left as it is. Decoding is fastavro's, as ours is. The clock runs from the first message to the last.

Usage: throughput_quix.py BOOTSTRAP TOPIC OUTPUT MESSAGES SCHEMA_FILE
"""

import io
import json
import sys
import tempfile
import time
from pathlib import Path

from fastavro import parse_schema, schemaless_reader
from quixstreams import Application, State
from quixstreams.models import Deserializer

HEADER_BYTES = 10


class Avro(Deserializer):
    """Single-object encoding of one schema."""

    def __init__(self, schema: object) -> None:
        super().__init__()
        self._schema = parse_schema(schema)

    def __call__(self, value: bytes, ctx: object) -> object:
        del ctx
        return schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), self._schema, None)


def count(value: dict, state: State) -> int:
    new = state.get("count", 0) + len(value["events"][0]["items"])
    state.set("count", new)
    return new


def main() -> None:
    bootstrap, topic, output, messages, schema = sys.argv[1:]
    wanted, seen, began, ended = int(messages), 0, 0.0, 0.0

    def processed(_topic: str, _partition: int, _offset: int) -> None:
        nonlocal seen, began, ended
        seen += 1
        if seen == 1:
            began = time.perf_counter()
        if seen == wanted:
            ended = time.perf_counter()
            app.stop()

    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            bootstrap,
            consumer_group=f"quix-{time.time_ns()}",
            auto_offset_reset="earliest",
            state_dir=folder,
            loglevel="ERROR",
            on_message_processed=processed,
        )
        source = app.topic(
            topic, key_deserializer="bytes", value_deserializer=Avro(json.loads(Path(schema).read_text()))
        )
        frame = app.dataframe(source)
        frame = frame.apply(count, stateful=True)
        frame.to_topic(app.topic(output, key_serializer="bytes", value_serializer="json"))
        app.run()
    print(json.dumps({"events_per_s": (wanted - 1) / (ended - began)}))


if __name__ == "__main__":
    main()
