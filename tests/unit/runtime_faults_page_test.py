"""The page of faults says what the tests say."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_faults_is_what_the_tests_say() -> None:
    made = runpy.run_path(str(DOCS / "generate_faults.py"))["page"]()
    assert (DOCS / "faults.md").read_text(encoding="utf-8") == made, "run: python docs/generate_faults.py"


def test_every_fault_test_tells_a_fault_and_a_promise() -> None:
    rows = list(runpy.run_path(str(DOCS / "generate_faults.py"))["rows"]())
    assert rows
    assert all(all(cell.strip() for cell in row.strip().strip("|").split("|")) for row in rows)
