"""Runs every benchmark and prints the JSON line of each.

usage: run.py [DATA_FOLDER]

DATA_FOLDER has the public data sets in folders of their own (`ask-ubuntu-tags`, `ml-100k`, `app-libraries`, `nab`, `loghub`);
benchmarks that need one of them are left out without it.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ALONE = ("secure_aggregation.py", "throughput.py", "latency.py", "recovery.py")


def commands(data: Path | None) -> list[list[str]]:
    """The command lines, without the interpreter."""
    found = [[name] for name in ALONE if (HERE / name).exists()]
    found.append(["privacy.py", *([str(data / "ask-ubuntu-tags")] if data else [])])
    if data is not None and (HERE / "anomalies.py").exists():
        found.append(["anomalies.py", "nab", str(data / "nab"), "--out", "nab-scores"])
    return found


def main() -> None:
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    data = Path(sys.argv[1]).absolute() if len(sys.argv) == 2 else None
    failed = 0
    for command in commands(data):
        print(" ".join(command), file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, str(HERE / command[0]), *command[1:], "--json"], check=False)
        failed += done.returncode != 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
