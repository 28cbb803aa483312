import struct
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest

from pagewatch.report import scale
from pagewatch.report.figures import compute
from pagewatch.report.png import render
from pagewatch.vocab.errors import FeatureMissing
from support import recordings
from support.recordings import HOSTILE_NAME, Lively, PlainRecording

NEEDS = "needs matplotlib: pip install 'pagewatch[png]'"


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height as the file's own header gives them, its checksum proven."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert zlib.crc32(data[12:29]) == struct.unpack(">I", data[29:33])[0]
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_the_picture_shows_heat_in_the_colours_of_the_scale() -> None:
    matplotlib_image = pytest.importorskip("matplotlib.image", reason=NEEDS)
    from io import BytesIO

    data = render(compute(Lively(n_epochs=60).recording(), rows=200, columns=300))
    assert size_of(data) == (1920, 1080)
    pixels = (matplotlib_image.imread(BytesIO(data))[:, :, :3] * 255).round().astype(int)
    for stop in (scale.DARK[-1], scale.DARK[4]):
        wanted = np.array([int(stop[i : i + 2], 16) for i in (1, 3, 5)])
        assert (np.abs(pixels - wanted).max(axis=2) <= 12).sum() > 500


@pytest.mark.parametrize("name", [HOSTILE_NAME, "$\\frac{1}{", "名前", ""])
def test_any_name_can_be_drawn(name: str) -> None:
    pytest.importorskip("matplotlib", reason=NEEDS)
    recording = Lively(n_epochs=5, name=name).recording()
    recording = replace(recording, header=recordings.header(command=(name,)))
    assert size_of(render(compute(recording, rows=50, columns=50))) == (1920, 1080)


def test_no_label_reaches_over_the_edge() -> None:
    matplotlib_image = pytest.importorskip("matplotlib.image", reason=NEEDS)
    from io import BytesIO

    recording = Lively(n_epochs=20, name="W" * 40).recording()
    pixels = matplotlib_image.imread(BytesIO(render(compute(recording, rows=200, columns=300))))[:, :, :3]
    for edge in (pixels[:, :12], pixels[:, -12:], pixels[:12], pixels[-12:]):
        assert (edge == pixels[0, 0]).all()


def test_a_recording_without_writes_is_a_picture_too() -> None:
    pytest.importorskip("matplotlib", reason=NEEDS)
    assert size_of(render(compute(PlainRecording(recordings.header()), rows=9, columns=9))) == (1920, 1080)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FeatureMissing, match=r"pip install 'pagewatch\[png\]'"):
        render(compute(PlainRecording(recordings.header()), rows=9, columns=9))
