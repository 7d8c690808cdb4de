"""`aicache task …`: what is learned."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aicache.cli.frame import FAILED, Json, kafka_of, print_json, print_rows, print_table, say, settings_of
from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.producers.connection import KafkaSettings
    from aicache.schemas.records import Task

COLUMNS = ("task", "version", "state", "kind", "length", "crowd", "noise", "purpose", "description")
LIST_SHOWN_MAX = 8


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Declare what is learned.")
    group.command("create")(create)
    group.command("simulate")(simulate)
    group.command("list")(list_tasks)
    group.command("show")(show)
    group.command("set")(set_state)
    group.command("rollback")(rollback)
    app.add_typer(group, name="task")


def create(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="TOML, or Python that defines `task`.")],
    as_json: Json = False,
) -> None:
    """Declare a task, or a new version of one; its rounds begin by themselves.

    Example: `aicache task create tags.toml`
    """
    from aicache.streams.rounds import kafka as rounds
    from aicache.streams.rounds.task import guarantee_of, load

    kafka = kafka_of(context)
    written = rounds.create_task(kafka, load(file, kafka.deployment))
    if as_json:
        print_json(written)
        return
    guarantee = guarantee_of(written)
    say(f"{written.task}, version {written.version}: {written.kind} of {written.length} numbers")
    say(f"each round costs a client epsilon {guarantee.epsilon:.3g} at delta {guarantee.delta:g}")


def simulate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="TOML, or Python that defines `task`.")],
    clients: Annotated[int, typer.Option("--clients", "-n", help="Made-up clients; 0: the task's n_min.")] = 0,
    rounds: Annotated[
        int, typer.Option(help="Over how many a clip that adapts is followed; 0: the task's, else 20.", min=0)
    ] = 0,
    as_json: Json = False,
) -> None:
    """Try a task on made-up clients before anybody sees it: one round, with the real mask and noise; no Kafka needed.

    Example: `aicache task simulate tags.toml --clients 500`
    """
    import os
    import time

    from aicache.streams.rounds.simulate import simulate as try_out
    from aicache.streams.rounds.task import load

    task = load(file, settings_of(context).kafka.deployment)
    outcome = try_out(task, clients=clients or task.n_min, entropy=os.urandom, seconds=time.perf_counter, rounds=rounds)
    if as_json:
        print_json(outcome)
    else:
        for line in outcome.lines():
            say(line)
    if not outcome.exact:
        raise typer.Exit(FAILED)


def list_tasks(context: typer.Context, as_json: Json = False) -> None:
    """List the tasks of the deployment.

    Example: `aicache task list`
    """
    found = sorted(tasks_of(kafka_of(context)).values(), key=lambda task: task.task)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            task.task,
            task.version,
            task.state,
            task.kind,
            task.length,
            f"{task.n_min}…{task.n_max}",
            f"{task.noise_multiplier:g} by the {task.noise}",
            task.purpose,
            task.description,
        )
        for task in found
    ]
    print_rows(COLUMNS, rows, as_json=False, empty="No task yet: `aicache task create FILE` declares one.")


def show(context: typer.Context, task: Annotated[str, typer.Argument(help="Its name.")], as_json: Json = False) -> None:
    """Show one task with everything that it declares.

    Example: `aicache task show tags`
    """
    found = task_of(kafka_of(context), task)
    if as_json:
        print_json(found)
        return
    rows = [(name, _brief(getattr(found, name))) for name in found.__dataclass_fields__]
    print_table(("what", "value"), rows)


def set_state(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="Its name.")],
    state: Annotated[str, typer.Argument(help="active, paused or ended.")],
    as_json: Json = False,
) -> None:
    """Pause a task, let it go on, or end it; a round that is open is finished.

    Example: `aicache task set tags paused`
    """
    from aicache.streams.rounds import kafka as rounds

    written = rounds.set_state(kafka_of(context), task, state)
    if as_json:
        print_json({"task": task, "state": state, "version": written.version})
    else:
        say(f"{task} is {state}.")


def rollback(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help="A model task.")],
    version: Annotated[int, typer.Argument(help="The model version to go back to.", min=0)],
    as_json: Json = False,
) -> None:
    """Publish an earlier model again, as a new version: the next round goes on from it.

    Example: `aicache task rollback tags 3`
    """
    from aicache.streams.rounds import kafka as rounds

    model = rounds.rollback(kafka_of(context), task, version)
    if as_json:
        print_json({"task": task, "version": model.version, "same_as": version})
    else:
        say(f"Version {model.version} of {task} is version {version} again.")


def tasks_of(kafka: "KafkaSettings") -> "dict[str, Task]":
    """Every task by its name."""
    from aicache.streams.rounds.kafka import tasks

    return tasks(kafka)


def task_of(kafka: "KafkaSettings", name: str) -> "Task":
    """One task.

    Raises:
        LocalError: there is none of that name.
    """
    known = tasks_of(kafka)
    if name not in known:
        raise LocalError(f"there is no task {name}", got=name, needed=sorted(known))
    return known[name]


def _brief(value: object) -> object:
    """Long lists are cut: a task may have thousands of labels."""
    if isinstance(value, list) and len(value) > LIST_SHOWN_MAX:
        return f"{', '.join(map(str, value[:LIST_SHOWN_MAX]))}, … ({len(value)} in all)"
    return value
