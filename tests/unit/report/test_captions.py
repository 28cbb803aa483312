import pytest

from pagewatch.report import captions
from pagewatch.report.figures import compute
from support import recordings
from support.recordings import HOSTILE_NAME, PlainRecording


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ((), "(unknown command)"),
        (("a b", "", ""), "a b"),
        (("sh", "-c", "x y"), "sh -c 'x y'"),
        (("x", "", "y"), "x '' y"),
    ],
)
def test_a_command_is_one_line(command: tuple[str, ...], text: str) -> None:
    recording = PlainRecording(recordings.header(command=command))
    assert captions.command(compute(recording, rows=1, columns=1)) == text


def test_what_is_missing_is_said_without_control_characters() -> None:
    sentence = captions.missing(HOSTILE_NAME, 12_300_000_000)
    assert sentence.startswith("the recording holds only the first 12.3 s (")
    assert sentence.isprintable()


def test_epochs_are_not_sold_as_collects_where_there_are_several_processes() -> None:
    one = PlainRecording(recordings.header(), [recordings.process()], all_epochs=[recordings.epoch(0, [1])])
    assert captions.facts(compute(one, rows=1, columns=1))[1:3] == ["1 epoch at 10 Hz", "1 process"]
    epochs = [recordings.epoch(index, [1], pid=pid) for index in range(5) for pid in (100, 101, 102)]
    many = PlainRecording(recordings.header(), [recordings.process(pid) for pid in (100, 101, 102)], all_epochs=epochs)
    assert captions.facts(compute(many, rows=1, columns=1))[1:3] == ["5 rounds at 10 Hz", "15 epochs of 3 processes"]


@pytest.mark.parametrize(
    ("epochs", "text"),
    [
        ([], "nothing was written"),
        ([[1, 2], [3, 4]], "100 % of pages only once"),
        ([[1, 2], [1]], "50 % of pages only once"),
        ([[1], [1]], "0 % of pages only once"),
    ],
)
def test_a_share_is_told_only_of_what_was_written(epochs: list[list[int]], text: str) -> None:
    rows = [recordings.epoch(index, pages) for index, pages in enumerate(epochs)]
    recording = PlainRecording(recordings.header(), [recordings.process()], all_epochs=rows)
    assert captions.rewritten(compute(recording, rows=1, columns=1)) == text


@pytest.mark.parametrize(
    ("label", "width", "name"),
    [
        ("", 30, "[anonymous] 7f8ab1fec000"),
        ("", 20, "[anon] 7f8ab1fec000"),
        ("", 16, "7f8ab1fec000"),
        ("[heap]", 16, "[heap]"),
        ("/usr/lib/libc.so.6", 12, "libc.so.6"),
    ],
)
def test_a_mapping_without_a_name_is_called_by_where_it_begins(label: str, width: int, name: str) -> None:
    recording = PlainRecording(
        recordings.header(), [recordings.process()], [recordings.mapping(0x7F8AB1FEC, 0x7F8AB1FF0, label)]
    )
    (mapping,) = compute(recording, rows=1, columns=1).mappings
    assert captions.name(mapping, width) == name
