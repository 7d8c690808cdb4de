"""`Stream.take` acknowledges its events in a `finally`: also when the agent raises while it works on them.

Wanted: `take` acknowledges when the body has come to its end, and not when it was left by an exception.
"""

import sys

from common import EVENTS, TOPIC, committed, fill, make_app, reproduce, start, tell, work


def main(servers: str) -> None:
    """The worker: it can do nothing with any batch."""
    app = make_app(servers)

    @app.agent(app.topic(TOPIC, value_serializer="raw"))
    async def handle(stream):
        async for _ in stream.take(5, within=0.2):
            raise RuntimeError("cannot be processed now")

    work(app)


def check(kafka) -> None:
    """No batch was processed, so nothing may be committed."""
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
