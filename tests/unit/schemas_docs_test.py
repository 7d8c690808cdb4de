"""The generated pages are committed as the program would write them."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_committed_pages_are_those_that_are_generated() -> None:
    spec = importlib.util.spec_from_file_location("generate_docs", DOCS / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stale = [name for name, text in module.pages().items() if (DOCS / name).read_text(encoding="utf-8") != text]
    assert not stale, "run `make docs`"
