import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.report.axis import compact_axis
from pagewatch.report.intervals import Intervals, union

EDGES = np.array([0, 1000, 5000, 100_000])


def written(pages: list[int]) -> Intervals:
    starts = np.array(pages, np.int64)
    return union(starts, starts + 1)


anywhere = st.lists(
    st.one_of(st.integers(0, 998), st.integers(1000, 4998), st.integers(5000, 99_998)), min_size=1, max_size=80
)


@given(pages=anywhere, limit=st.integers(1, 60))
def test_every_written_page_lies_in_exactly_one_row(pages: list[int], limit: int) -> None:
    axis = compact_axis(written(pages), EDGES, limit=limit)
    assert 1 <= len(axis) <= limit
    assert (axis.rows.starts < axis.rows.ends).all()
    assert (axis.rows.ends[:-1] <= axis.rows.starts[1:]).all()
    assert axis.per_row(written(pages)).sum() == len(set(pages))
    for page in set(pages):
        assert sum((axis.rows.starts <= page) & (page < axis.rows.ends)) == 1


@given(pages=anywhere, limit=st.integers(240, 400))
def test_rows_do_not_cross_mappings_or_cuts_where_there_is_room(pages: list[int], limit: int) -> None:
    axis = compact_axis(written(pages), EDGES, limit=max(limit, 4 * len(pages)))
    assert (axis.blocks == 1).all()
    area = np.searchsorted(EDGES, axis.rows.starts, side="right")
    assert (area == np.searchsorted(EDGES, axis.rows.ends - 1, side="right")).all()
    assert np.array_equal(axis.pages, axis.rows.ends - axis.rows.starts)


def test_long_gaps_are_cut_and_short_ones_stay() -> None:
    axis = compact_axis(written([1000, 1010, 1020, 4000, 4001]), EDGES, limit=400)
    assert axis.rows.starts[axis.cuts].tolist() == [4000]
    assert axis.pages.sum() == 21 + 2


def test_memory_written_here_and_there_is_shown_whole() -> None:
    axis = compact_axis(written(list(range(5000, 90_000, 500))), EDGES, limit=200)
    assert not axis.cuts.any()
    assert len(axis) >= 190


def test_a_giant_leaves_rows_to_the_small() -> None:
    pages = Intervals(np.array([0, 5000]), np.array([3, 99_000]))
    axis = compact_axis(pages, EDGES, limit=100)
    assert (axis.rows.ends <= 3).sum() >= 1
    assert len(axis) > 95


def test_nothing_written_has_no_rows() -> None:
    axis = compact_axis(Intervals(), EDGES, limit=10)
    assert len(axis) == len(axis.pages) == len(axis.cuts) == len(axis.per_row(Intervals())) == 0
