from dataclasses import replace

import numpy as np
import pytest

from pagewatch.report.counting import Count, Survey
from pagewatch.trace import EpochRow
from pagewatch.vocab.errors import InvalidArgument
from pagewatch.vocab.regions import Regions
from support import recordings
from support.recordings import SECOND_NS, PlainRecording


def recording(n_epochs: int) -> PlainRecording:
    rng = np.random.default_rng(5)
    return PlainRecording(
        header=recordings.header(),
        processes=[recordings.process()],
        mappings=[recordings.mapping(1000, 9000)],
        all_epochs=[recordings.epoch(i, 1000 + rng.choice(8000, 50, replace=False)) for i in range(n_epochs)],
        ended_ns=n_epochs * SECOND_NS // 10,
    )


def test_rounds_know_their_pages() -> None:
    survey = Survey(recording(30), None)
    assert survey.round_pages.tolist() == [50] * 30
    assert survey.pids == [100] * 30


def test_every_way_of_counting_finds_the_same_sum() -> None:
    survey = Survey(recording(40), None)
    count = Count(survey, rows=30, columns=7)
    timeline = count.timeline()
    assert count.page_writes.sum() == count.cells.sum() == timeline.page_writes.sum() == 40 * 50
    by_epochs = count.rewrites.distribution()
    assert sum(bin_.pages for bin_ in by_epochs) == survey.written.pages == timeline.pages_so_far[-1]


def test_a_longer_recording_makes_no_larger_grid() -> None:
    short, long = (Count(Survey(recording(n), None), rows=40, columns=25) for n in (25, 400))
    assert short.cells.shape[1] == long.cells.shape[1] == 25
    assert long.cells.shape[0] <= 40


SMALL = 512
WHOLE = Regions([(0, 1 << 57)], page_size=SMALL)
NOTHING = Regions(page_size=SMALL)


def all_memory_each_time(n_epochs: int, *, assumed: Regions = NOTHING, written: Regions = WHOLE) -> PlainRecording:
    """All addresses that a recording can have, of the smallest pages that it can have."""
    return PlainRecording(
        header=recordings.header(page_size=SMALL),
        processes=[recordings.process()],
        mappings=[],
        all_epochs=[EpochRow(100, i, i, i, written, assumed, ()) for i in range(n_epochs)],
        ended_ns=n_epochs,
    )


def test_the_largest_sums_there_can_be_are_right() -> None:
    n_epochs = 1 << 14
    survey = Survey(all_memory_each_time(n_epochs), None)
    count = Count(survey, rows=300, columns=50)
    expected = n_epochs << 48
    assert int(count.page_writes.sum()) == int(count.cells.sum()) == int(survey.round_pages.sum()) == expected
    assert count.rewrites.hottest(5) == [(0, 1 << 48, n_epochs)]
    assert int(count.axis.pages.sum()) == survey.written.pages == 1 << 48


@pytest.mark.parametrize(
    "hostile",
    [
        all_memory_each_time((1 << 14) + 1),
        all_memory_each_time((1 << 14) + 1, written=NOTHING, assumed=WHOLE),
    ],
    ids=["written", "assumed"],
)
def test_more_page_writes_than_can_have_been_are_refused(hostile: PlainRecording) -> None:
    with pytest.raises(InvalidArgument, match="more page writes"):
        Survey(hostile, None)


def test_more_written_pages_than_machines_can_have_are_refused() -> None:
    hostile = replace(
        all_memory_each_time(0),
        processes=[recordings.process(pid) for pid in (100, 101)],
        all_epochs=[EpochRow(pid, 0, 1, 1, WHOLE, NOTHING, ()) for pid in (100, 101)],
    )
    with pytest.raises(InvalidArgument, match="more written pages"):
        Survey(hostile, None)
