"""Kill a charging process again and again: `python run_ledger_kills.py FOLDER KILLS`, prints what was said but not recorded.

Each child charges round after round and says so on a pipe after each, as a client sends only then; it is killed with kill -9 after
a random time. What it said must be in the file that the next one opens. Forked, so that a kill costs milliseconds.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from aicache.privacy.accounting import gaussian_rdp
from aicache.producers.ledger import Ledger, Limit

LIMIT = Limit(1e6)
COST = gaussian_rdp(0.001)
LIVE_S_MAX = 0.012


def live(folder: Path, life: int, said: int) -> None:
    ledger = Ledger(folder)
    number = 0
    while True:
        name = f"{life}-{number}"
        ledger.charge("trends", 1, name, COST, LIMIT)
        os.write(said, name.encode() + b"\n")
        number += 1


def main(folder: Path, kills: int) -> None:
    draw = random.Random(1)
    unrecorded = 0
    for life in range(kills):
        if life % 20 == 0:
            (folder / "ledger.jsonl").unlink(missing_ok=True)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            live(folder, life, write)
        os.close(write)
        time.sleep(draw.uniform(0, LIVE_S_MAX))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            said = pipe.read().split()
        ledger = Ledger(folder)
        unrecorded += sum(not ledger.has(name) for name in said)
    print(json.dumps({"kills": kills, "unrecorded": unrecorded}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
