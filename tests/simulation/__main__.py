"""`python -m tests.simulation --seeds N [--first K]`: the last line is JSON; exit code 1 if a seed failed or a planted bug was missed."""

import argparse
import json
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from simulation.run import find_planted, play

CHUNK = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    began_s = time.perf_counter()
    starts = range(arguments.first, arguments.first + arguments.seeds, CHUNK)
    counts = [min(CHUNK, arguments.first + arguments.seeds - start) for start in starts]
    faults: Counter = Counter()
    failed, opened = [], 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        planted = pool.submit(find_planted)
        for result in pool.map(play, starts, counts):
            faults += result.faults
            opened += result.rounds_opened
            for seed, why, trace in result.failed:
                failed.append(seed)
                if arguments.seeds == 1:
                    print(*trace, sep="\n")
                line = f"seed {seed} failed ({why}); replay, with a trace: python -m tests.simulation --first {seed} --seeds 1"
                print(line, flush=True)
        found = planted.result()
    missed = [name for name, seed in found.items() if seed is None]
    print(
        json.dumps(
            {
                "seeds": arguments.seeds,
                "rounds_opened": opened,
                "faults": dict(sorted(faults.items())),
                "planted_found": len(found) - len(missed),
                "planted_missed": missed,
                "failed": failed,
                "seconds": round(time.perf_counter() - began_s, 1),
            }
        )
    )
    sys.exit(1 if failed or missed else 0)


if __name__ == "__main__":
    main()
