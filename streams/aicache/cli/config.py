"""`aicache config show`: every setting and where it came from."""

import typer

from aicache.cli.frame import Json, options, print_json, print_table, say


def register(app: typer.Typer) -> None:
    """Add the group to the command line."""
    group = typer.Typer(no_args_is_help=True, help="See what is configured, and by what.")
    group.command("show")(show)
    app.add_typer(group, name="config")


def show(context: typer.Context, as_json: Json = False) -> None:
    """Show every setting with its value and its source; secrets are masked.

    Example: `aicache config show`
    """
    loaded = options(context).load()
    rows = loaded.rows()
    if as_json:
        print_json([{"key": key, "value": value, "source": source} for key, value, source in rows])
        return
    print_table(("setting", "value", "source"), rows)
    say("" if loaded.file else "\nNo aicache.toml was found: see docs/configuration.md.")
