"""Grouping accuracy of log templates: the share of lines in a group that is exactly one of the true ones (Zhu et al., ICSE-SEIP 2019).

Reads `NAME/NAME_2k.log_structured.csv.gz` of loghub: columns Content and EventId.
"""

import csv
import gzip
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from aicache.producers.signals.templates import Templates

NAMES = ("HDFS", "BGL", "Hadoop")


def accuracy(path: Path) -> tuple[float, int, float]:
    """Grouping accuracy, lines, and µs of processor time a line."""
    with gzip.open(path, "rt", newline="", encoding="utf-8", errors="replace") as file:
        rows = [(row["Content"], row["EventId"]) for row in csv.DictReader(file)]
    templates = Templates(salt=b"benchmark", known=())
    start = time.process_time()
    clusters = [templates.group(line) for line, _ in rows]
    seconds = time.process_time() - start
    found, true = defaultdict(set), defaultdict(set)
    for number, (cluster, (_, event)) in enumerate(zip(clusters, rows, strict=True)):
        found[cluster].add(number)
        true[event].add(number)
    right = sum(len(lines) for lines in true.values() if found[clusters[min(lines)]] == lines)
    return right / len(rows), len(rows), 1e6 * seconds / len(rows)


def measure(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = {"benchmark": "anomalies logs"}
    for name in NAMES:
        share, lines, cost = accuracy(folder / name / f"{name}_2k.log_structured.csv.gz")
        result[name] = {"grouping_accuracy": round(share, 4), "lines": lines, "us_per_line": round(cost, 1)}
    return result
