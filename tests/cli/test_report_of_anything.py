"""Whatever a recording claims, each renderer shows it: no error, no warning, no explosion of memory."""

import json
import random
from io import StringIO

import pytest
from rich.console import Console

from pagewatch.report import as_json, html, png, text
from pagewatch.report.figures import compute
from pagewatch.trace import EpochRow, MappingRow
from pagewatch.vocab.errors import FeatureMissing
from pagewatch.vocab.regions import Regions
from support import recordings
from support.recordings import HOSTILE_NAME, PAGE, PlainRecording

LAST_PAGE = (1 << 57) // PAGE - 1


def any_page(rng: random.Random) -> int:
    return rng.choice([0, 1, LAST_PAGE, rng.randrange(100), rng.randrange(1 << 35), rng.randrange(LAST_PAGE)])


def any_mapping(rng: random.Random) -> MappingRow:
    start = min(any_page(rng), LAST_PAGE - 1)
    end = min(start + rng.choice([1, 3, 1000, 1 << 20, 1 << 34]), LAST_PAGE)
    name = rng.choice(["", "/x", HOSTILE_NAME, "[heap]", "名" * 200])
    last_ns = rng.choice([None, 3, 10**10])
    return recordings.mapping(start, end, name, pid=rng.choice([1, 2]), first_ns=rng.choice([0, 5]), last_ns=last_ns)


def any_recording(rng: random.Random) -> PlainRecording:
    mappings = [any_mapping(rng) for _ in range(rng.randrange(40))]
    epochs: list[EpochRow] = []
    now_ns = 0
    for index in range(rng.choice([0, 1, 2, 30, 300])):
        now_ns += rng.choice([0, 0, 1, 10**6, 10**8, 10**12])
        written = recordings.regions(sorted({any_page(rng) for _ in range(rng.randrange(30))}))
        if mappings and rng.random() < 0.5:
            whole = rng.choice(mappings).mapping
            written = Regions([(whole.start, whole.end)], page_size=PAGE)
        epochs.append(EpochRow(rng.choice([1, 2, 3]), index, now_ns, now_ns, written, recordings.regions([]), ()))
    return PlainRecording(
        recordings.header(hz=rng.choice([0.001, 1000.0]), created_unix_s=rng.choice([0.0, 1e18])),
        [recordings.process(1), recordings.process(2, HOSTILE_NAME)],
        mappings,
        epochs,
        ended_ns=rng.choice([0, now_ns, 10**15]),
    )


def test_a_recording_of_all_memory_there_can_be_is_shown_in_every_form() -> None:
    whole = Regions([(0, 1 << 57)], page_size=512)
    nothing = Regions(page_size=512)
    recording = PlainRecording(
        recordings.header(page_size=512),
        [recordings.process(1)],
        [],
        [EpochRow(1, index, index, index, whole, nothing, ()) for index in range(5000)],
        ended_ns=5000,
    )
    figures = compute(recording, rows=400, columns=600)
    assert json.loads(as_json.render(figures))["totals"]["page_writes"] == 5000 << 48
    assert 0 <= figures.heatmap.density.min() <= figures.heatmap.density.max() <= 1
    text.render(figures, Console(file=StringIO(), width=100))
    try:
        assert html.render(figures).rstrip().endswith("</html>")
        assert png.render(figures).startswith(b"\x89PNG")
    except FeatureMissing as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("seed", range(24))
def test_any_recording_can_be_shown_in_every_form(seed: int) -> None:
    rng = random.Random(seed)
    recording = any_recording(rng)
    rows, columns = rng.choice([1, 2, 7, 400]), rng.choice([1, 3, 600])
    figures = compute(recording, rows=rows, columns=columns)
    assert json.loads(as_json.render(figures))
    for in_colour in (False, True):
        console = Console(file=StringIO(), width=rng.choice([40, 100]), force_terminal=in_colour)
        text.render(figures, console)
        assert console.file.getvalue()
    try:
        assert html.render(figures).rstrip().endswith("</html>")
        assert png.render(figures).startswith(b"\x89PNG")
    except FeatureMissing as error:
        pytest.skip(str(error))
