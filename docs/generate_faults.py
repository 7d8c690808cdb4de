"""Writes docs/faults.md from the docstrings of the runtime's fault tests: `fault: what is promised.` A test holds the page to it."""

import ast
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
TESTS = DOCS.parent / "tests" / "broker"
FILES = ("runtime_conformance_test.py", "runtime_broker_faults_test.py")
HEAD = """# Faults

Generated from the tests (`python docs/generate_faults.py`). Each runs with real worker processes on a real broker, once on the direct shell
and once on the Faust shell. The oracle reads as a consumer does: every item's newest count is how often it was sent.

"Always" runs with every `make test`; of the "sweep" a tenth does, and `make faults` runs it whole.

| fault | promise | runs | test |
|---|---|---|---|
"""


def rows() -> Iterator[str]:
    """One line a test."""
    for name in FILES:
        for node in ast.parse((TESTS / name).read_text(encoding="utf-8")).body:
            told = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and told:
                fault, _, promise = told.partition(": ")
                sweep = any("faults" in ast.unparse(mark) for mark in node.decorator_list)
                yield f"| {fault} | {promise} | {'sweep' if sweep else 'always'} | `{name}::{node.name}` |\n"


def page() -> str:
    """The page."""
    return HEAD + "".join(rows())


if __name__ == "__main__":
    (DOCS / "faults.md").write_text(page(), encoding="utf-8")
