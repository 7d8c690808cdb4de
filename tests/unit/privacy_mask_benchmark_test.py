import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_benchmark_starts_and_names_its_sections() -> None:
    script = BENCHMARKS / "secure_aggregation.py"
    run = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    for section in ("maths", "growth", "flower"):
        assert section in run.stdout


def test_a_bar_tells_what_it_is_held_against() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from secure_aggregation import Bar;"
        "assert Bar('k', '', '<=', 2).holds(2) and not Bar('k', '', '<=', 2).holds(2.1);"
        "assert Bar('k', '', '>=', 2).holds(2) and not Bar('k', '', '>=', 2).holds(1.9);"
        "assert Bar('k', '', 'true').holds(True) and not Bar('k', '', 'true').holds(False)"
    )
    subprocess.run([sys.executable, "-c", code, str(BENCHMARKS)], timeout=60, check=True)
