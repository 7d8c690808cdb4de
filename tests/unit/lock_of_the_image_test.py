"""The image's lock is a part of the project's, and names no address."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGE = (ROOT / "docker/requirements.lock").read_text()
PROJECT = (ROOT / "requirements.lock").read_text()


def pins(text: str) -> set[str]:
    return set(re.findall(r"^[\w.-]+==[^\s;\\]+", text, re.MULTILINE))


def test_the_images_lock_holds_versions_of_the_projects_lock() -> None:
    assert pins(IMAGE)
    assert pins(IMAGE) < pins(PROJECT), "run `make lock`"


def test_no_lock_names_an_address() -> None:
    assert "://" not in IMAGE + PROJECT
