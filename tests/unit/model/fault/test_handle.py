"""Faults: what they map, what they cost in protection, and the signals that end them."""

from signal import SIGBUS, SIGSEGV

import pytest

from pagewatch.model import Kernel, Signal
from pagewatch.model.arch.format import DIRTY, SOFT_DIRTY, UFFD_WP, WRITE
from pagewatch.model.fault.handle import fault_outcome
from pagewatch.model.fault.state import Access, Outcome
from pagewatch.model.madvise import Advice
from pagewatch.model.walk import seek
from pagewatch.vocab.categories import Category
from support.modelled import PAGE, PRESENT, Area


def flags(area: Area, page: int) -> int:
    spot = seek(area.process.mm, area.at(page))
    return spot.fmt.flags(spot.entry)


@pytest.mark.parametrize(
    ("prot", "guard", "writes", "code"),
    [(1, False, True, 2), (0, False, False, 2), (3, True, False, 1), (3, True, True, 1)],
)
def test_forbidden_accesses_are_sigsegv(*, prot: int, guard: bool, writes: bool, code: int) -> None:
    area = Area(2)
    if guard:
        area.advise(Advice.GUARD_INSTALL, 0, 1)
    area.process.mprotect(area.start, PAGE, prot)
    with pytest.raises(Signal) as caught:
        area.store(0) if writes else area.load(0)
    assert (caught.value.signo, caught.value.code, caught.value.address) == (SIGSEGV, code, area.start)


def test_nothing_mapped_is_maperr_and_beyond_a_file_is_sigbus() -> None:
    kernel = Kernel()
    area = Area(4, process=kernel.spawn(), file=kernel.memfd(PAGE + 1), shared=True)
    area.store(1)
    with pytest.raises(Signal) as caught:
        area.store(2)
    assert (caught.value.signo, caught.value.code) == (SIGBUS, 2)
    area.process.munmap(area.start, PAGE)
    with pytest.raises(Signal) as caught:
        area.load(0)
    assert (caught.value.signo, caught.value.code) == (SIGSEGV, 1)


def test_a_store_over_a_page_border_writes_the_first_page_before_it_fails() -> None:
    area = Area(1)
    with pytest.raises(Signal):
        area.process.store(area.end - 1, b"ab")
    assert area.process.load(area.end - 1, 1) == b"a"


def test_reading_anonymous_memory_maps_the_zero_page_and_writing_replaces_it() -> None:
    area = Area(2)
    area.load(0)
    assert area.categories(0) & Category.PFNZERO
    area.store(0)
    assert not area.categories(0) & Category.PFNZERO
    assert area.load(0) == b"x"


def test_an_async_write_fault_clears_the_bit_and_makes_the_page_writable() -> None:
    area = Area(1)
    area.store(0)
    area.armed()
    assert flags(area, 0) & (UFFD_WP | WRITE) == UFFD_WP
    area.store(0)
    assert flags(area, 0) & (UFFD_WP | WRITE | DIRTY) == WRITE | DIRTY


def test_a_failed_write_is_no_write() -> None:
    area = Area(1)
    area.store(0)
    area.armed()
    area.process.mprotect(area.start, PAGE, 1)
    with pytest.raises(Signal):
        area.store(0)
    assert area.pages() == []


@pytest.mark.parametrize(("advice", "written"), [(Advice.POPULATE_WRITE, [0, 1]), (Advice.POPULATE_READ, [])])
def test_populating_for_write_counts_as_writing(advice: Advice, written: list[int]) -> None:
    area = Area(2)
    area.store(0)
    area.armed()
    area.advise(advice, 0, 2)
    assert area.pages() == written


def test_unsharing_keeps_tracking_bits_and_stays_read_only() -> None:
    area = Area(1)
    area.store(0)
    area.armed()
    child = area.process.fork()
    before = flags(area, 0)
    assert fault_outcome(area.process.mm, area.start, Access.UNSHARE) is Outcome.DONE
    assert flags(area, 0) & (UFFD_WP | SOFT_DIRTY) == before & (UFFD_WP | SOFT_DIRTY)
    assert not flags(area, 0) & WRITE
    assert child.load(area.start, 1) == b"x"


def test_a_private_file_page_is_copied_on_write_and_the_file_is_not_touched() -> None:
    kernel = Kernel()
    file = kernel.memfd(2 * PAGE)
    file.write(0, b"file")
    area = Area(2, process=kernel.spawn(), file=file)
    assert area.load(0, 4) == b"file"
    area.process.store(area.start, b"mine")
    assert (area.load(0, 4), file.read(0, 4)) == (b"mine", b"file")
    assert not area.categories(0) & Category.FILE


def test_a_read_fault_maps_cached_neighbours_unless_the_area_is_armed() -> None:
    for armed, expected in ((False, [0, 1, 2, 3]), (True, [1])):
        kernel = Kernel()
        file = kernel.memfd(4 * PAGE)
        file.write(0, bytes(range(1, 5)) * PAGE)
        area = Area(4, process=kernel.spawn(), file=file, shared=True)
        if armed:
            area.armed()
        area.load(1)
        assert area.pages(PRESENT) == expected


def test_a_shared_memfd_page_read_first_is_writable_without_another_fault() -> None:
    area = Area(1, shared=True)
    area.load(0)
    assert flags(area, 0) & (WRITE | DIRTY) == WRITE
    area.store(0)
    assert flags(area, 0) & DIRTY


def test_a_disk_file_is_told_of_the_first_store_only() -> None:
    kernel = Kernel()
    file = kernel.disk_file(PAGE)
    area = Area(1, process=kernel.spawn(), file=file, shared=True)
    area.load(0)
    assert not flags(area, 0) & WRITE
    assert not file.folios[0].raw_dirty
    area.store(0)
    assert file.folios[0].raw_dirty


def test_a_leftover_marker_of_an_area_nobody_watches_is_erased() -> None:
    area = Area(1)
    area.store(0)
    spot = seek(area.process.mm, area.start)
    area.advise(Advice.DONTNEED, 0, 1)
    spot.table.entries[spot.slot] = spot.fmt.marker_entry(1)
    area.store(0)
    assert area.load(0) == b"x"
