"""Kill a charging process again and again: `python run_ledger_kills.py FOLDER KILLS`, prints what was said but not recorded.

Each child charges round after round and says so on a pipe after each, as a client sends only then; it is killed with kill -9 after
a random time. What it said must be in the file that the next one opens. The file is written anew every few charges, and a charge is
ten days after the one before, so windows get over and are written together; rounds that are no longer named must still be counted.
Forked, so that a kill costs milliseconds.
"""

import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from aicache.privacy.accounting import gaussian_rdp
from aicache.producers import ledger as ledgers
from aicache.producers.ledger import Ledger, Limit
from aicache.producers.ledger_lines import DAY_MS

LIMIT = Limit(1e6)
COST = gaussian_rdp(0.001)
LIVE_S_MAX = 0.012
FIRST_CHARGE_S_MAX = 10.0
NAMED_MS = 30 * DAY_MS
"""So long a round is certainly kept by its name."""
ledgers.COMPACT_BYTES = 2_000


def live(folder: Path, life: int, start_ms: int, said: int) -> None:
    ledger, known = Ledger(folder), 0
    number = 0
    while True:
        now_ms = start_ms + 10 * DAY_MS * number
        ledger.charge("trends", now_ms, f"{life}-{number}", COST, LIMIT)
        anew, known = int(ledger._compact_end != known), ledger._compact_end
        os.write(said, f"{life}-{number} {now_ms} {anew}\n".encode())
        number += 1


def total(ledger: Ledger) -> int:
    earlier = ledger.earlier()
    return sum(entry.rounds for entry in ledger.spent()) + (earlier.rounds if earlier else 0)


def main(folder: Path, kills: int) -> None:
    draw = random.Random(1)
    unrecorded = lost = anew = counted = 0
    now_ms = 1
    for life in range(kills):
        if life % 50 == 0:
            (folder / "ledger.jsonl").unlink(missing_ok=True)
            counted = 0
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            live(folder, life, now_ms, write)
        os.close(write)
        if life % 2:  # however busy the machine is, half of them have charged something
            select.select([read], [], [], FIRST_CHARGE_S_MAX)
        time.sleep(draw.uniform(0, LIVE_S_MAX))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            said = [line.split() for line in pipe.read().splitlines()]
        ledger = Ledger(folder)
        now_ms = max([now_ms, *(int(when) for _, when, _ in said)])
        unrecorded += sum(not ledger.has(name) for name, when, _ in said if int(when) > now_ms - NAMED_MS)
        counted += len(said)
        lost += total(ledger) < counted
        counted = total(ledger)  # one more than was said, where the kill came between charging and saying
        anew += sum(int(written) for _, _, written in said)
    print(json.dumps({"kills": kills, "unrecorded": unrecorded, "lost": lost, "written_anew": anew}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
