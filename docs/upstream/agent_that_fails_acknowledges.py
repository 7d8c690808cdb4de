"""An agent that raises has acknowledged the event that it failed on: after a restart it is not delivered again.

`at_least_once` promises otherwise. Wanted: the event stays unacknowledged, or the worker ends.
"""

import sys

from common import EVENTS, TOPIC, committed, fill, make_app, reproduce, start, tell, work


def main(servers: str) -> None:
    """The worker: it can do nothing with any event."""
    app = make_app(servers)

    @app.agent(app.topic(TOPIC, value_serializer="raw"))
    async def handle(stream):
        async for _ in stream:
            raise RuntimeError("cannot be processed now")

    work(app)


def check(kafka) -> None:
    """No event was processed, so nothing may be committed."""
    fill(kafka)
    worker = start(__file__, kafka.bootstrap_servers)
    try:
        offset = committed(kafka)
    finally:
        worker.kill()
        worker.wait()
    tell(offset > 0, f"none of {EVENTS} events was processed, and the group has committed {offset}")


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) > 1 else reproduce(check)
