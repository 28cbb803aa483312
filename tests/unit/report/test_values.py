import numpy as np

from pagewatch.report.values import Heatmap, Timeline


def heatmap(mappings: list[int]) -> Heatmap:
    n = len(mappings)
    return Heatmap(
        row_start=np.arange(n, dtype=np.uint64),
        row_end=np.arange(1, n + 1, dtype=np.uint64),
        row_pages=np.full(n, 10),
        row_mapping=np.array(mappings, np.int64),
        row_blocks=np.ones(n, np.int64),
        cuts=np.zeros(n, np.bool_),
        page_writes=np.full((n, 2), 5),
        rounds=np.array([1, 2]),
    )


def test_density_is_the_share_of_pages_a_round() -> None:
    assert heatmap([0]).density.tolist() == [[0.5, 0.25]]


def test_bands_are_runs_of_one_mapping() -> None:
    assert heatmap([3, 3, 1, 3]).bands() == [(3, 0, 2), (1, 2, 3), (3, 3, 4)]
    assert heatmap([]).bands() == []


def test_borders_leave_thin_bands_alone() -> None:
    assert heatmap([0] * 100 + [1] * 100).borders() == [100]
    assert heatmap([0] * 100 + [1] + [2] * 100).borders() == []


def test_a_column_without_duration_has_no_rate() -> None:
    timeline = Timeline(np.array([0, 10**9, 10**9]), np.ones(2), np.array([7, 7]), np.ones(2), np.ones(2))
    assert timeline.page_writes_per_s.tolist() == [7.0, 0.0]
