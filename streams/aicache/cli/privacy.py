"""`aicache privacy …`: what a guarantee costs, what was spent, what would leave."""

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aicache.cli import owner
from aicache.cli.frame import Json, kafka_of, print_json, print_table, say, settings_of

if TYPE_CHECKING:
    from aicache.cli.planning import Planned

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
CLIENTS = 1_000
PLAN_COLUMNS = (
    "clients",
    "rounds",
    "epsilon",
    "noise_multiplier",
    "error of a sum",
    "error of a mean",
    "of the largest possible",
)


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="What a guarantee costs, what was spent, what would leave.")
    group.command("plan")(plan)
    group.command("report")(report)
    group.command("show")(owner.show)
    group.command("preview")(owner.preview)
    app.add_typer(group, name="privacy")


def plan(
    context: typer.Context,
    clients: Annotated[
        list[int] | None, typer.Option("--clients", "-n", help="Clients in a round; may be repeated.")
    ] = None,
    length: Annotated[int, typer.Option(help="Numbers in a vector.")] = 64,
    rounds: Annotated[
        list[int] | None, typer.Option(help="Rounds that the epsilon shall cover; may be repeated.")
    ] = None,
    epsilon: Annotated[list[float] | None, typer.Option(help="May be repeated.")] = None,
    delta: Annotated[float, typer.Option(help="Has to be below 1 / clients.")] = 1e-5,
    clip: Annotated[float, typer.Option(help="L2 bound of one client's vector.")] = 1.0,
    scale: Annotated[float, typer.Option(help="Integers a unit: the fixed point.")] = 1_000.0,
    noise: Annotated[str, typer.Option(help="Who adds the noise: committee or clients.")] = "committee",
    honest: Annotated[int, typer.Option(help="Clients assumed honest, for --noise clients; 0: half of them.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of error against epsilon (PNG or SVG).")] = None,
    as_json: Json = False,
) -> None:
    """Plan a task: which noise for which epsilon, number of clients and rounds, and how exact the result will be.

    Example: `aicache privacy plan --clients 1000 --clients 10000 --length 64 --rounds 6 --epsilon 6`
    """
    from aicache.cli.planning import Planned, Wish
    from aicache.cli.planning import plan as planned
    from aicache.privacy.parameters import N10K, N60K

    committee = settings_of(context).committee
    crowds: dict[tuple[int, int], list[Planned]] = {}
    for n, over in product(clients or [CLIENTS], rounds or [1]):
        wish = Wish(
            n=n,
            length=length,
            clip=clip,
            scale=scale,
            rounds=over,
            delta=delta,
            noise=noise,
            honest=honest or max(1, n // 2),
            members=committee.members,
            threshold=committee.threshold,
        )
        crowds[n, over] = planned(
            wish, epsilon or EPSILONS, N10K if n + committee.members <= N10K.senders_max else N60K
        )
    rows = [row for found in crowds.values() for row in found]
    if plot is not None:
        from aicache.local.plots import draw_plan

        curves = {
            f"{n:,} clients, {_rounds(over)}": ([row.epsilon for row in found], [row.error_mean for row in found])
            for (n, over), found in crowds.items()
        }
        draw_plan(curves, next(iter(curves)) if len(curves) == 1 else f"vectors of {length:,} numbers", plot)
    if as_json:
        print_json(rows)
        return
    print_table(PLAN_COLUMNS, [_cells(row) for row in rows])
    say(
        f"\nepsilon is for all the rounds together, delta {delta:g}, add-or-remove of one client; errors are standard errors of "
        "each number, with all senders there."
    )


def _cells(row: "Planned") -> tuple[str, ...]:
    return (
        f"{row.n:,}",
        str(row.rounds),
        f"{row.epsilon:g}",
        f"{row.noise_multiplier:.4f}",
        f"{row.error_sum:.4g}",
        f"{row.error_mean:.3g}",
        f"{row.share_of_clip:.2%}",
    )


def _rounds(count: int) -> str:
    return "one round" if count == 1 else f"{count} rounds"


def report(context: typer.Context, as_json: Json = False) -> None:
    """Print the operator's compliance file, from the log: tasks, purposes, guarantees, how long what is kept.

    Example: `aicache privacy report > privacy.md`
    """
    import time

    from aicache.local import report as making
    from aicache.local.reading import latest
    from aicache.schemas import topics
    from aicache.schemas.records import Aggregate, Budget, Task

    kafka = kafka_of(context)
    found = making.report(
        kafka.deployment,
        [seen.record for seen in latest(kafka, topics.TASKS).values() if isinstance(seen.record, Task)],
        [seen.record for seen in latest(kafka, topics.AGGREGATES).values() if isinstance(seen.record, Aggregate)],
        [seen.record for seen in latest(kafka, topics.BUDGETS).values() if isinstance(seen.record, Budget)],
        topics.TOPICS,
        time.time_ns() // 1_000_000,
    )
    if as_json:
        print_json(found)
    else:
        say(making.markdown(found).rstrip())
