import json
import math
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "lattice_security.py"


def test_the_parameter_sets_have_128_bits_by_a_method_that_agrees_with_kyber() -> None:
    run = subprocess.run(
        [sys.executable, str(SCRIPT), "--json"], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["safe"]
    assert found["method_agrees"]
    assert found["kyber512_bits"] == 118
    assert found["classical_bits"] >= 128
    names = {(each["name"], each["attack"]) for each in found["estimates"]}
    assert {(name, attack) for name in ("n10k", "n60k") for attack in ("primal", "dual")} <= names
    assert all(each["sigma"] == 8 for each in found["estimates"] if each["name"] != "kyber512")


def test_a_smaller_sigma_would_fail() -> None:
    """The HE-standard table admits σ = 4.5 as it is; with hints it is half of that, and core-SVP says no."""
    code = (
        "import runpy, sys; m = runpy.run_path(sys.argv[1]);"
        "print(m['primal']('small', 2048, 48.0, 4.5 / 2, 4096).classical_bits)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPT)], capture_output=True, text=True, timeout=120, check=True
    )
    assert 100 < float(run.stdout) < 128
    assert math.isfinite(float(run.stdout))
