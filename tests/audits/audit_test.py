"""The shipped code keeps its promises: one audit a promise, the same verdict in every run."""

from collections.abc import Callable

import pytest

from support.promises import PROMISES
from support.promises_of_rounds import PROMISES_OF_ROUNDS


@pytest.mark.parametrize("promise", PROMISES + PROMISES_OF_ROUNDS, ids=lambda promise: promise.__name__)
def test_audit(promise: Callable[[], None]) -> None:
    promise()
