"""Secure aggregation against its bars, beside Flower's SecAgg+ in the same run.

Flower goes in an environment of its own, built once with uv (or venv and pip) in the user's cache folder; its functions are timed
by `flower_secaggplus.py` there. Without --full it ends within 8 minutes; --full adds the sections that need a broker.

Usage: python benchmarks/secure_aggregation.py [--json] [--full] [--only SECTION]… [--no-flower] [--plot FILE]
"""

import argparse
import json
import operator
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

import secure_aggregation_growth
import secure_aggregation_kafka
import secure_aggregation_maths
import secure_aggregation_robustness
from peers import python_of

FLOWER = "flwr==1.41"
FLOWER_TIMEOUT_S = 240
Figures = dict[str, float | bool]


@dataclass(frozen=True)
class Bar:
    """A figure and what it has to be: `<=`, `>=` a limit, or `true`."""

    key: str
    what: str
    compare: str
    limit: float = 0.0

    def holds(self, value: float | bool) -> bool:
        if self.compare == "true":
            return value is True
        return {"<=": operator.le, ">=": operator.ge}[self.compare](value, self.limit)


@dataclass(frozen=True)
class Section:
    """A part of the run: a function that gives figures by key, and the bars on them. `full`: only with --full."""

    name: str
    run: Callable[[], Figures]
    bars: tuple[Bar, ...]
    full: bool = False


MATHS = (
    Bar("exact", "every opened sum is the exact integer sum", "true"),
    Bar("client_ms_1e5", "client: encrypt, share, seal, sign, pack (10^5)", "<=", 12),
    Bar("client_ms_1e6", "the same at 10^6", "<=", 120),
    Bar("client_full_ms_1e5", "client with clipping, rounding and noise", "<=", 25),
    Bar("server_add_ms_1e5", "server: add one ciphertext", "<=", 0.25),
    Bar("open_ms_1e5", "server: open, 1,000 clients, 10% gone", "<=", 15),
    Bar("open_growth", "the same at 10,000 clients, over it", "<=", 1.25),
    Bar("member_ms_per_client", "member: verify, unseal, add", "<=", 0.5),
    Bar("bytes_per_coordinate", "ciphertext bytes a coordinate", "<=", 6.2),
    Bar("bytes_per_member", "envelope bytes a member", "<=", 4000),
    Bar("reducer_peak_mb_1e6", "reducer: peak memory, 200 clients of 10^6", "<=", 300),
)
GROWTH = (Bar("growth_exact", "10,000 clients in one process, d = 2,048: exact", "true"),)
FLOWER_BARS = (
    Bar("flower_client_ratio_1e5", "Flower's client time over ours", ">=", 10),
    Bar("flower_unmask_ratio_1e5", "Flower's unmasking time over our opening", ">=", 1000),
)

KAFKA = (
    Bar("kafka_exact", "1,000 clients of 10^5 through Kafka: exact", "true"),
    Bar("kafka_close_to_aggregate_s", "the same: from the close to the aggregate", "<=", 2),
    Bar("kafka_round_s", "the same: from the proposal to the aggregate", "<=", 60),
)


def flower() -> Figures:
    """Flower's figures, by its own interpreter; without telemetry."""
    script = Path(__file__).with_name("flower_secaggplus.py")
    run = subprocess.run(
        [str(python_of(FLOWER)), "-W", "ignore", str(script), "100000", "1000000"],
        capture_output=True,
        text=True,
        timeout=FLOWER_TIMEOUT_S,
        env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0"},
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"Flower's part failed: {run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


SECTIONS = (
    Section("maths", secure_aggregation_maths.run, MATHS),
    Section("growth", secure_aggregation_growth.run, GROWTH),
    Section("flower", flower, FLOWER_BARS),
    Section("robustness", secure_aggregation_robustness.run, (), full=True),
    Section("kafka", secure_aggregation_kafka.run, KAFKA, full=True),
)

DERIVED = (
    ("open_growth", "open_ms_1e5_n10000", "open_ms_1e5"),
    ("flower_client_ratio_1e5", "flower_client_ms_1e5", "client_ms_1e5"),
    ("flower_client_ratio_1e6", "flower_client_ms_1e6", "client_ms_1e6"),
    ("flower_unmask_ratio_1e5", "flower_unmask_ms_1e5", "open_ms_1e5"),
)


def measure(sections: list[Section]) -> Figures:
    figures: Figures = {}
    for section in sections:
        start = time.monotonic()
        figures.update(section.run())
        figures[f"{section.name}_section_s"] = time.monotonic() - start
    for key, above, below in DERIVED:
        if above in figures and below in figures:
            figures[key] = figures[above] / figures[below]
    return figures


def show(figures: Figures, bars: list[Bar]) -> None:
    table = Table(title="Secure aggregation")
    for column, justify in (
        ("figure", "left"),
        ("what", "left"),
        ("measured", "right"),
        ("bar", "right"),
        ("", "left"),
    ):
        table.add_column(column, justify=justify)
    for bar in bars:
        value = figures.get(bar.key)
        shown = (
            str(value)
            if isinstance(value, bool) or value is None
            else f"{value:,.3g}"
            if value < 1000
            else f"{value:,.0f}"
        )
        needed = "true" if bar.compare == "true" else f"{bar.compare} {bar.limit:g}"
        verdict = "-" if value is None else "[green]holds" if bar.holds(value) else "[red]missed"
        table.add_row(bar.key, bar.what, shown, needed, verdict)
    console = Console()
    console.print(table)
    named = {bar.key for bar in bars}
    console.print({key: round(value, 3) for key, value in figures.items() if key not in named})
    console.print(
        "Flower's unmasking is measured on a few of its steps and scaled to all of them; the rest is measured whole."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--full", action="store_true", help="also the runs through a broker")
    parser.add_argument(
        "--only", action="append", choices=[section.name for section in SECTIONS], help="just this section"
    )
    parser.add_argument("--no-flower", action="store_true", help="leave Flower out")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the growth of the costs (png, svg or pdf)")
    arguments = parser.parse_args()
    wanted = [
        section
        for section in SECTIONS
        if (arguments.full or not section.full)
        and (arguments.only is None or section.name in arguments.only)
        and not (arguments.no_flower and section.name == "flower")
    ]
    figures = measure(wanted)
    bars = [bar for section in wanted for bar in section.bars]
    missed = [bar.key for bar in bars if bar.key in figures and not bar.holds(figures[bar.key])]
    if arguments.plot and "growth_exact" in figures:
        secure_aggregation_growth.plot(figures, arguments.plot)
    if arguments.json:
        rounded = {key: value if isinstance(value, bool) else round(value, 4) for key, value in figures.items()}
        print(json.dumps({**rounded, "scaled_from_a_part": ["flower_unmask_ms_1e5"], "missed": missed}))
    else:
        show(figures, bars)
    return (
        0
        if figures.get("exact", True) and figures.get("growth_exact", True) and figures.get("kafka_exact", True)
        else 1
    )


if __name__ == "__main__":
    sys.exit(main())
