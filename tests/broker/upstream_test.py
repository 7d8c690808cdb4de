"""What upstream should mend is still there; once one of these fails, the rule that works around it can go."""

import subprocess
import sys
from pathlib import Path

import pytest

UPSTREAM = Path(__file__).parents[2] / "docs" / "upstream"
REPRODUCERS = sorted(path.name for path in UPSTREAM.glob("*.py") if path.name != "common.py")


@pytest.mark.faults
@pytest.mark.parametrize("name", REPRODUCERS)
def test_the_defect_has_not_been_mended(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(UPSTREAM / name)], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    assert "still there" in done.stdout


def test_every_reproducer_is_on_the_page() -> None:
    page = (UPSTREAM / "README.md").read_text(encoding="utf-8")
    assert [name for name in REPRODUCERS if f"`{name}`" not in page] == []
