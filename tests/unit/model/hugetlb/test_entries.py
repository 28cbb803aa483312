"""What was mapped is what every walker sees: at every page size of every format, old layout and new."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.model.arch.format import DIRTY, LEAF, WRITE, YOUNG
from pagewatch.model.hugetlb.entries import find
from pagewatch.model.invariants import check
from pagewatch.model.pins import Want
from pagewatch.model.walk import for_each_leaf, frame_of, seek
from pagewatch.vocab.categories import Category
from support.formats import FORMATS
from support.hugetlb_world import NEW_OF_OLD, SIZES, HugeArea, Size
from support.modelled import ALL

PRESENT_HUGE = Category.PRESENT | Category.HUGE | Category.WRITTEN


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_walker_sees_the_page_that_was_mapped(size: Size) -> None:
    area = HugeArea(size, n_pages=1)
    mm, page_bytes = area.process.mm, area.kernel.machine.page_bytes
    area.process.store(area.at(0, size.n_bytes - 8), b"last one")
    [folio] = [folio for folio in area.kernel.machine.memory.folios.values() if folio.hugetlb]
    leaves = list(for_each_leaf(mm, area.start, area.end))
    assert leaves[0].start == area.start
    assert leaves[-1].end == area.end
    assert all(left.end == right.start for left, right in pairwise(leaves))
    assert all(leaf.pfn == folio.pfn + (leaf.start - area.start) // page_bytes for leaf in leaves)
    for inside in (0, page_bytes, size.n_bytes // 2, size.n_bytes - page_bytes):
        spot = seek(mm, area.start + inside)
        assert spot.kind == LEAF
        assert frame_of(spot.fmt, spot.entry, area.start + inside) == folio.pfn + inside // page_bytes
        [word] = area.process.pagemap(area.start + inside, 1, show_frames=True)
        assert word & (1 << 55) - 1 == folio.pfn + inside // page_bytes
        assert word >> 63 == 1


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_scan_sees_the_page_that_was_mapped(size: Size) -> None:
    area = HugeArea(size)
    area.process.store(area.at(0), b"x")
    scan = area.process.scan(area.start, area.end, ALL)
    first = next(iter(scan.regions))
    assert (first.start, first.end) == (area.start, area.at(1))
    assert first.categories == PRESENT_HUGE


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_gup_pins_the_page_that_was_mapped_without_a_lock_and_with_one(size: Size) -> None:
    area = HugeArea(size, n_pages=1)
    last = area.end - area.kernel.machine.page_bytes
    with area.process.pin(last, 1, Want.PIN | Want.WRITE) as pin:
        [(folio, number)] = pin.pages
        assert folio.hugetlb
        assert number == folio.n_pages - 1
        with area.process.pin(last, 1, Want.PIN) as again:
            assert again.pages == pin.pages
    check(area.kernel.machine)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_unmapping_leaves_no_entry_no_table_and_no_folio(size: Size) -> None:
    area = HugeArea(size)
    area.process.store(area.at(0), b"x")
    area.process.munmap(area.start, area.n_bytes)
    machine = area.kernel.machine
    check(machine)
    assert len(machine.tables) == 1  # the root
    assert not any(folio.hugetlb for folio in machine.memory.folios.values())


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_accessed_and_dirty_of_one_entry_are_those_of_the_page(size: Size) -> None:
    area = HugeArea(size, n_pages=1)
    area.process.store(area.at(0), b"x")
    page = find(area.process.mm, area.start, size.n_bytes, "test")
    assert page is not None
    fmt = page.fmt
    page.write(fmt.mkold(fmt.mkclean(page.read("test"))), "test")
    table, index = page.slots[-1]
    table.write_word(index, fmt.mkdirty(fmt.mkyoung(table.entries[index])), "test: what hardware does")
    assert fmt.flags(page.read("test")) & (YOUNG | DIRTY) == YOUNG | DIRTY
    assert fmt.flags(page.take("test")) & (YOUNG | DIRTY) == YOUNG | DIRTY
    assert page.read("test") == 0


def _views(arch: str, n_bytes: int, stores: list[tuple[int, bytes]], *, protect: bool) -> list[object]:
    """What can be seen of one history in one layout, with frame numbers counted from the folio's first."""
    area = HugeArea(Size(arch, n_bytes), n_pages=1)
    for offset, data in stores:
        area.process.store(area.start + offset, data)
    if protect:
        area.process.mprotect(area.start, area.n_bytes, 1)
    child = area.process.fork()
    [folio] = [folio for folio in area.kernel.machine.memory.folios.values() if folio.hugetlb]
    seen: list[object] = [area.process.load(area.start + offset, len(data)) for offset, data in stores]
    for process in (area.process, child):
        for leaf in for_each_leaf(process.mm, area.start, area.end):
            flags = leaf.spot.fmt.flags(leaf.spot.entry)
            assert leaf.pfn == folio.pfn + (leaf.start - area.start) // area.kernel.machine.page_bytes
            seen.append(flags & (WRITE | DIRTY | YOUNG))
        seen.append([region.categories for region in process.scan(area.start, area.end, ALL).regions])
    check(area.kernel.machine)
    return [item for i, item in enumerate(seen) if i == 0 or item != seen[i - 1]]


@settings(max_examples=15, deadline=None)
@given(data=st.data(), old=st.sampled_from(sorted(NEW_OF_OLD)), protect=st.booleans())
def test_hugepd_and_contiguous_leaves_look_the_same(data: st.DataObject, old: str, *, protect: bool) -> None:
    n_bytes = data.draw(st.sampled_from([size for size in FORMATS[old].shapes if size > FORMATS[old].page_bytes]))
    offsets = st.integers(0, n_bytes // 8 - 1).map(lambda word: word * 8)
    stores = data.draw(st.lists(st.tuples(offsets, st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
    assert _views(old, n_bytes, stores, protect=protect) == _views(NEW_OF_OLD[old], n_bytes, stores, protect=protect)


def test_a_hugepd_walk_goes_through_the_special_directory() -> None:
    old, new = (HugeArea(Size(arch, 8 << 20), n_pages=1) for arch in ("ppc-8xx-hugepd", "ppc-8xx"))
    for area in (old, new):
        area.process.store(area.start, b"x")
    spots = [find(area.process.mm, area.start, 8 << 20, "test") for area in (old, new)]
    assert [len(spot.slots) for spot in spots if spot] == [1, 2048]
    assert [len({table for table, _ in spot.slots}) for spot in spots if spot] == [1, 2]
