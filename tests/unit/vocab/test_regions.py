"""Regions against the naive definition: a dict of page to categories."""

import copy
import ctypes
import itertools
import pickle
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import InvalidArgument
from pagewatch.vocab.regions import REGION, Region, Regions, join, merge_touching
from support.pages import page_sets, pages_of, regions_of, runs_of

P = PAGE_SIZE
HUGE = 2 << 20


def rows(regions):
    return [(start, end, int(categories)) for start, end, categories in regions]


# --- what a set of pages is


def test_layout_is_the_kernels_page_region():
    assert REGION.itemsize == 24
    assert [(name, REGION.fields[name][1]) for name in REGION.names] == [("start", 0), ("end", 8), ("categories", 16)]
    assert {REGION[name] for name in REGION.names} == {np.dtype("<u8")}


@given(page_sets, st.randoms(use_true_random=False))
def test_any_order_of_pages_gives_the_shortest_list_of_runs(pages, shuffler):
    shuffled = list(pages.items())
    shuffler.shuffle(shuffled)
    assert rows(regions_of(dict(shuffled))) == runs_of(pages)


@given(page_sets)
def test_an_array_in_the_kernels_layout_means_the_same_as_rows(pages):
    array = np.array([(at, at + P, bits) for at, bits in pages.items()], REGION)
    assert Regions(array) == regions_of(pages)


@given(page_sets)
def test_counts_are_those_of_the_pages(pages):
    regions = regions_of(pages)
    assert (regions.pages, regions.nbytes, len(regions)) == (len(pages), len(pages) * P, len(runs_of(pages)))


@given(page_sets)
def test_page_addresses_are_all_pages_ascending(pages):
    addresses = regions_of(pages).page_addresses()
    assert addresses.dtype == np.uint64
    assert addresses.tolist() == sorted(pages)


@given(page_sets)
def test_iteration_and_indexing_agree(pages):
    regions = regions_of(pages)
    assert [regions[i] for i in range(len(regions))] == list(regions)
    assert [regions[i - len(regions)] for i in range(len(regions))] == list(regions)
    assert all(type(region) is Region and type(region.categories) is Category for region in regions)


@given(page_sets, page_sets)
def test_equality_is_equality_of_pages(left, right):
    assert (regions_of(left) == regions_of(right)) == (left == right)


@given(page_sets)
def test_equal_sets_have_equal_hashes(pages):
    assert hash(regions_of(pages)) == hash(Regions(runs_of(pages)))


def test_page_size_is_part_of_the_value():
    assert Regions([(0, HUGE)], page_size=HUGE) != Regions([(0, HUGE)])
    assert Regions([(0, HUGE)], page_size=HUGE).pages == 1
    assert Regions([(0, HUGE)]) != [(0, HUGE, 0)]


# --- set algebra


@given(page_sets, page_sets)
def test_union_has_pages_of_either_with_all_their_categories(left, right):
    expected = {at: left.get(at, 0) | right.get(at, 0) for at in left | right}
    assert rows(regions_of(left) | regions_of(right)) == runs_of(expected)


@given(page_sets, page_sets)
def test_intersection_has_pages_of_both_with_all_their_categories(left, right):
    expected = {at: left[at] | right[at] for at in left.keys() & right.keys()}
    assert rows(regions_of(left) & regions_of(right)) == runs_of(expected)


@given(page_sets, page_sets)
def test_difference_has_pages_of_the_first_only_unchanged(left, right):
    expected = {at: bits for at, bits in left.items() if at not in right}
    assert rows(regions_of(left) - regions_of(right)) == runs_of(expected)


@given(page_sets, st.integers(-2, 26), st.integers(-2, 26))
def test_clipping_keeps_the_pages_inside(pages, first, last):
    start, end = (0x10_0000 + first) * P, (0x10_0000 + last) * P
    expected = {at: bits for at, bits in pages.items() if start <= at < end}
    assert rows(regions_of(pages).clip(start, end)) == runs_of(expected)


@given(page_sets)
def test_clipping_to_everything_changes_nothing(pages):
    regions = regions_of(pages)
    assert regions.clip(-P, 1 << 70) == regions == regions.clip(0, (1 << 64) - P)


@given(page_sets)
def test_plain_forgets_categories_and_merges(pages):
    assert rows(regions_of(pages).plain()) == runs_of(dict.fromkeys(pages, 0))


@given(page_sets, st.integers(0, 0x1FF))
def test_categories_can_be_left_out_or_asked_for(pages, bits):
    wanted = Category(bits)
    assert rows(regions_of(pages).showing(wanted)) == runs_of({at: held & bits for at, held in pages.items()})
    assert rows(regions_of(pages).having(wanted)) == runs_of(
        {at: held for at, held in pages.items() if held & bits == bits}
    )


@given(page_sets, st.sampled_from([0, 2, 6]), st.randoms(use_true_random=False))
def test_from_pages_takes_any_order_and_duplicates(pages, categories, shuffler):
    addresses = [*pages, *list(pages)[:3]]
    shuffler.shuffle(addresses)
    regions = Regions.from_pages(addresses, Category(categories))
    assert rows(regions) == runs_of(dict.fromkeys(pages, categories))


@given(page_sets)
def test_page_addresses_and_from_pages_are_inverse(pages):
    regions = regions_of(pages).plain()
    assert Regions.from_pages(regions.page_addresses()) == regions


@given(page_sets, st.lists(st.integers(1, 3), max_size=8))
def test_joining_disjoint_parts_gives_back_the_whole(pages, cuts):
    whole = regions_of(pages)
    bounds = [0x10_0000 * P]
    for step in cuts:
        bounds.append(bounds[-1] + step * P)
    bounds.append(1 << 60)
    parts = [whole.clip(a, b) for a, b in itertools.pairwise(bounds)]
    random.Random(len(pages)).shuffle(parts)
    assert join(parts) == whole


@given(page_sets)
def test_merge_touching_leaves_canonical_arrays_alone(pages):
    array = regions_of(pages).array
    assert merge_touching(array) is array


@given(page_sets)
def test_merge_touching_joins_page_by_page_input(pages):
    single = np.array([(at, at + P, bits) for at, bits in sorted(pages.items())], REGION)
    assert merge_touching(single).tolist() == runs_of(pages)


def test_long_sets_need_no_loop_in_python():
    """A million regions in a second or two: what a collect of every second page of 8 GiB gives."""
    every_second = np.arange(1 << 20, dtype=np.uint64) * np.uint64(2 * P)
    regions = Regions.from_pages(every_second)
    assert len(regions) == 1 << 20
    shifted = Regions.from_pages(every_second + np.uint64(P))
    assert rows(regions | shifted) == [(0, (2 << 20) * P, 0)]
    assert len(regions & shifted) == 0


# --- slices of a buffer


@given(page_sets.map(sorted), st.integers(0, P - 1), st.integers(1, 5 * P))
def test_within_gives_the_bytes_of_the_buffer_that_are_covered(addresses, offset, length):
    memory = np.zeros(8 * P, np.uint8)
    base = -(-memory.ctypes.data // P) * P
    # Pages around the buffer, which begins somewhere in the first and may end anywhere.
    buffer = memory[base - memory.ctypes.data + offset :][:length]
    shifted = [at - 0x10_0000 * P + base - 2 * P for at in addresses]
    pages = {at // P for at in shifted}
    covered = [(base + offset + index) // P in pages for index in range(length)]
    found = Regions.from_pages(shifted).within(buffer)
    marked = np.zeros(length, np.bool_)
    for part in found:
        assert 0 <= part.start < part.stop <= length
        assert not marked[part].any()
        marked[part] = True
    assert marked.tolist() == covered
    assert found == sorted(found, key=lambda part: part.start)


def test_slices_address_the_bytes_that_were_stored():
    buffer = bytearray(6 * P)
    base = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    page = -(-base // P) * P + P
    ctypes.memset(page, 1, P)
    (part,) = Regions([(page, page + P)]).within(buffer)
    assert bytes(buffer[part]) == b"\1" * P
    assert buffer.count(1) == P


# --- immutability


def test_the_array_cannot_be_written():
    regions = Regions([(0, P)])
    with pytest.raises(ValueError, match="read-only"):
        regions.array["start"] = 5


def test_the_callers_array_is_neither_frozen_nor_shared():
    array = np.array([(0, P, 0)], REGION)
    regions = Regions(array)
    array["categories"] = 6
    assert rows(regions) == [(0, P, 0)]


@given(page_sets, page_sets)
def test_operators_leave_their_operands_alone(left, right):
    a, b = regions_of(left), regions_of(right)
    for result in (a | b, a & b, a - b, a.plain(), a.clip(0, 1 << 60), join([a])):
        assert not result.array.flags.writeable
    assert (rows(a), rows(b)) == (runs_of(left), runs_of(right))


@pytest.mark.parametrize("again", [lambda r: pickle.loads(pickle.dumps(r)), copy.copy, copy.deepcopy])  # noqa: S301
def test_copies_are_equal_and_immutable_too(again):
    regions = Regions([(0, HUGE, Category.WRITTEN)], page_size=HUGE)
    twin = again(regions)
    assert twin == regions
    assert twin.page_size == HUGE
    assert not twin.array.flags.writeable


# --- what is refused


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([(P, P)], "end after it starts"),
        ([(2 * P, P)], "end after it starts"),
        ([(1, P)], "multiples of"),
        ([(0, P + 1)], "multiples of"),
        ([(0, 2 * P), (P, 3 * P)], "overlap"),
        ([(0, P), (0, P)], "overlap"),
        ([(-P, P)], "fit 64 bits"),
        ([(0, 1 << 64)], "fit 64 bits"),
        ([(0, P, -1)], "fit 64 bits"),
        ([(0, P, 0, 0)], "a region is"),
        ([(0,)], "a region is"),
        ([(0, 4096.5)], "rows of"),
        ([(0, "4096")], "rows of"),
        ([5], "rows of"),
        (7, "rows of"),
        ([None], "rows of"),
    ],
    ids=repr,
)
def test_bad_rows_are_refused(bad, words):
    with pytest.raises(InvalidArgument, match=words):
        Regions(bad)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([1], "multiples of"),
        ([-P], "not negative"),
        (np.array([-P]), "not negative"),
        ([4096.5], "integers"),
        (["a"], "integers"),
        ([(1 << 64) - P], "no end"),
    ],
    ids=repr,
)
def test_bad_page_addresses_are_refused(bad, words):
    with pytest.raises(InvalidArgument, match=words):
        Regions.from_pages(bad)


@pytest.mark.parametrize(("start", "end"), [(1, P), (0, P - 1), (-5, P)])
def test_clipping_inside_a_page_is_refused(start, end):
    with pytest.raises(InvalidArgument, match="cut a page"):
        Regions([(0, P)]).clip(start, end)


def test_half_a_huge_page_is_refused():
    with pytest.raises(InvalidArgument, match="multiples of 2097152"):
        Regions([(0, P)], page_size=HUGE)


@pytest.mark.parametrize("operate", [lambda a, b: a | b, lambda a, b: a & b, lambda a, b: a - b])
def test_sets_of_different_page_sizes_do_not_mix(operate):
    with pytest.raises(InvalidArgument, match="page sizes differ"):
        operate(Regions([(0, HUGE)]), Regions([(0, HUGE)], page_size=HUGE))


def test_overlapping_parts_cannot_be_joined():
    with pytest.raises(InvalidArgument, match="overlap"):
        join([Regions([(0, 2 * P)]), Regions([(P, 3 * P)])])


def test_a_slice_is_no_index():
    with pytest.raises(TypeError):
        Regions([(0, P)])[0:1]


def test_text_shows_the_first_regions():
    regions = Regions([(n * 2 * P, n * 2 * P + P) for n in range(6)])
    assert repr(regions) == (
        "<Regions 6 pages in 6 regions: 0x0-0x1000, 0x2000-0x3000, 0x4000-0x5000, 0x6000-0x7000, ...>"
    )
    assert repr(Regions([(0, P)])) == "<Regions 1 page in 1 region: 0x0-0x1000>"
    assert repr(Regions()) == "<Regions: no page>"


@given(page_sets)
def test_pages_of_is_the_inverse_of_runs_of(pages):
    """The oracle itself: both directions of it must agree."""
    assert pages_of(runs_of(pages)) == pages
