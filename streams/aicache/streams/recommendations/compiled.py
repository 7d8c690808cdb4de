"""Loops over single numbers, compiled to machine code when they are first run (`Numba <https://numba.pydata.org>`_).

What touches a few entries of many arrays has nothing that NumPy could do at once, and Python takes a microsecond an operation. Products,
logarithms and exponentials of whole arrays stay NumPy's, which is as fast there. No fast mathematics: a replay gives the same numbers.
A loop uses loops and constants of its own module alone: what is kept is made anew when that file changes, whatever others do.
What is compiled is kept beside the source, like Python's own bytecode, or in `NUMBA_CACHE_DIR`; where neither can be written it is
compiled again at each start, which takes a few seconds.
"""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Loop = TypeVar("Loop", bound=Callable[..., object])


def compiled(loop: Loop) -> Loop:
    """The same function, compiled for the types that it is called with; it runs without the interpreter's lock."""
    try:
        return cast(Loop, njit(loop, cache=True, nogil=True, error_model="numpy"))
    except RuntimeError:  # there is no place to keep it
        return cast(Loop, njit(loop, nogil=True, error_model="numpy"))
