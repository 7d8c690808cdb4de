"""The page of commands says what the program does."""

from pathlib import Path

from typer.main import get_command

from aicache.cli.app import app
from aicache.cli.reference import leaves, markdown

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_of_commands_is_what_the_program_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), "run: python -m aicache.cli.reference > docs/cli.md"


def test_every_command_and_every_setting_has_its_place() -> None:
    text = markdown()
    for path, _ in leaves(get_command(app)):
        assert f"## aicache {' '.join(path)}\n" in text
    assert "| `client.n_min` | `100` |" in text
