"""`aicache round …`: the rounds of the tasks, from opening to result."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aicache.cli.frame import Json, kafka_of, print_json, print_table, say
from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.local.rounds import RoundRow
    from aicache.producers.connection import KafkaSettings
    from aicache.streams.rounds.heavy import Heavy

COLUMNS = ("round", "task", "no", "state", "opened", "clients", "epsilon", "noise", "why")


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="See the rounds of the tasks.")
    group.command("list")(list_rounds)
    group.command("watch")(watch)
    group.command("export")(export)
    group.command("heavy")(heavy)
    group.command("suspects")(suspects)
    app.add_typer(group, name="round")


Task = Annotated[str, typer.Option("--task", "-t", help="Only rounds of this task.")]


def list_rounds(
    context: typer.Context,
    task: Task = "",
    last: Annotated[
        int, typer.Option("--last", "-n", help="Only the newest so many; 0: all that the log still has.")
    ] = 20,
    as_json: Json = False,
) -> None:
    """List rounds with state, clients, privacy spent, and the standard deviation of the noise in each number of the result.

    Example: `aicache round list --task tags`
    """
    found = [row for row in _rows(kafka_of(context)) if not task or row.task == task][-last or None :]
    if as_json:
        print_json(found)
    elif found:
        print_table(COLUMNS, [_cells(row) for row in found])
    else:
        say("No round yet.")


def watch(
    context: typer.Context,
    task: Task = "",
    count: Annotated[int, typer.Option(help="Stop after so many rounds are over; 0: never.")] = 0,
    as_json: Json = False,
) -> None:
    """Print each change of a round as it happens, until Ctrl-C.

    Example: `aicache round watch --task tags`
    """
    from aicache.local.reading import follow
    from aicache.local.rounds import RoundLog
    from aicache.schemas import topics

    log, shown, over = RoundLog(), dict[str, str](), 0
    for seen in follow(kafka_of(context), topics.ROUNDS, topics.AGGREGATES, last=None):
        row = log.take(seen.record) if seen.record is not None else None
        if row is None or (task and row.task != task) or shown.get(row.round_id) == row.state:
            continue
        shown[row.round_id] = row.state
        if as_json:
            print_json(row)
        else:
            say("  ".join(str(cell) for cell in _cells(row) if cell != ""))
        over += row.state in ("done", "aborted")
        if count and over >= count:
            return


def export(
    context: typer.Context,
    round_id: Annotated[str, typer.Argument(help="The round, as the list names it.", metavar="ROUND")],
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
    as_json: Json = False,
) -> None:
    """Write what the log says about a round into a file that anybody can check without Kafka: `aicache verify --file`.

    Example: `aicache round export tags-000001 tags-000001.jsonl`
    """
    from aicache.streams.rounds import exported
    from aicache.streams.rounds.kafka import round_log

    count = exported.write(file, round_log(kafka_of(context), round_id))
    if as_json:
        print_json({"file": file, "records": count})
    else:
        say(f"{count} records are in {file}.")


def heavy(
    context: typer.Context,
    round_id: Annotated[str, typer.Argument(help="A round of a count-sketch task.", metavar="ROUND")],
    candidates: Annotated[
        Path,
        typer.Option(
            "--candidates",
            "-c",
            help="Names to ask for, one a line; - reads them from standard input.",
            allow_dash=True,
        ),
    ],
    threshold: Annotated[float, typer.Option(help="How often a name must have occurred, beyond doubt.")] = 1.0,
    failure: Annotated[float, typer.Option(help="The chance that any of these statements is wrong.")] = 0.01,
    as_json: Json = False,
) -> None:
    """Say which names of an open vocabulary are heavy, with error bounds: a sketch holds no names, so you bring those that you know.

    Example: `aicache round heavy errors-7 --candidates known-errors.txt --threshold 50`
    """
    from aicache.streams.rounds.heavy import error_bound, heavy_names, sketch_of
    from aicache.streams.rounds.kafka import opened_round

    names = _names(candidates)
    aggregate, task = opened_round(kafka_of(context), round_id)
    table = sketch_of(aggregate, task)
    found = heavy_names(table, names, threshold, failure=failure)
    error = error_bound(table, max(1, len(names)), failure=failure)
    if as_json:
        print_json({"round": round_id, "n": aggregate.n, "asked": len(names), "error": error, "heavy": found})
        return
    if found:
        print_table(("name", "about", "at least", "at most"), [_bounds(row) for row in found])
    say(
        f"\n{len(found)} of {len(names)} names occurred at least {threshold:g} times among {aggregate.n} clients. Each count is right "
        f"within ±{error:.3g}, all of them together but for a chance of {failure:g}; contributions are counted as they were clipped."
    )


def suspects(context: typer.Context, as_json: Json = False) -> None:
    """Recompute from the log whose groups were dropped again and again, and whom the public rule leaves out for it.

    Example: `aicache round suspects`
    """
    from aicache.local.reading import read_all
    from aicache.schemas import topics
    from aicache.schemas.records import Aggregate, Manifest, Proposal
    from aicache.streams.rounds import suspects as rule

    seen = read_all(kafka_of(context), topics.ROUNDS, topics.AGGREGATES)
    found = rule.suspects(
        {row.digest("manifest"): row.record for row in seen if isinstance(row.record, Manifest)},
        {row.record.round_id: row.record.groups for row in seen if isinstance(row.record, Proposal)},
        [row.record for row in seen if isinstance(row.record, Aggregate)],
    )
    rows = [(row.client, row.rounds, f"{row.chance:.2g}", "left out" if row.excluded else "") for row in found]
    columns = ("client", "rounds in a row", "chance if honest", "")
    if as_json:
        print_json(found)
    elif rows:
        print_table(columns, rows)
    else:
        say("Nobody: no client's last group was dropped.")


def _names(path: Path) -> list[str]:
    """Lines that are not empty, each name once.

    Raises:
        LocalError: there is no such file, or it is no text.
    """
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(
            f"{path} cannot be read: {error}", got=str(path), needed="a text file, a name a line"
        ) from None
    return list(dict.fromkeys(name for line in text.splitlines() if (name := line.strip())))


def _bounds(row: "Heavy") -> tuple[str, str, str, str]:
    low, high = max(0.0, row.estimate - row.error), row.estimate + row.error
    return row.name, f"{row.estimate:.1f}", f"{low:.1f}", f"{high:.1f}"


def _rows(kafka: "KafkaSettings") -> "list[RoundRow]":
    from aicache.local.reading import read_all
    from aicache.local.rounds import rows
    from aicache.schemas import topics

    found = read_all(kafka, topics.ROUNDS, topics.AGGREGATES)
    return rows(seen.record for seen in found if seen.record is not None)


def _cells(row: "RoundRow") -> tuple[object, ...]:
    when = datetime.fromtimestamp(row.opened_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    crowd = f"{row.n} of {row.n_min}…{row.n_max}" if row.n else f"{row.n_min}…{row.n_max} wanted"
    epsilon = f"{row.epsilon:.3g}" if row.epsilon else ""
    noise = f"±{row.noise:.3g}" if row.noise else ""
    return row.round_id, row.task, row.number, row.state, when, crowd, epsilon, noise, row.reason
