"""The shipped code keeps its promises: one audit a promise, the same verdict in every run."""

from collections.abc import Callable

import pytest

from support.promises import PROMISES


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_audit(promise: Callable[[], None]) -> None:
    promise()
