"""Splitting folios: bytes and tracking survive, pages of zeros become the zero page, what is in use stays large.

The rows were seen on a real 6.18 kernel with the same calls.
"""

import pytest

from pagewatch.model import Quirks
from pagewatch.model.foliosplit import try_split_folio
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.memory import Folio
from pagewatch.model.scan.call import WP_MATCHING
from pagewatch.model.uffd.context import Feature
from pagewatch.vocab.categories import Category
from support.letters import A, P, S, W, Z
from support.modelled import PAGE, Area

N = 512


def huge_area(*, shared: bool = False, quirks: Quirks | None = None) -> Area:
    area = Area(N, shared=shared, quirks=quirks)
    area.store(0, 9)
    area.advise(Advice.COLLAPSE, 0, N)
    return area


def large_folio(area: Area) -> Folio:
    return next(f for f in area.kernel.machine.memory.folios.values() if f.order)


def test_freeing_a_part_splits_the_folio_and_drops_frames_of_zeros() -> None:
    area = huge_area()
    area.advise(Advice.FREE, 5, 6)
    assert area.rows() == [(0, 1, P | W), (1, 9, Z | P | W), (9, 10, P | W), (10, N, Z | P | W)]
    assert (area.load(0), area.load(9)) == (b"x", b"x")
    check(area.kernel.machine)


def test_paging_out_a_huge_page_swaps_all_of_it_and_keeps_its_bytes() -> None:
    area = huge_area()
    area.advise(Advice.PAGEOUT, 0, N)
    assert area.rows() == [(0, N, S | W)]
    assert (area.load(9), area.load(8)) == (b"x", b"\0")
    check(area.kernel.machine)


def test_without_swap_it_is_split_in_vain() -> None:
    area = huge_area()
    area.kernel.machine.swap.on = False
    area.advise(Advice.PAGEOUT, 0, N)
    assert area.rows(last=2) == [(0, 1, P | W), (1, 2, Z | P | W)]


def test_protection_survives_on_pages_and_on_the_zero_page() -> None:
    area = huge_area()
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, N * PAGE)
    area.raw(flags=WP_MATCHING)
    assert try_split_folio(area.kernel.machine, large_folio(area))
    assert area.pages() == []
    assert area.rows(last=2) == [(0, 1, P | A), (1, 2, Z | P | A)]
    area.store(0, 1)
    assert area.pages() == [0, 1]
    check(area.kernel.machine)


def test_soft_dirty_survives() -> None:
    area = Area(N, quirks=Quirks(soft_dirty=True))
    area.store(0, 9)
    area.advise(Advice.COLLAPSE, 0, N)
    area.process.clear_refs("4")
    area.store(3)
    assert try_split_folio(area.kernel.machine, large_folio(area))
    assert area.categories(0) & Category.SOFT_DIRTY
    check(area.kernel.machine)


@pytest.mark.parametrize("holder", ["pin", "lock"])
def test_what_is_in_use_stays_large_and_mapped(holder: str) -> None:
    area = huge_area()
    folio = large_folio(area)
    if holder == "pin":
        with area.process.pin(area.start, 1):
            assert not try_split_folio(area.kernel.machine, folio)
    else:
        with folio.lock:
            assert not try_split_folio(area.kernel.machine, folio)
    assert area.kernel.machine.memory.folios[folio.pfn] is folio
    area.store(9)
    check(area.kernel.machine)


def test_both_sides_of_a_fork_go_on_with_their_bytes() -> None:
    area = huge_area()
    child = area.process.fork()
    assert try_split_folio(area.kernel.machine, large_folio(area))
    check(area.kernel.machine)
    child.store(area.at(9), b"child")
    assert (area.load(9), child.load(area.at(9), 5)) == (b"x", b"child")
    check(area.kernel.machine)


def test_pages_that_nobody_maps_any_more_are_freed() -> None:
    area = huge_area()
    area.advise(Advice.DONTNEED, 9, 10)
    folio = large_folio(area)
    assert try_split_folio(area.kernel.machine, folio)
    assert folio.pfn + 9 not in area.kernel.machine.memory.folios
    check(area.kernel.machine)


def test_a_hole_in_a_huge_file_page_leaves_the_rest_of_it() -> None:
    area = huge_area(shared=True)
    file = area.process.areas[0].file
    area.kernel.punch_hole(file, 5 * PAGE, PAGE)
    assert area.rows() == [(0, N, Category(0))]
    assert 5 not in file.folios
    assert (area.load(0), area.load(5), area.load(9)) == (b"x", b"\0", b"x")
    check(area.kernel.machine)


def test_truncating_within_a_huge_file_page_leaves_what_is_before() -> None:
    area = huge_area(shared=True)
    file = area.process.areas[0].file
    area.kernel.truncate(file, 7 * PAGE + 1)
    assert sorted(file.folios) == list(range(8))
    assert file.read(0, 1) == b"x"
    check(area.kernel.machine)


@pytest.mark.parametrize(("halves", "orders"), [(True, [0, 0, 1, 2]), (False, [0] * 8)])
def test_what_stays_of_a_huge_file_page_is_halves_since_6_15(orders: list[int], *, halves: bool) -> None:
    area = huge_area(shared=True, quirks=Quirks(files_keep_halves=halves))
    file = area.process.areas[0].file
    area.kernel.truncate(file, 8 * PAGE - 1)
    assert [folio.order for folio in dict.fromkeys(file.folios[index] for index in range(8))] == orders[::-1]
    area.kernel.truncate(file, N * PAGE)
    assert (area.load(0), area.load(9)) == (b"x", b"\0")
    check(area.kernel.machine)


def test_a_hole_in_a_pinned_file_page_is_zeroed_in_place() -> None:
    area = huge_area(shared=True)
    file = area.process.areas[0].file
    with area.process.pin(area.start, 1) as pin:
        area.kernel.punch_hole(file, 9 * PAGE, PAGE)
        assert file.folios[9] is pin.pages[0].folio
        assert (file.read(9 * PAGE, 1), file.read(0, 1)) == (b"\0", b"x")
    check(area.kernel.machine)
