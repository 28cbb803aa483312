"""Text made fit for a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.cli.text import human_bytes, printable


@given(text=st.text())
def test_nothing_that_moves_a_cursor_is_left(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    if text.isprintable():
        assert shown == text


def test_control_and_direction_marks_and_odd_bytes_are_escaped() -> None:
    assert printable("a\x1b[31m\u202eb\udcff\n") == "a\\x1b[31m\\u202eb\\udcff\\n"


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 50, "5120.0 TiB")],
)
def test_bytes_in_words(n_bytes: int, text: str) -> None:
    assert human_bytes(n_bytes) == text
