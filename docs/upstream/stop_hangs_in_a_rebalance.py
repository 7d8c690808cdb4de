"""A worker that is told to stop during a rebalance can hang for ever, where a handler of `on_partitions_assigned` commits or seeks.

The consumer's thread has stopped to take calls; it waits for the group's coordinator, which waits for the handler, which waits for
the consumer's thread. Wanted: calls into a thread that stops are refused.
"""

import signal
import subprocess
import sys
import threading

from common import TOPIC, fill, make_app, reproduce, start, tell, work

TRIES = 10
PATIENCE_S = 20.0
PARTITIONS = 4


def main(servers: str) -> None:
    """The worker: it commits where it stands, and says when it has its partitions."""
    app = make_app(servers, broker_session_timeout=2, broker_heartbeat_interval=0.4)

    @app.agent(app.topic(TOPIC, value_serializer="raw"))
    async def handle(stream):
        async for _ in stream:
            pass

    @app.on_partitions_assigned.connect
    async def assigned(_app, assigned, **_):
        for place in assigned:
            await app.consumer._commit({place: 1})
            await app.consumer.seek(place, 1)

    work(app)


def check(kafka) -> None:
    """Start another worker, and tell the first to stop while the partitions move."""
    fill(kafka, PARTITIONS)
    workers = [start(__file__, kafka.bootstrap_servers)]
    hung = False
    for number in range(TRIES):
        threading.Event().wait(4)
        workers.append(start(__file__, kafka.bootstrap_servers))
        threading.Event().wait(2.5 + number / 10)
        workers[-2].send_signal(signal.SIGTERM)
        try:
            workers[-2].wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            hung = True
            break
    for worker in workers:
        worker.kill()
        worker.wait()
    tell(hung, f"a worker did not end within {PATIENCE_S:.0f} s of SIGTERM" if hung else f"{TRIES} workers ended")


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) > 1 else reproduce(check)
