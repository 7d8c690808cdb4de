"""Measures the detectors of anomalies; each sub-command prints its figures, with --json as one JSON line.

usage: anomalies.py nab NAB_DIR --out DIR [--alarms DIR2] [--json]
       anomalies.py columns | shifts | counts | release | patterns | kafka [--runs N] [--json]
       anomalies.py logs LOGHUB_DIR [--json]

nab: scores every series of a folder laid out as the Numenta Anomaly Benchmark's. The detector sees one value after the other, and the
length of the series only through the probation that the benchmark defines; one set of parameters for all. Times are the processor's.
"""

import argparse
import csv
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from aicache.streams.anomalies.detectors.novelty import ALARM, WindowNovelty
from aicache.streams.anomalies.detectors.novelty_columns import WindowNoveltyColumns

PROBATION, PROBATION_ROWS_MAX = 0.15, 5_000


def values(path: Path) -> list[float]:
    """The numbers of a series; what is missing or no number counts as the one before."""
    found: list[float] = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                value = float(row["value"])
            except (TypeError, ValueError):
                value = float("nan")
            found.append(value if np.isfinite(value) else (found[-1] if found else 0.0))
    return found


def write(path: Path, scores: list[float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["anomaly_score"])
        writer.writerows([score] for score in scores)


def nab(folder: Path, out: Path, alarms: Path | None) -> dict[str, Any]:
    paths = sorted((folder / "data").glob("*/*.csv"))
    points = fired = 0
    seconds = 0.0
    for path in paths:
        series = values(path)
        detector = WindowNovelty(warm_up=max(1, int(PROBATION * min(len(series), PROBATION_ROWS_MAX))))
        start = time.process_time()
        scores = [detector.update(value) for value in series]
        seconds += time.process_time() - start
        points += len(series)
        name = f"{path.parent.name}/{path.name}"
        write(out / name, scores)
        if alarms is not None:
            write(alarms / name, [float(score > ALARM) for score in scores])
        fired += sum(score > ALARM for score in scores)
    return {
        "benchmark": "anomalies nab",
        "series": len(paths),
        "points": points,
        "alarms": fired,
        "threshold": ALARM,
        "us_per_point": round(1e6 * seconds / max(1, points), 2),
    }


def columns(series: int = 1_000, points: int = 4_000) -> dict[str, Any]:
    rows = np.random.default_rng(1).normal(size=(points, series))
    detector = WindowNoveltyColumns(series, warm_up=points * 3 // 20)
    start = time.process_time()
    for row in rows:
        detector.update(row)
    seconds = time.process_time() - start
    return {
        "benchmark": "anomalies columns",
        "series": series,
        "points": series * points,
        "us_per_point": round(1e6 * seconds / (series * points), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("nab")
    one.add_argument("folder", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--alarms", type=Path)
    commands.add_parser("columns")
    for name in ("shifts", "counts", "release", "patterns", "kafka"):
        commands.add_parser(name).add_argument("--runs", type=int)
    commands.add_parser("logs").add_argument("folder", type=Path)
    for command in commands.choices.values():
        command.add_argument("--json", action="store_true", help="one JSON line")
    given = parser.parse_args()
    if given.command == "nab":
        result = nab(given.folder, given.out, given.alarms)
    elif given.command == "columns":
        result = columns()
    else:
        sys.path.insert(0, str(Path(__file__).parent))
        module = __import__(f"anomalies_{given.command}")
        result = module.measure(given.folder if given.command == "logs" else given.runs)
    if given.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:>24}  {value}")


if __name__ == "__main__":
    main()
