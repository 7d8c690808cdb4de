"""The benchmark of anomalies as a stranger runs it: on series that nobody has seen, in a fresh folder, without labels."""

import csv
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def write(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", "value"])
        writer.writerows([f"2026-01-01 00:{row // 60 % 60:02}:{row % 60:02}", value] for row, value in enumerate(rows))


def read(path: Path) -> list[float]:
    with path.open(newline="") as file:
        return [float(row["anomaly_score"]) for row in csv.DictReader(file)]


def run(data: Path, out: Path, alarms: Path) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / "anomalies.py"), "nab", str(data), "--out", str(out)]
    done = subprocess.run(
        [*command, "--alarms", str(alarms), "--json"], capture_output=True, check=True, cwd=out.parent
    )
    (line,) = done.stdout.decode().splitlines()
    return dict(json.loads(line))


def test_every_series_of_a_folder_is_scored_row_by_row_without_labels_or_future(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    spiky = random.normal(10, 1, 6_000)
    spiky[5_500] = 60
    data = tmp_path / "given" / "data"
    write(data / "one" / "spiky.csv", spiky.tolist())
    write(data / "one" / "cut.csv", spiky[:5_600].tolist())  # probation is 750 rows of both
    write(data / "two" / "flat.csv", [5] * 300)
    write(data / "two" / "gaps.csv", [1.0, "", "nan", "?"] * 100)
    write(data / "two" / "tiny.csv", [1.0])
    write(data / "two" / "empty.csv", [])
    out, alarms = tmp_path / "out", tmp_path / "alarms"
    told = run(tmp_path / "given", out, alarms)
    lengths = {path.relative_to(data): len(path.read_text().splitlines()) - 1 for path in data.glob("*/*.csv")}
    for name, length in lengths.items():
        scores, fired = read(out / name), read(alarms / name)
        assert len(scores) == len(fired) == length
        assert all(0 <= score <= 1 for score in scores)
        assert fired == [float(score > told["threshold"]) for score in scores]
    assert read(alarms / "one" / "spiky.csv")[5_500] == 1.0
    assert read(out / "one" / "cut.csv") == read(out / "one" / "spiky.csv")[:5_600]
    assert not any(read(alarms / "two" / "flat.csv"))
    assert (told["series"], told["points"]) == (6, sum(lengths.values()))
    assert told["us_per_point"] > 0


def test_running_all_benchmarks_writes_only_into_a_scratch_folder(tmp_path: Path) -> None:
    benchmarks = runpy.run_path(str(BENCHMARKS / "run.py"))
    for folder in ("nab", "loghub", "ask-ubuntu-tags"):
        (tmp_path / folder).mkdir()
    scratch = tmp_path / "scratch"
    commands = benchmarks["commands"](tmp_path, scratch)
    anomalies = [command[1] for command in commands if command[0] == "anomalies.py"]
    assert anomalies == ["columns", "shifts", "counts", "release", "patterns", "kafka", "nab", "logs"]
    written = [
        command[place + 1]
        for command in commands
        for place, word in enumerate(command)
        if word in ("--out", "--alarms")
    ]
    assert all(Path(path).parent == scratch for path in written)
    assert len(written) == 2
    alone = benchmarks["commands"](None, scratch)
    assert all(str(tmp_path) not in " ".join(command) for command in alone)
