"""The progress of a scan over several calls."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.linux.scan_walk import Walk
from pagewatch.vocab.addresses import PAGE_SIZE as P
from pagewatch.vocab.regions import REGION
from support.pages import page_sets, runs_of

END = 100 * P


def output(*rows):
    return np.array([(first * P, last * P, bits) for first, last, bits in rows], REGION)


def test_a_fresh_walk_stands_at_the_start():
    walk = Walk(P, END, 0, None)
    assert (walk.position, walk.done, walk.limited, walk.pages_left, walk.regions_left) == (P, False, False, 0, None)


def test_reaching_the_end_completes():
    walk = Walk(0, END, 0, None)
    walk.take(output((1, 3, 2)))
    walk.go_on_at(END)
    scan = walk.result()
    assert (walk.done, scan.complete, scan.walk_end) == (True, True, END)
    assert [tuple(r) for r in scan.regions] == [(P, 3 * P, 2)]


def test_no_regions_allowed_is_done_at_once():
    assert Walk(0, END, 0, 0).done
    assert not Walk(0, 0, 0, 0).done


def test_pages_are_counted_down():
    walk = Walk(0, END, 5, None)
    walk.take(output((1, 3, 0)))
    walk.go_on_at(3 * P)
    assert (walk.pages_left, walk.done) == (3, False)
    assert not walk.fills_pages(output((4, 6, 0)))
    assert walk.fills_pages(output((4, 7, 0)))
    walk.take(output((4, 7, 0)))
    walk.go_on_at(8 * P)
    assert (walk.done, walk.result().complete, walk.result().walk_end) == (True, False, 8 * P)


def test_regions_are_counted_down_and_one_that_continues_counts_once():
    walk = Walk(0, END, 0, 3)
    walk.take(output((1, 3, 2), (5, 6, 2)))
    assert (walk.regions_left, walk.regions_wanted(1024)) == (1, 1)
    walk.take(output((6, 7, 2)))
    walk.go_on_at(7 * P)
    assert (walk.regions_left, walk.done) == (1, False)
    walk.take(output((7, 8, 4)))
    walk.go_on_at(8 * P)
    assert (walk.regions_left, walk.done) == (0, True)
    assert len(walk.result().regions) == 3


def test_the_vector_bounds_what_is_asked_for():
    assert Walk(0, END, 0, None).regions_wanted(1024) == 1024
    assert Walk(0, END, 0, 5000).regions_wanted(1024) == 1024


def test_nothing_found_is_an_empty_set():
    walk = Walk(0, END, 0, None)
    walk.take(output())
    walk.go_on_at(END)
    assert len(walk.result().regions) == 0


@given(page_sets, st.lists(st.integers(0, 24), max_size=5).map(sorted))
def test_pieces_add_up_to_what_one_call_would_have_said(pages, cuts):
    whole = [(at, bits) for at, bits in sorted(pages.items())]
    walk = Walk(0, 1 << 60, 0, None)
    bounds = [0, *(min(cut, len(whole)) for cut in cuts), len(whole)]
    for first, last in itertools.pairwise(bounds):
        walk.take(np.array(runs_of(dict(whole[first:last])), REGION))
    walk.go_on_at(1 << 60)
    assert walk.result().regions.array.tolist() == runs_of(pages)


@pytest.mark.parametrize("limits", [(1, None), (0, 1), (1, 1)])
def test_a_limit_of_the_caller_is_known(limits):
    assert Walk(0, END, *limits).limited
