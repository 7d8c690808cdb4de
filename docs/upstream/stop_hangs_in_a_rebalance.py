"""A worker that is told to stop during a rebalance can hang for ever, where a handler of `on_partitions_assigned` commits or seeks.

The consumer's thread has stopped to take calls; it waits for the group's coordinator, which waits for the handler, which waits for
the consumer's thread. Wanted: calls into a thread that stops are refused.
"""

import asyncio
import signal
import subprocess
import sys

from common import TOPIC, fill, make_app, reproduce, start, tell, work

PATIENCE_S = 20.0
OPENING_S = 2.0
PARTITIONS = 4


def main(servers: str) -> None:
    """The worker: it opens what it needs for its partitions, and commits where it stands."""
    app = make_app(servers, broker_session_timeout=6, broker_heartbeat_interval=0.4, worker_redirect_stdouts=False)

    @app.agent(app.topic(TOPIC, value_serializer="raw"))
    async def handle(stream):
        async for _ in stream:
            pass

    @app.on_partitions_assigned.connect
    async def assigned(_app, assigned, **_):
        print("assigned", flush=True)
        await asyncio.sleep(OPENING_S)
        for place in assigned:
            await app.consumer._commit({place: 1})
            await app.consumer.seek(place, 1)

    work(app)


def check(kafka) -> None:
    """Start another worker, and tell the first to stop while the partitions move."""
    fill(kafka, PARTITIONS)
    first = start(__file__, kafka.bootstrap_servers)
    first.stdout.readline()
    second = start(__file__, kafka.bootstrap_servers)
    first.stdout.readline()
    first.send_signal(signal.SIGTERM)
    try:
        first.wait(PATIENCE_S)
        tell(False, "the worker ended")
    except subprocess.TimeoutExpired:
        tell(True, f"the worker did not end within {PATIENCE_S:.0f} s of SIGTERM")
    finally:
        for worker in (first, second):
            worker.kill()
            worker.wait()


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) > 1 else reproduce(check)
