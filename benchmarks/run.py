"""Runs every benchmark and prints the JSON line of each.

usage: run.py [DATA_FOLDER]

DATA_FOLDER has the public data sets in folders of their own (`ask-ubuntu-tags`, `ml-100k`, `app-libraries`, `nab`, `loghub`);
benchmarks that need one of them are left out without it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ALONE = (
    ["secure_aggregation.py"],
    ["throughput.py"],
    ["latency.py"],
    ["recovery.py"],
    ["scale_out.py"],
    ["recommendations_throughput.py"],
    ["bandit.py"],
    *(["anomalies.py", part] for part in ("columns", "shifts", "counts", "release", "patterns", "kafka")),
)


def commands(data: Path | None, scratch: Path) -> list[list[str]]:
    """The command lines, without the interpreter; what they write goes to the scratch folder."""
    tags = data / "ask-ubuntu-tags" if data else None
    found = [*ALONE, ["privacy.py", *([str(tags)] if tags and tags.is_dir() else [])]]
    if data is not None and (data / "nab").is_dir():
        found.append(
            [
                "anomalies.py",
                "nab",
                str(data / "nab"),
                "--out",
                str(scratch / "scores"),
                "--alarms",
                str(scratch / "alarms"),
            ]
        )
    if data is not None and (data / "loghub").is_dir():
        found.append(["anomalies.py", "logs", str(data / "loghub")])
    return found


def recommendations(data: Path, scratch: Path) -> list[list[str]]:
    """The command lines of recommend.py, whose files are made first."""
    protocols = {
        "ml-100k": ["prequential"],
        "ask-ubuntu-tags": ["hold-one", "--epsilon", "4"],
        "app-libraries": ["hidden", "--hidden", str(scratch / "app-libraries-hidden.csv"), "--epsilon", "4"],
    }
    found = []
    for name, protocol in protocols.items():
        if (data / name).is_dir():
            file = str(scratch / f"{name}.csv")
            subprocess.run([sys.executable, str(HERE / "adapters.py"), name, str(data / name), file], check=True)
            found.append(["recommend.py", file, "--protocol", *protocol])
    return found


def main() -> None:
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    data = Path(sys.argv[1]).absolute() if len(sys.argv) == 2 else None
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for command in [*commands(data, Path(scratch)), *(recommendations(data, Path(scratch)) if data else [])]:
            print(" ".join(command), file=sys.stderr, flush=True)
            done = subprocess.run([sys.executable, str(HERE / command[0]), *command[1:], "--json"], check=False)
            failed += done.returncode != 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
