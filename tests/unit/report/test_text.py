from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from pagewatch.report import text
from pagewatch.report.figures import compute
from support import recordings
from support.recordings import HOSTILE_NAME, Lively, PlainRecording


def printed(recording: PlainRecording, width: int, *, in_colour: bool = False) -> str:
    out = StringIO()
    console = Console(
        file=out, width=width, force_terminal=in_colour, color_system="truecolor" if in_colour else None,
        highlight=False, markup=False, emoji=False,
    )  # fmt: skip
    rows, columns = text.grid_size(console)
    text.render(compute(recording, rows=rows, columns=columns), console)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 110, 200])
@pytest.mark.parametrize("name", ["/srv/ring", HOSTILE_NAME, "名前" * 30])
def test_lines_fit_the_width_whatever_the_names(width: int, name: str) -> None:
    from rich.cells import cell_len

    lines = printed(Lively(n_epochs=40, name=name).recording(), width).splitlines()
    assert [line for line in lines if cell_len(line) > width] == []
    assert all(line.isprintable() for line in lines)


def test_there_are_no_codes_where_there_is_no_terminal() -> None:
    recording = Lively(n_epochs=40).recording()
    assert "\x1b" not in printed(recording, 100)
    assert "\x1b[38;2;" in printed(recording, 100, in_colour=True)


def test_the_report_says_what_was_written_where() -> None:
    report = printed(Lively(n_epochs=60).recording(), 110)
    for expected in ("python3 sort.py --size 64M", "uffd-async", "[heap]", "/srv/ring", "python3 4211", "worker 4212"):
        assert expected in report
    for heading in ("Where and when", "Mappings", "Hottest pages", "What these numbers cannot contain", "Notes"):
        assert heading in report


def test_what_cannot_be_known_is_said() -> None:
    report = " ".join(printed(Lively(n_epochs=20).recording(), 100).split())
    assert "2.00 MiB in 20 of 20 epochs of process 4211: a file's bytes also change through write(2)" in report
    assert "pinned for device or io_uring access" in report
    assert "page writes (0.1 %) not watched" in report


def test_an_incomplete_recording_says_so_at_the_top() -> None:
    recording = replace(Lively(n_epochs=20).recording(), complete=False, ended_reason="cut off: killed")
    assert "The recording holds only the first 2.10 s (cut off: killed)" in "\n".join(
        printed(recording, 100).splitlines()[:4]
    )


def test_a_recording_without_writes_is_reported() -> None:
    report = printed(PlainRecording(recordings.header(), [recordings.process()], [recordings.mapping(1, 9)]), 80)
    assert "No write was seen in this recording." in report
    assert "[anonymous]" in report


def test_a_bar_is_never_empty_for_something_nor_full_for_less_than_all() -> None:
    assert text._bar(1e-9).plain.startswith("▏ ")
    assert text._bar(0.9999).plain.startswith("███████████▉ ")
    assert text._bar(1).plain == "████████████ 100 %"
    assert text._bar(0).plain == "             0 %"
