"""`aicache privacy show|preview`: what this machine's client has spent, and exactly what would leave it.

Boundary: the private folder, which is only read; the clock; Kafka for a task that is named as in the log.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aicache.cli.frame import Json, kafka_of, print_json, print_table, say, settings_of
from aicache.cli.signals import preview_findings
from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.schemas.records import Model, ModelSpec, Task


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
    kind: Annotated[str, typer.Argument(help="Kind of event, such as used; none with --contribution.")] = "",
    items: Annotated[
        list[str] | None, typer.Argument(help="Public names with their namespace, such as pypi:numpy.")
    ] = None,
    contribution: Annotated[
        str,
        typer.Option(help="Show a contribution instead: to this task, a file (TOML or Python) or a name in the log."),
    ] = "",
    data: Annotated[
        Path | None, typer.Option(help="With --contribution: the data, JSON in the form of the task's kind.")
    ] = None,
    findings: Annotated[
        Path | None, typer.Option(help="Show what would leave of a linter's output, in --form, instead.")
    ] = None,
    form: Annotated[str, typer.Option(help="sarif, ruff, pylint, bandit or flake8 (JSON).")] = "sarif",
    language: Annotated[str, typer.Option(help="Of the situation.")] = "",
    framework: Annotated[str, typer.Option(help="Of the situation.")] = "",
    os_family: Annotated[str, typer.Option("--os", help="Of the situation.")] = "",
    task: Annotated[str, typer.Option(help="Of the situation.")] = "",
    tool: Annotated[str, typer.Option(help="NAME@VERSION of the tool that the client is part of.")] = "",
    utc_offset_s: Annotated[
        int | None,
        typer.Option("--utc-offset", help="Seconds ahead of UTC: show the time of day too, as where it is allowed."),
    ] = None,
    release: Annotated[str, typer.Option(help="NAME@VERSION that the event happened with.")] = "",
    count: Annotated[int, typer.Option(help="How many alike.")] = 1,
    as_json: Json = False,
) -> None:
    """Show the very record that would leave for an event, or what a contribution would be; nothing is sent, and nothing is kept.

    What may not leave is refused as the client refuses it. A contribution is made as the client makes it, in a made-up round.
    Example: `aicache privacy preview used pypi:numpy --tool ide@1.2.3`, or
    `aicache privacy preview --contribution tags.toml --data mine.json`
    """
    if contribution:
        _preview_contribution(context, contribution, data, as_json=as_json)
        return
    if findings is None and (not kind or not items):
        raise LocalError(
            "say which event, or which contribution", got=kind, needed="KIND ITEM…, or --contribution TASK"
        )
    from aicache.producers.usage import Rules, Situation, UsageQueue, make_event
    from aicache.schemas.codec import Codec

    settings = settings_of(context)
    now_ms = time.time_ns() // 1_000_000
    rules = Rules()
    key, made_up = _pseudonym_key(settings.client.folder)
    situation = Situation(
        language=language, framework=framework, os_family=os_family, task=task, tool=tool, utc_offset_s=utc_offset_s
    )
    queue = UsageQueue(settings.kafka.deployment, key, situation, rules)
    if findings is not None:
        preview_findings(queue, findings, form, release, as_json=as_json)
        return
    queue.put([make_event(kind, items or [], time_s=now_ms // 1000, rules=rules, release=release, count=count)])
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
        *((name, getattr(batch, name)) for name in ("language", "framework", "os_family", "task", "tool", "daytime")),
        ("kind", event.kind),
        ("time", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(event.time_s))),
        ("items", " ".join(event.items)),
        ("release", event.release),
        ("count", event.count),
    ]
    print_table(("field", "what would leave"), cells)
    say(f"\n{size} bytes; nothing was sent.")


def _preview_contribution(context: typer.Context, name: str, data: Path | None, *, as_json: bool) -> None:
    import json
    import os

    from aicache.streams.rounds.preview import lines
    from aicache.streams.rounds.preview import preview as made_up

    if data is None:
        raise LocalError("a contribution is made of data", got=None, needed="--data FILE")
    try:
        held = json.loads(data.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LocalError(f"{data} cannot be read: {error}", got=str(data), needed="a JSON file") from None
    now_ms = time.time_ns() // 1_000_000
    task, model, spec = _task_of(context, name, now_ms)
    found = made_up(task, held, entropy=os.urandom, now_ms=now_ms, model=model, spec=spec)
    if as_json:
        print_json({"contribution": found, "sent": False})
        return
    print_table(("what", "how much"), lines(found))
    say("\nIn a made-up round, with a committee of nobody; nothing was sent and nothing was charged.")


def _task_of(context: typer.Context, name: str, now_ms: int) -> "tuple[Task, Model | None, ModelSpec | None]":
    """A task from a file, with the first of its models; or from the log, with the newest."""
    from aicache.streams.rounds.models import first_model
    from aicache.streams.rounds.task import load

    if Path(name).suffix in (".toml", ".py"):
        task = load(Path(name), settings_of(context).kafka.deployment)
        return task, first_model(task, now_ms) if task.kind == "model" else None, task.model
    from aicache.streams.rounds import kafka as rounds

    kafka = kafka_of(context)
    tasks = rounds.tasks(kafka)
    if name not in tasks:
        raise LocalError(f"there is no task {name}", got=name, needed=sorted(tasks))
    task = tasks[name]
    learned = tasks.get(task.evaluates or name)
    models = rounds.models(kafka, task.evaluates or name)
    model = models[max(models)] if models else first_model(task, now_ms) if task.kind == "model" else None
    return task, model, learned.model if learned is not None else None


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
