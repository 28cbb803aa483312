import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.vocab import wording
from support.recordings import HOSTILE_NAME


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1536, "1.50 KiB"), (10 << 20, "10.0 MiB"),
     (1023.9 * 1024, "1.00 MiB"), (5 << 40, "5.00 TiB"), (5000 << 40, "5,000 TiB")],
)  # fmt: skip
def test_sizes(n_bytes: float, text: str) -> None:
    assert wording.size(n_bytes) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (99_999, "99,999"), (123_456, "123 k"), (999_700, "1.00 M"), (5e12, "5.00 T")]
)
def test_counts(number: float, text: str) -> None:
    assert wording.count(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 pages"), (1, "1 page"), (2, "2 pages"), (1_234_567, "1,234,567 pages")]
)
def test_one_is_no_plural(number: int, text: str) -> None:
    assert wording.plural(number, "page") == text


def test_some_plurals_are_not_the_noun_with_an_s() -> None:
    assert wording.plural(2, "process", "processes") == "2 processes"


@pytest.mark.parametrize(
    ("n_ns", "text"),
    [(0, "0.00 ms"), (1_500_000, "1.50 ms"), (12_340_000_000, "12.3 s"), (125_000_000_000, "2 min 05 s"),
     (3_599_900_000_000, "1 h 00 min"), (7_500_000_000_000, "2 h 05 min"), (10**18, "277,778 h")],
)  # fmt: skip
def test_durations(n_ns: int, text: str) -> None:
    assert wording.duration(n_ns) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.0001, "<0.1 %"), (0.0123, "1.2 %"), (0.0999, "10 %"), (0.9999, "99 %"), (1, "100 %")],
)
def test_shares_are_all_or_nothing_only_if_they_are(share: float, text: str) -> None:
    assert wording.percent(share) == text


@given(text=st.text(), width=st.integers(8, 60))
def test_shortened_text_fits_and_is_printable(text: str, width: int) -> None:
    short = wording.shorten(text, width)
    assert len(short) <= width
    assert short.isprintable()


def test_a_path_keeps_its_end_and_a_word_both_ends() -> None:
    assert wording.shorten("/usr/lib/x86_64-linux-gnu/libc.so.6", 12) == "libc.so.6"
    assert wording.shorten("abcdefghijklmnopqrstuvwxyz", 10) == "abcdef…xyz"


def test_hostile_text_cannot_steer_a_terminal() -> None:
    assert wording.printable(HOSTILE_NAME).isprintable()
    assert "\\x1b[31m" in wording.printable(HOSTILE_NAME)
    assert "\\u202e" in wording.printable(HOSTILE_NAME)


def test_an_impossible_time_is_no_error() -> None:
    assert wording.moment(0) == "1970-01-01 00:00 UTC"
    assert wording.moment(1e300) == wording.moment(float("nan")) == "at an unknown time"


@given(text=st.text())
def test_nothing_that_moves_a_cursor_is_left(text: str) -> None:
    shown = wording.printable(text)
    assert shown.isprintable()
    shown.encode()
    if text.isprintable():
        assert shown == text


def test_odd_bytes_of_a_name_are_escaped() -> None:
    assert wording.printable("a\udcff\n") == "a\\udcff\\n"


def test_lines_break_between_items_only() -> None:
    assert wording.flow(["one", "two", "three"], ", ", 8) == ["one, two", "three"]
    assert wording.flow(["longer than that", "x"], " ", 5) == ["longer than that", "x"]
    assert wording.flow([], " ", 5) == []
