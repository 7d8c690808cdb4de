"""Writes docs/faults.md from the docstrings of the fault tests, `fault: what is promised.`, and docs/faults.json, what became of them.

`make faults` writes the JSON; a test holds the page to both.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
TESTS = DOCS.parent / "tests" / "broker"
RESULTS = DOCS / "faults.json"
FIRST = ("runtime_conformance_test.py", "runtime_broker_faults_test.py", "kills_test.py")
HEAD = """# Faults

Generated from the tests (`python docs/generate_faults.py`). Each runs with real processes on a real broker; where a test has a shell,
once on the direct one and once on the Faust one. The oracle of workers reads as a consumer does: every item's newest count is how
often it was sent, and no count ever went back. The oracle of rounds: each ended exact or aborted, none was opened twice, no member
voted twice.

"Always" runs with every `make test`; of the "sweep" a tenth does, and `make faults` runs it whole and notes what became of it: how
many cases passed, how long all of them took, and when.

| fault | promise | runs | last result | test |
|---|---|---|---|---|
"""


def rows() -> Iterator[str]:
    """One line a test."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name in (*FIRST, *sorted(path.name for path in TESTS.glob("faults_*_test.py"))):
        for node in ast.parse((TESTS / name).read_text(encoding="utf-8")).body:
            told = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and told:
                fault, _, promise = told.partition(": ")
                runs = "sweep" if any("faults" in ast.unparse(mark) for mark in node.decorator_list) else "always"
                result = result_of(results, f"tests/broker/{name}::{node.name}")
                yield f"| {fault} | {promise} | {runs} | {result} | `{name}::{node.name}` |\n"


def result_of(results: dict[str, list[Any]], test: str) -> str:
    """Of all cases of a test."""
    cases = [case for node, case in results.items() if node.partition("[")[0] == test and case[0] != "skipped"]
    if not cases:
        return "not yet run"
    passed = sum(outcome == "passed" for outcome, _, _ in cases)
    seconds = sum(seconds for _, seconds, _ in cases)
    return f"{passed} of {len(cases)} passed, {seconds:.0f} s, {max(day for _, _, day in cases)}"


def page() -> str:
    """The page."""
    return HEAD + "".join(rows())


if __name__ == "__main__":
    (DOCS / "faults.md").write_text(page(), encoding="utf-8")
