"""Counts the items of usage records with a plain Faust agent, one event a record; run by `throughput.py`.

Counts are in memory and nothing is written: this is Faust at its quickest. The clock runs from the first record to the last.

Usage: throughput_faust.py BOOTSTRAP TOPIC RECORDS
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter

import faust

from aicache.schemas.codec import Codec
from aicache.schemas.records import UsageBatch


def main() -> None:
    bootstrap, topic, records = sys.argv[1:]
    wanted, seen, began = int(records), 0, 0.0
    codec, counts = Codec(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        app = faust.App(
            f"faust-{time.time_ns()}",
            broker=f"kafka://{bootstrap}",
            store="memory://",
            datadir=folder,
            web_enabled=False,
            worker_redirect_stdouts=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            consumer_auto_offset_reset="earliest",
            value_serializer="raw",
        )

        @app.agent(app.topic(topic, value_type=bytes, value_serializer="raw"))
        async def count(stream: faust.Stream[bytes]) -> None:
            nonlocal seen, began
            async for value in stream:
                began = began or time.perf_counter()
                for event in codec.decode(value, UsageBatch).record.events:
                    counts.update(event.items)
                seen += 1
                if seen == wanted:
                    print(json.dumps({"events_per_s": (wanted - 1) / (time.perf_counter() - began)}), flush=True)
                    shutil.rmtree(folder)
                    os._exit(0)  # Faust takes what an agent raises for a fault of the agent, and goes on

        faust.Worker(app, loglevel="ERROR", quiet=True).execute_from_commandline()


if __name__ == "__main__":
    main()
