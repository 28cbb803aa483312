import numpy as np

from pagewatch.report.counting import Count, Survey
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
