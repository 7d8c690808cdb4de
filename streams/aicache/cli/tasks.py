"""`aicache task …`: what is learned."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from aicache.cli.frame import Json, kafka_of, print_json, print_rows, print_table, say
from aicache.privacy.errors import LocalError

if TYPE_CHECKING:
    from aicache.producers.connection import KafkaSettings
    from aicache.schemas.records import Task

COLUMNS = ("task", "version", "state", "kind", "length", "crowd", "noise", "purpose", "description")
LIST_SHOWN_MAX = 8
STATES = ("active", "paused", "ended")


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Declare what is learned.")
    group.command("list")(list_tasks)
    group.command("show")(show)
    group.command("set")(set_state)
    group.command("rollback")(rollback)
    app.add_typer(group, name="task")


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
    from aicache.local.writing import write
    from aicache.schemas import topics

    if state not in STATES:
        raise LocalError(f"a task is {', '.join(STATES)}, not {state}", got=state, needed=STATES)
    kafka = kafka_of(context)
    found = replace(task_of(kafka, task), state=state)
    write(kafka, topics.TASKS, [(task.encode(), found)])
    if as_json:
        print_json({"task": task, "state": state})
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
    import time

    from aicache.local.reading import read_all
    from aicache.local.writing import write
    from aicache.schemas import topics
    from aicache.schemas.records import Model
    from aicache.streams.rounds.models import roll_back

    kafka = kafka_of(context)
    log = (seen.record for seen in read_all(kafka, topics.MODELS))
    known = {record.version: record for record in log if isinstance(record, Model) and record.task == task}
    if version not in known or version == max(known):
        raise LocalError(
            f"the log has no earlier version {version} of {task}'s model", got=version, needed=sorted(known)[:-1]
        )
    model = roll_back(known[max(known)], known[version], time.time_ns() // 1_000_000)
    write(kafka, topics.MODELS, [(task.encode(), model)])
    if as_json:
        print_json({"task": task, "version": model.version, "same_as": version})
    else:
        say(f"Version {model.version} of {task} is version {version} again.")


def tasks_of(kafka: "KafkaSettings") -> "dict[str, Task]":
    """Every task by its name."""
    from aicache.local.reading import latest
    from aicache.schemas import topics
    from aicache.schemas.records import Task

    found = (seen.record for seen in latest(kafka, topics.TASKS).values())
    return {record.task: record for record in found if isinstance(record, Task)}


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
