import random
import time
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.report.intervals import Intervals, Union, cut, in_order, union, without

pages = st.sets(st.integers(0, 60))


def as_intervals(numbers: set[int]) -> Intervals:
    starts = sorted(n for n in numbers if n - 1 not in numbers)
    ends = sorted(n + 1 for n in numbers if n + 1 not in numbers)
    return Intervals(np.array(starts, np.int64), np.array(ends, np.int64))


def as_set(intervals: Intervals) -> set[int]:
    listed = [n for a, b in zip(intervals.starts.tolist(), intervals.ends.tolist(), strict=True) for n in range(a, b)]
    assert len(listed) == len(set(listed))
    return set(listed)


@given(numbers=pages, points=st.lists(st.integers(-5, 70)))
def test_below_counts_smaller_pages(numbers: set[int], points: list[int]) -> None:
    below = as_intervals(numbers).below(points)
    assert below.tolist() == [sum(n < point for n in numbers) for point in points]


@given(numbers=pages)
def test_at_is_the_inverse_of_below(numbers: set[int]) -> None:
    assert as_intervals(numbers).at(np.arange(len(numbers))).tolist() == sorted(numbers)


@given(numbers=pages, edges=st.lists(st.integers(-5, 70), min_size=1).map(sorted))
def test_bins_count_their_pages(numbers: set[int], edges: list[int]) -> None:
    counted = as_intervals(numbers).per_bin(np.array(edges))
    assert counted.tolist() == [sum(low <= n < high for n in numbers) for low, high in pairwise(edges)]


@given(parts=st.lists(pages))
def test_a_union_is_the_same_in_one_step_and_in_many(parts: list[set[int]]) -> None:
    growing = Union()
    for part in parts:
        growing.add(as_intervals(part))
    expected = as_intervals(set().union(*parts))
    merged = growing.merged()
    assert merged.starts.tolist() == expected.starts.tolist()
    assert merged.ends.tolist() == expected.ends.tolist()


def test_a_union_of_many_small_parts_does_not_wait_for_ever() -> None:
    growing = Union()
    for start in range(0, 40_000, 2):
        growing.add(Intervals(np.array([start]), np.array([start + 1])))
    assert growing._n_waiting < 20_000
    assert growing.merged().pages == 20_000


@given(numbers=pages, held=pages)
def test_cut_keeps_what_holders_have(numbers: set[int], held: set[int]) -> None:
    holders = as_intervals(held)
    parts, index = cut(as_intervals(numbers), holders)
    assert as_set(parts) == numbers & held
    assert (parts.starts >= holders.starts[index]).all()
    assert (parts.ends <= holders.ends[index]).all()


def test_cutting_for_one_holder_after_the_other_does_not_look_at_every_piece_each_time() -> None:
    """16,384 mappings and 131,072 runs took a report 55 s."""
    pieces = Intervals(np.arange(0, 200_000, 2), np.arange(1, 200_001, 2))
    calls = 2000

    def seconds(n_pieces: int) -> float:
        some = Intervals(pieces.starts[:n_pieces], pieces.ends[:n_pieces])
        began = time.process_time()
        for at in range(calls):
            assert len(cut(some, Intervals(np.array([2 * at]), np.array([2 * at + 2])))[0]) == 1
        return time.process_time() - began

    assert seconds(100_000) < 5 * seconds(calls)


@given(numbers=pages, gone=pages)
def test_without_is_the_difference(numbers: set[int], gone: set[int]) -> None:
    assert as_set(without(as_intervals(numbers), as_intervals(gone))) == numbers - gone


@given(numbers=pages, seed=st.randoms())
def test_in_order_sorts_and_union_merges(numbers: set[int], seed: random.Random) -> None:
    listed = list(numbers)
    seed.shuffle(listed)
    starts = np.array(listed, np.int64)
    assert in_order(starts, starts + 1).starts.tolist() == sorted(numbers)
    assert as_set(union(starts, starts + 1)) == numbers
