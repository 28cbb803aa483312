"""The walker: what it finds is what was mapped, on every format."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.model import Kernel
from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.format import LEAF, NONE
from pagewatch.model.walk import for_each_leaf, locked, populate, seek, spans
from support.modelled import PAGE, Area


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(ARCHES)), st.sets(st.integers(0, 63), max_size=10))
def test_the_leaves_are_the_pages_that_were_stored_to(arch: str, pages: set[int]) -> None:
    process = Kernel(arch).spawn()
    page = process.mm.machine.page_bytes
    start = process.mmap(64 * page)
    for number in pages:
        process.store(start + number * page, number.to_bytes(1, "little"))
    leaves = list(for_each_leaf(process.mm, start, start + 64 * page))
    assert [(leaf.start - start) // page for leaf in leaves] == sorted(pages)
    for leaf in leaves:
        words = process.mm.machine.memory.folio(leaf.pfn).words[0]
        assert words[0] == (leaf.start - start) // page


@given(st.integers(0, 1 << 20), st.integers(1, 4096))
@settings(deadline=None, max_examples=50)
def test_spans_cut_a_range_without_gap_or_overlap(first: int, n_pages: int) -> None:
    process = Kernel().spawn()
    start, end = first * PAGE, (first + n_pages) * PAGE
    at = process.mmap(PAGE, at=start)
    process.store(at, b"x")
    pieces = list(spans(process.mm, start, end))
    assert pieces[0].start == start
    assert pieces[-1].end == end
    assert all(a.end == b.start for a, b in pairwise(pieces))
    assert not pieces[0].hole


def test_a_table_is_made_once() -> None:
    area = Area(2)
    one = populate(area.process.mm, area.start, "test")
    two = populate(area.process.mm, area.at(1), "test")
    assert one.table is two.table
    assert (one.level, one.kind) == (0, NONE)


def test_a_table_that_was_unhooked_is_noticed_under_its_lock() -> None:
    area = Area(512, at=1 << 32)
    area.store(0)
    spot = seek(area.process.mm, area.start)
    with locked(spot) as stands:
        assert stands
    area.advise(4, 0, 512)
    with locked(spot) as stands:
        assert not stands


def test_what_is_not_there_is_found_at_the_level_where_it_is_missing() -> None:
    area = Area(1)
    assert seek(area.process.mm, area.start).level == area.process.mm.root.fmt.level
    area.store(0)
    spot = seek(area.process.mm, area.start)
    assert (spot.level, spot.kind) == (0, LEAF)
    assert spot.parent is not None


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_a_new_process_has_one_table_and_unmapping_leaves_one(arch: str) -> None:
    kernel = Kernel(arch)
    process = kernel.spawn()
    start = process.mmap(1 << 24)
    for offset in range(0, 1 << 24, 1 << 21):
        process.store(start + offset, b"x")
    assert len(kernel.machine.tables) > 1
    process.munmap(start, 1 << 24)
    assert len(kernel.machine.tables) == 1
