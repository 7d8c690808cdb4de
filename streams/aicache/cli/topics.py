"""`aicache topics …`: what the deployment needs on its Kafka."""

from typing import Annotated

import typer

from aicache.cli.frame import FAILED, Json, kafka_of, print_json, print_rows, registry_of, say, settings_of


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Create, check and list the deployment's topics.")
    group.command("create")(create)
    group.command("check")(check)
    group.command("list")(list_topics)
    app.add_typer(group, name="topics")


def create(
    context: typer.Context,
    replication: Annotated[int, typer.Option(help="Copies of each partition of new topics; -1: Kafka's default.")] = -1,
    as_json: Json = False,
) -> None:
    """Create the topics that are missing and set what is set wrong; nothing is ever deleted.

    With a schema registry (registry.url), also sets its compatibility level and registers every schema.

    Example: `aicache topics create --replication 3`
    """
    from aicache.schemas.admin import create_topics

    kafka = kafka_of(context, registry=False)
    done = create_topics(kafka.client_config(), kafka.prefix, replication=replication)
    settings = settings_of(context)
    registered: dict[str, int] = {}
    if settings.registry.url:
        from aicache.schemas.registry import register_all

        registered = register_all(registry_of(settings))
    if as_json:
        print_json({"changed": done, **({"schemas": registered} if registered else {})})
        return
    for name in done:
        say(name)
    say(f"{len(done)} topics were created or set right." if done else "All topics were there and right.")
    if registered:
        say(f"{len(registered)} schemas are registered.")


def check(context: typer.Context, as_json: Json = False) -> None:
    """Compare the topics with what they have to be; exit code 1 if one differs, with what to run.

    Example: `aicache topics check`
    """
    from aicache.schemas.admin import check_topics

    kafka = kafka_of(context, registry=False)
    found = check_topics(kafka.client_config(), kafka.prefix)
    columns = ("topic", "what", "got", "needed", "run")
    rows = [(item.topic, item.what, item.got, item.needed, item.mend) for item in found]
    print_rows(columns, rows, as_json=as_json, empty="All topics are as they have to be.")
    if found:
        raise typer.Exit(FAILED)


def list_topics(context: typer.Context, as_json: Json = False) -> None:
    """List the deployment's topics: what each holds, how it is kept, who writes and reads it, whether it exists.

    Example: `aicache topics list`
    """
    from aicache.local.probe import probe
    from aicache.schemas.topics import FOREVER, all_topics, topic_name

    kafka = kafka_of(context, reach=False)
    there = probe(kafka, timeout_s=10.0).topics
    columns = ("topic", "exists", "key", "partitions", "cleanup", "kept_days", "writers", "readers")
    rows = []
    for item in all_topics():
        name = topic_name(kafka.prefix, item)
        days = "" if item.retention_ms == FOREVER else f"{item.retention_ms / 86_400_000:g}"
        exists = "yes" if name in there else "no"
        rows.append((name, exists, item.key, item.partitions, item.cleanup, days, item.writers, item.readers))
    print_rows(columns, rows, as_json=as_json, empty="")
