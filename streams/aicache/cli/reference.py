"""The command line and its settings as Markdown, from the program itself: `docs/cli.md` cannot say what is not so.

Pure: builds text from the declared commands and settings.
"""

from collections.abc import Iterator
from typing import Any

import typer

HEAD = """# The command line

Generated from the program (`make docs`). Options of all commands stand before the command:
`aicache --kafka localhost:9092 topics list`.

| exit code | means |
|---|---|
| 0 | done |
| 1 | a check failed, or a record or result is invalid |
| 2 | wrong usage or configuration |
| 3 | Kafka cannot be reached |
| 4 | an extra of the package is missing; the message names it |
| 130 | interrupted (Ctrl-C) |
"""


def markdown() -> str:
    """The whole page."""
    from aicache.cli.app import app

    root: Any = typer.main.get_command(app)
    parts = [HEAD, "## Before the command\n", _options(root)]
    for path, command in leaves(root):
        text = (command.help or "").strip()
        parts.append(f"## aicache {' '.join(path)}\n\n{text}\n")
        arguments = [item for item in command.params if item.param_type_name == "argument"]
        if arguments:
            lines = [
                f"- `{(item.metavar or item.name.upper()).strip('[]')}`: {item.help or ''}".rstrip()
                for item in arguments
            ]
            parts.append("\n".join(lines) + "\n")
        parts.append(_options(command))
    parts += ["## Every setting\n", settings_table()]
    return "\n".join(part for part in parts if part).rstrip() + "\n"


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that call it, in alphabetical order."""
    children = getattr(node, "commands", None)
    if not children:
        yield path, node
        return
    for name, child in sorted(children.items()):
        yield from leaves(child, (*path, name))


def settings_table() -> str:
    """Every setting with its default and meaning."""
    from pydantic import BaseModel, SecretStr

    from aicache.cli.settings import Settings

    lines = ["| setting | default | means |", "|---|---|---|"]
    for section, field in Settings.model_fields.items():
        model: type[BaseModel] = field.annotation  # type: ignore[assignment]
        for name, inner in model.model_fields.items():
            value = inner.get_default(call_default_factory=True)
            shown = "" if value in (None, "", [], {}) or isinstance(value, SecretStr) else f"`{_neutral(value)}`"
            lines.append(f"| `{section}.{name}` | {shown} | {inner.description or ''} |")
    return "\n".join(lines) + "\n"


def _neutral(value: object) -> str:
    """A default without the home folder of who generates the page."""
    from pathlib import Path

    text = str(value)
    return text.replace(str(Path.home()), "~") if isinstance(value, Path) else text


def _options(command: Any) -> str:
    rows = []
    for item in command.params:
        if item.param_type_name != "option" or item.name in ("help", "install_completion", "show_completion"):
            continue
        names = ", ".join(f"`{name}`" for name in [*item.opts, *item.secondary_opts])
        rows.append(f"| {names} | {item.help or ''} |")
    return "\n".join(["| option | means |", "|---|---|", *rows]) + "\n" if rows else ""


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
