"""`aicache privacy show|preview`: what this machine's client has spent, and exactly what would leave it.

Boundary: the private folder, which is only read; the clock. No Kafka.
"""

import time
from pathlib import Path
from typing import Annotated

import typer

from aicache.cli.frame import Json, print_json, print_table, say, settings_of


def show(context: typer.Context, as_json: Json = False) -> None:
    """Show what this machine's client has spent, on what, and what is left of the budget that client.* sets.

    Example: `aicache privacy show`
    """
    import numpy as np

    from aicache.privacy.accounting import ORDERS
    from aicache.producers.ledger import Ledger, Limit

    client = settings_of(context).client
    ledger = Ledger(client.folder)
    limit = Limit(client.epsilon_max, client.delta)
    window_ms = limit.window_start(time.time_ns() // 1_000_000)
    # All purposes draw on one limit here: names of purposes are the operator's.
    spent = ledger.after("", window_ms, np.zeros(len(ORDERS)), client.delta, lambda _purpose: True)
    if not any(row.window_start_ms == window_ms for row in ledger.spent(client.delta)):
        spent = 0.0
    left = max(0.0, client.epsilon_max - spent)
    rows = ledger.spent(client.delta)
    if as_json:
        now = {
            "window_start_ms": window_ms,
            "window_end_ms": window_ms + limit.window_ms,
            "epsilon_max": client.epsilon_max,
            "epsilon_spent": spent,
            "epsilon_left": left,
            "delta": client.delta,
        }
        print_json({"folder": client.folder, "now": now, "spent": rows, "earlier": ledger.earlier(client.delta)})
        return
    if rows:
        cells = [(row.purpose, _day(row.window_start_ms), row.rounds, f"{row.epsilon:.3f}") for row in rows]
        print_table(("purpose", "window from", "rounds", "epsilon"), cells)
    else:
        say(f"Nothing was spent: {client.folder} has no charge.")
    earlier = ledger.earlier(client.delta)
    if earlier is not None:
        say(
            f"\nBefore {_day(earlier.window_start_ms)}, all purposes: {earlier.rounds} rounds, epsilon {earlier.epsilon:.3f}."
        )
    say(
        f"\nNow: {spent:.3f} of {client.epsilon_max:g} spent, {left:.3f} left until {_day(window_ms + limit.window_ms)}, "
        f"delta {client.delta:g}; all purposes together."
    )


def preview(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="Kind of event, such as used.")],
    items: Annotated[list[str], typer.Argument(help="Public names with their namespace, such as pypi:numpy.")],
    language: Annotated[str, typer.Option(help="Of the situation.")] = "",
    framework: Annotated[str, typer.Option(help="Of the situation.")] = "",
    os_family: Annotated[str, typer.Option("--os", help="Of the situation.")] = "",
    task: Annotated[str, typer.Option(help="Of the situation.")] = "",
    tool: Annotated[str, typer.Option(help="NAME@VERSION of the tool that the client is part of.")] = "",
    release: Annotated[str, typer.Option(help="NAME@VERSION that the event happened with.")] = "",
    count: Annotated[int, typer.Option(help="How many alike.")] = 1,
    as_json: Json = False,
) -> None:
    """Show the very record that would leave for an event, after anonymization; nothing is sent, and nothing is kept.

    What may not leave is refused as the client refuses it. Example: `aicache privacy preview used pypi:numpy --tool ide@1.2.3`
    """
    from aicache.producers.usage import Rules, Situation, UsageQueue, make_event
    from aicache.schemas.codec import Codec

    settings = settings_of(context)
    now_ms = time.time_ns() // 1_000_000
    rules = Rules()
    key, made_up = _pseudonym_key(settings.client.folder)
    situation = Situation(language=language, framework=framework, os_family=os_family, task=task, tool=tool)
    queue = UsageQueue(settings.kafka.deployment, key, situation, rules)
    queue.put([make_event(kind, items, time_s=now_ms // 1000, rules=rules, release=release, count=count)])
    batch = queue.batch(now_ms)
    assert batch is not None, "one event was put in"
    size = len(Codec().encode(batch))
    if as_json:
        print_json({"record": batch, "bytes": size, "pseudonym_made_up": made_up, "sent": False})
        return
    event = batch.events[0]
    cells = [
        ("pseudonym", batch.pseudonym.hex() + (" (an example: there is no client here yet)" if made_up else "")),
        ("changes on", _day((batch.period + 1) * rules.period_ms)),
        *((name, getattr(batch, name)) for name in ("language", "framework", "os_family", "task", "tool")),
        ("kind", event.kind),
        ("time", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(event.time_s))),
        ("items", " ".join(event.items)),
        ("release", event.release),
        ("count", event.count),
    ]
    print_table(("field", "what would leave"), cells)
    say(f"\n{size} bytes; nothing was sent.")


def _pseudonym_key(folder: Path) -> tuple[bytes, bool]:
    """The client's key, or one for this call alone where there is no client; whether it is the latter."""
    import os

    from aicache.producers.identity import FILE, KEY_BYTES, Folder

    if not (folder / FILE).exists():
        return os.urandom(KEY_BYTES), True
    private = Folder(folder)
    try:
        identity = private.identity()
    finally:
        private.close()
    return (os.urandom(KEY_BYTES), True) if identity is None else (identity.pseudonym_key, False)


def _day(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time_ms / 1000))
