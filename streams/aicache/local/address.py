"""Where other commands find the Kafka that `aicache up` runs on this machine: a small file in its folder."""

import json
import os
from pathlib import Path

ADDRESS_FILE = "address.json"


def publish(folder: Path, bootstrap_servers: str) -> None:
    """Leave the address for other commands."""
    draft = folder / f"{ADDRESS_FILE}.part"
    draft.write_text(json.dumps({"bootstrap_servers": bootstrap_servers, "pid": os.getpid()}))
    draft.replace(folder / ADDRESS_FILE)


def withdraw(folder: Path) -> None:
    """Take it away when Kafka ends."""
    (folder / ADDRESS_FILE).unlink(missing_ok=True)


def find(folder: Path) -> str | None:
    """The address, if whoever left it still runs."""
    try:
        found = json.loads((folder / ADDRESS_FILE).read_text())
        os.kill(int(found["pid"]), 0)
        return str(found["bootstrap_servers"])
    except PermissionError:
        return str(found["bootstrap_servers"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
