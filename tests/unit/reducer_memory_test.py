"""Keeping freed memory, where the C library can."""

import pytest

from aicache.streams.reducer import memory


def test_a_c_library_without_the_setting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def windows(_name: None) -> None:
        raise TypeError("no path")

    monkeypatch.setattr(memory.ctypes, "CDLL", windows)
    assert not memory.keep_freed_memory()
