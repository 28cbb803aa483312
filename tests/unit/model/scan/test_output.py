"""The regions of one scan: what merges, what the limits cut, and where the walk says that it ended."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.model.scan.output import STAGE_REGIONS, Output
from pagewatch.vocab.categories import ALL_CATEGORIES, Category
from pagewatch.vocab.query import Query

SHIFT = 12
WRITTEN, PRESENT, FILE = int(Category.WRITTEN), int(Category.PRESENT), int(Category.FILE)
ROOM = 100


def output(
    *, returned: Category = ALL_CATEGORIES, max_pages: int = 0, vec_len: int = ROOM, query: Query | None = None
) -> Output:
    return Output(query or Query(returned=returned), SHIFT, max_pages=max_pages, vec_len=vec_len)


def push(to: Output, first: int, last: int, categories: int = WRITTEN) -> tuple[int, bool]:
    """Report pages [first, last); the page behind the last that fitted, and whether to stop."""
    end, stop = to.push(categories, first << SHIFT, last << SHIFT)
    return end >> SHIFT, stop


def found(by: Output) -> list[tuple[int, int, int]]:
    by.empty_stage()
    return [(start >> SHIFT, end >> SHIFT, categories) for start, end, categories in by.regions]


def test_touching_runs_of_equal_pages_are_one_region() -> None:
    it = output()
    for first, last in ((0, 2), (2, 3), (5, 6), (6, 7)):
        push(it, first, last)
    assert found(it) == [(0, 3, WRITTEN), (5, 7, WRITTEN)]
    assert it.found_pages == 5


def test_touching_runs_that_look_different_stay_apart() -> None:
    it = output()
    push(it, 0, 2, WRITTEN)
    push(it, 2, 3, WRITTEN | FILE)
    assert found(it) == [(0, 2, WRITTEN), (2, 3, WRITTEN | FILE)]


def test_what_is_not_returned_keeps_nothing_apart() -> None:
    it = output(returned=Category.WRITTEN)
    push(it, 0, 2, WRITTEN)
    push(it, 2, 3, WRITTEN | FILE)
    push(it, 3, 4, FILE)
    assert found(it) == [(0, 3, WRITTEN), (3, 4, 0)]


def test_a_run_that_the_page_limit_cuts_is_reported_up_to_there() -> None:
    it = output(max_pages=5)
    assert push(it, 0, 3) == (3, False)
    assert push(it, 10, 14) == (12, True)
    assert (found(it), it.found_pages, it.walk_end) == ([(0, 3, WRITTEN), (10, 12, WRITTEN)], 5, 12 << SHIFT)


def test_a_limit_that_is_just_reached_stops_the_walk_at_the_next_match_only() -> None:
    it = output(max_pages=3)
    assert push(it, 0, 3) == (3, False)
    assert it.walk_end == 0
    assert push(it, 8, 9) == (8, True)
    assert (found(it), it.walk_end) == ([(0, 3, WRITTEN)], 8 << SHIFT)


def test_without_room_for_another_region_touching_pages_still_fit() -> None:
    it = output(vec_len=1)
    push(it, 0, 1)
    assert push(it, 1, 4) == (4, False)
    assert push(it, 4, 6, FILE) == (4, True)
    assert (found(it), it.found_pages, it.walk_end) == ([(0, 4, WRITTEN)], 4, 4 << SHIFT)


def test_a_stage_holds_512_regions_and_then_the_rest_of_the_room() -> None:
    it = output(vec_len=STAGE_REGIONS + 2)
    for region in range(STAGE_REGIONS):
        assert push(it, 2 * region, 2 * region + 1) == (2 * region + 1, False)
    behind = 2 * STAGE_REGIONS
    assert push(it, behind, behind + 1) == (behind, True)
    assert len(found(it)) == STAGE_REGIONS == 512
    assert it.stage_size == 2
    assert [push(it, behind + 2 * n, behind + 2 * n + 1)[1] for n in range(3)] == [False, False, True]
    assert len(found(it)) == STAGE_REGIONS + 2
    assert it.stage_size == 0


def test_without_a_vector_everything_fits_and_nothing_is_counted() -> None:
    it = output(vec_len=0, max_pages=1)
    assert not it.wanted
    assert push(it, 0, 1000) == (1000, False)
    assert push(it, 2000, 2001, FILE) == (2001, False)
    it.back_out(2000 << SHIFT, 2001 << SHIFT)
    assert (found(it), it.found_pages, it.walk_end) == ([], 0, 0)


def test_taking_back_a_region_makes_room_for_its_pages_and_itself() -> None:
    it = output(vec_len=1, max_pages=4)
    push(it, 0, 4)
    it.back_out(0, 4 << SHIFT)
    assert it.found_pages == 0
    assert push(it, 0, 4, FILE) == (4, False)
    assert found(it) == [(0, 4, FILE)]


def test_taking_back_the_end_of_a_region_leaves_its_beginning() -> None:
    it = output()
    push(it, 0, 4)
    push(it, 4, 8)
    it.back_out(4 << SHIFT, 8 << SHIFT)
    assert it.found_pages == 4
    push(it, 4, 5, FILE)
    assert found(it) == [(0, 4, WRITTEN), (4, 5, FILE)]


def test_a_page_that_was_left_out_is_where_the_walk_ended_though_it_goes_on() -> None:
    it = output()
    it.leave_out(8 << SHIFT)
    assert push(it, 16, 17) == (17, False)
    assert (it.walk_end, it.left_out) == (8 << SHIFT, True)


@pytest.mark.parametrize(
    ("query", "matching"),
    [
        (Query(), {0, WRITTEN, FILE, WRITTEN | FILE}),
        (Query(mask=Category.WRITTEN), {WRITTEN, WRITTEN | FILE}),
        (Query(mask=Category.WRITTEN | Category.FILE), {WRITTEN | FILE}),
        (Query(anyof=Category.WRITTEN | Category.FILE), {WRITTEN, FILE, WRITTEN | FILE}),
        (Query(mask=Category.WRITTEN | Category.FILE, inverted=Category.FILE), {WRITTEN}),
        (Query(anyof=Category.WRITTEN | Category.FILE, inverted=Category.FILE), {0, WRITTEN, WRITTEN | FILE}),
        (Query(inverted=Category.FILE), {0, WRITTEN, FILE, WRITTEN | FILE}),
        (Query(mask=Category.WRITTEN, anyof=Category.FILE), {WRITTEN | FILE}),
    ],
    ids=str,
)
def test_all_of_the_mask_and_any_of_the_alternatives_must_hold_after_inversion(
    query: Query, matching: set[int]
) -> None:
    it = output(query=query)
    assert {bits for bits in (0, WRITTEN, FILE, WRITTEN | FILE) if it.matches(bits)} == matching


RUNS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from([WRITTEN, WRITTEN | PRESENT, PRESENT])), max_size=8
)
"""Pages left out before, length, categories."""


@given(runs=RUNS, max_pages=st.integers(0, 12), vec_len=st.integers(1, 6))
def test_reporting_runs_is_reporting_their_pages_one_by_one(
    runs: list[tuple[int, int, int]], max_pages: int, vec_len: int
) -> None:
    it = output(returned=Category.PRESENT, max_pages=max_pages, vec_len=vec_len)
    pages: list[tuple[int, int]] = []
    stopped, first = False, 0
    for gap, n_pages, categories in runs:
        first += gap
        pages += [(page, categories & PRESENT) for page in range(first, first + n_pages)]
        if not stopped:
            _, stopped = push(it, first, first + n_pages, categories)
        first += n_pages
    kept, left = cut(pages, max_pages, vec_len)
    assert [(page, bits) for start, end, bits in found(it) for page in range(start, end)] == kept
    assert (it.found_pages, it.walk_end >> SHIFT) == (len(kept), left)


def cut(pages: list[tuple[int, int]], max_pages: int, vec_len: int) -> tuple[list[tuple[int, int]], int]:
    """Those that fit, and the first that does not, 0 if all do."""
    kept: list[tuple[int, int]] = []
    n_regions = 0
    for page, bits in pages:
        begins = not kept or kept[-1] != (page - 1, bits)
        if (max_pages and len(kept) == max_pages) or n_regions + begins > vec_len:
            return kept, page
        n_regions += begins
        kept.append((page, bits))
    return kept, 0
