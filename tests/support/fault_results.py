"""Keeps what became of each test in a file, for docs/faults.md: `pytest --results FILE` adds to what is there."""

import json
import time
from pathlib import Path

import pytest


class Results:
    """A plugin: outcome, seconds and day of every test that ran."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, tuple[str, float, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome, seconds, _ = self.found.get(report.nodeid, ("passed", 0.0, ""))
        if report.outcome != "passed":
            outcome = report.outcome
        day = time.strftime("%Y-%m-%d", time.gmtime())
        self.found[report.nodeid] = (outcome, round(seconds + report.duration, 1), day)

    def pytest_sessionfinish(self) -> None:
        before = json.loads(self.path.read_text()) if self.path.exists() else {}
        lines = {**before, **self.found}
        self.path.write_text(json.dumps(dict(sorted(lines.items())), indent=0, ensure_ascii=False) + "\n")
