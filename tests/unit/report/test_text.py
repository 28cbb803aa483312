import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from pagewatch.report import text
from pagewatch.report.figures import compute
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from support import recordings
from support.recordings import HOSTILE_NAME, PAGE, Lively, PlainRecording


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


def test_no_line_ends_in_blanks() -> None:
    for in_colour in (False, True):
        report = printed(Lively(n_epochs=40).recording(), 80, in_colour=in_colour)
        assert [line for line in report.splitlines() if line.endswith(" ")] == []


def test_the_report_says_what_was_written_where() -> None:
    report = printed(Lively(n_epochs=60).recording(), 110)
    for expected in ("python3 sort.py --size 64M", "uffd-async", "[heap]", "/srv/ring", "python3 4211", "worker 4212"):
        assert expected in report
    for heading in ("Where and when", "Mappings", "Hottest pages", "What these numbers cannot contain", "Notes"):
        assert heading in report


def test_what_cannot_be_known_is_said() -> None:
    report = " ".join(printed(Lively(n_epochs=20).recording(), 100).split())
    assert "2.00 MiB in 1 range of process 4211, 20 of 20 epochs: a file's bytes also change through write(2)" in report
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
    assert text.bar(1e-9, 12).plain.startswith("▏ ")
    assert text.bar(0.9999, 12).plain.startswith("███████████▉ ")
    assert text.bar(0.9999, 6).plain == "█████▉ 99 %"
    assert text.bar(1, 12).plain == "████████████ 100 %"
    assert text.bar(0, 12).plain == "             0 %"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_nothing_is_torn_off_in_a_narrow_terminal(width: int) -> None:
    """Numbers, addresses and reasons are whole, however few columns there is room for."""
    recording = Lively(n_epochs=40, name="/srv/ring").recording()
    detail = "written after the last collect before it replaced its program by exec, as programs do"
    spot = BlindSpot(0x7F2A40000000, 0x7F2A40001000, BlindReason.NOT_FOLLOWED, detail)
    last = replace(recording.all_epochs[-1], blind_spots=(spot,))
    report = printed(replace(recording, all_epochs=[*recording.all_epochs[:-1], last]), width)
    # Only a library's long name may be shortened.
    assert [word for word in report.split() if "…" in word and not word.startswith("_module")] == []
    told = " ".join(report.split())
    assert detail in told
    assert BlindReason.NOT_FOLLOWED.value in told
    table = report.split("Mappings ─")[1].split("Hottest")[0]
    wanted = ("size", "unique", "pages", *(("page", "writes") if width > 40 else ()))
    assert [word for word in wanted if word not in table] == []


def test_mappings_without_a_name_are_told_apart() -> None:
    mappings = [recordings.mapping(0x7F8AB1FEC, 0x7F8AB1FF0), recordings.mapping(0x7F8AC0000, 0x7F8AC0004)]
    pages = [0x7F8AB1FEC, 0x7F8AC0001]
    recording = PlainRecording(
        recordings.header(), [recordings.process()], mappings, [recordings.epoch(i, pages) for i in range(9)]
    )
    for width, name in ((40, ""), (60, "[anonymous] "), (80, "[anonymous] ")):
        where, table = printed(recording, width).split("Mappings ─")
        for place in ("7f8ab1fec000", "7f8ac0000000"):
            assert place in where
            assert f"{name}{place}" in table
            assert re.search(rf"{place} +16.0 KiB +4.00 KiB", table)


def test_many_processes_make_few_lines_of_blind_spots() -> None:
    spots = (BlindSpot(PAGE, 9 * PAGE, BlindReason.NOT_FOLLOWED, "written between its fork and being attached"),)
    recording = PlainRecording(
        recordings.header(),
        [recordings.process(pid, "worker") for pid in range(100, 160)],
        all_epochs=[recordings.epoch(0, [], pid=pid, blind_spots=spots) for pid in range(100, 160)],
    )
    section = printed(recording, 80).split("What these numbers cannot contain")[1]
    assert len(section.splitlines()) < 10
    told = " ".join(section.split())
    assert "1.88 MiB in 60 ranges of 60 processes, 60 of 60 epochs: belongs to a process" in told
    assert "for example worker 100: written between its fork" in told
    assert "--json" in told


def test_one_epoch_is_no_plural() -> None:
    one = PlainRecording(recordings.header(), [recordings.process()], all_epochs=[recordings.epoch(0, [1])])
    report = printed(one, 80)
    assert "1 epoch at 10 Hz · 1 process" in report
    assert "1 of 1 epoch " in report
    assert not re.search(r"\b1 (epochs|pages|ranges|processes|rounds)\b", report)
