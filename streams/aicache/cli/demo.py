"""`aicache demo`: the whole main job on a real Kafka, with a verdict and a picture."""

import secrets
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aicache.cli.frame import FAILED, Json, print_json, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aicache.local.demo.verdict import Line

SEED_MAX = 2**31


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("demo")(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Where the page and the picture are written.")] = Path(),
    seed: Annotated[
        int | None, typer.Option(help="Who holds what, who vanishes; printed, so a run can be repeated.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the data, the logs and the keys of the run.")] = False,
    as_json: Json = False,
) -> None:
    """A thousand clients, five committee members, every service and planted faults on a real Kafka, in about a minute.

    Ends with a verdict, each line checked (exit code 1 if one is false), and with aicache-demo.html and aicache-demo.png.

    Example: `aicache demo --out /tmp`
    """
    from aicache.local.demo.picture import draw
    from aicache.local.demo.story import play
    from aicache.local.demo.verdict import judge

    began_s = time.monotonic()
    seed = secrets.randbelow(SEED_MAX) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="aicache-demo-"))
    tell = _quiet if as_json else _teller(began_s)
    try:
        story = play(folder, seed, tell)
        lines = judge(story)
        tell("drawing")
        page, png = draw(story, lines, out)
    finally:
        if keep:
            say(f"kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    good = all(line.holds for line in lines)
    if as_json:
        print_json(
            {
                "seed": seed,
                "verdict": good,
                "lines": [asdict(line) for line in lines],
                "recall": story.recall,
                "popularity": story.popularity,
                "epsilon": story.epsilon,
                "first_insight_s": round(story.first_insight_s, 1),
                "seconds": round(time.monotonic() - began_s, 1),
                "page": str(page),
                "picture": str(png),
            }
        )
    else:
        _show(lines)
        tell(f"seed {seed}; look at {page} (or {png})")
    if not good:
        raise typer.Exit(FAILED)


def _quiet(_: str) -> None:
    """Tell nothing: the output is for machines."""


def _teller(began_s: float) -> "Callable[[str], None]":
    from rich.console import Console

    console = Console(highlight=False)

    def tell(what: str) -> None:
        console.print(f"[dim]{time.monotonic() - began_s:6.1f} s[/dim]  {what}")

    return tell


def _show(lines: "Sequence[Line]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Verdict", show_lines=True)
    for name in ("", "claim", "found"):
        table.add_column(name)
    for line in lines:
        table.add_row("[green]✓[/green]" if line.holds else "[red]✗[/red]", line.claim, line.found)
    Console().print(table)
