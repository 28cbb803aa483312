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
