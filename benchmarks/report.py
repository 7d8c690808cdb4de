"""How a benchmark says its figures: one line of JSON, or a table."""

import json
from collections.abc import Mapping


def report(name: str, figures: Mapping[str, float], title: str, *, as_json: bool, digits: int = 1) -> None:
    """Print the figures; what is true or false is said so, a number with so many digits."""
    if as_json:
        print(json.dumps({"benchmark": name, **figures}))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", title=title)
    for key, value in figures.items():
        table.add_row(key, str(value) if isinstance(value, bool) else f"{value:,.{digits}f}")
    Console().print(table)
