"""Endings in words."""

import pytest

from pagewatch.record import Ending


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exited with status 0"), (-11, "was ended by SIGSEGV"), (-99, "was ended by signal 99"), (None, "ended")],
)
def test_endings_in_words(status: int | None, words: str) -> None:
    assert str(Ending(status)) == words
