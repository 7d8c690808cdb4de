"""`aicache privacy preview --findings FILE`: what would leave of what a linter found. Boundary: one file, which is read."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from aicache.cli.frame import print_json, print_table, say
from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.producers.usage import UsageQueue


def preview_findings(queue: "UsageQueue", file: Path, form: str, release: str, *, as_json: bool) -> None:
    """Show the events that the findings in a tool's output would become.

    Args:
        queue: of an example client.
        file: what the tool wrote.
        form: sarif, ruff, pylint, bandit or flake8.
        release: the tool, as in `pypi:ruff@0.17`.
        as_json: the very record, instead of a table.

    Raises:
        LocalError: the file cannot be read, or holds no such output.
    """
    from aicache.producers.signals.rules import read, tell_findings
    from aicache.producers.usage import make_event

    try:
        output = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"{file} cannot be read", got=type(error).__name__, needed="a tool's output") from None
    now_ms = time.time_ns() // 1_000_000
    found = read(output, form)

    def tell(kind: str, items: list[str], *, release: str = "", count: int = 1, sketch: bytes = b"") -> None:
        del sketch
        queue.put([make_event(kind, items, time_s=now_ms // 1000, rules=queue.rules, release=release, count=count)])

    tell_findings(tell, found, release)
    batches = []
    while (batch := queue.batch(now_ms)) is not None:
        batches.append(batch)
    if as_json:
        print_json({"records": batches, "unknown": found.unknown, "sent": False})
        return
    events = [event for batch in batches for event in batch.events]
    print_table(
        ("kind", "item", "count", "release"),
        [(event.kind, " ".join(event.items), event.count, event.release) for event in events],
    )
    say(f"\n{found.unknown} findings of rules that are not public would not leave; nothing was sent.")
