"""A client that records one event after another and says which are acknowledged.

`python -m support.run_client SERVERS PREFIX DEPLOYMENT FOLDER LIFE`
"""

import sys
from pathlib import Path

from aicache.producers import BlockingClient, Hub, KafkaSettings

if __name__ == "__main__":
    servers, prefix, deployment, folder, life = sys.argv[1:]
    with (
        Hub(KafkaSettings(servers, prefix=prefix, deployment=deployment)) as hub,
        BlockingClient(hub, Path(folder) / "client") as client,
    ):
        for number in range(100_000):
            item = f"tag:{life}-{number}"
            client.record("used", [item])
            if client.flush().acknowledged:
                print(item, flush=True)
