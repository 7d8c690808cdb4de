"""Environments of their own for packages that benchmarks compare with, since what they need may differ from what this project needs.

Each is built where it is not there: by uv where that is found (`UV` names it, else the path), else by venv and pip. They are kept
under the user's cache folder.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs


def python_of(requirement: str) -> Path:
    """The interpreter of an environment that holds a requirement, such as `flwr==1.41`, and what that needs."""
    home = Path(platformdirs.user_cache_dir("aicache-benchmarks")) / requirement.replace("==", "-")
    python = home / "bin" / "python"
    if not (home / ".complete").exists():
        uv = os.environ.get("UV") or shutil.which("uv")
        if uv:
            commands = [
                [uv, "venv", "-q", "--clear", str(home)],
                [uv, "pip", "install", "-q", "--python", str(python), requirement],
            ]
        else:
            commands = [
                [sys.executable, "-m", "venv", "--clear", str(home)],
                [str(python), "-m", "pip", "install", "-q", requirement],
            ]
        for command in commands:
            subprocess.run(command, check=True, stdout=sys.stderr)
        (home / ".complete").touch()
    return python
