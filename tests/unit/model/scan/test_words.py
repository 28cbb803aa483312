"""What /proc/PID/pagemap says: the bits of a word for every kind of entry, literal, and what is read of the file."""

from collections.abc import Callable

import pytest

from pagewatch.model import Kernel, Quirks
from pagewatch.model.arch.format import (
    DEVICE,
    DEVICE_EXCLUSIVE,
    DIRTY,
    EXCLUSIVE,
    HWPOISON,
    MARKER_GUARD,
    MARKER_POISON,
    MARKER_UFFD_WP,
    MIGRATION,
    UFFD_WP,
    YOUNG,
    EntryFormat,
)
from pagewatch.model.madvise import Advice
from pagewatch.model.memory import Folio
from pagewatch.model.pages import folio_at
from pagewatch.model.scan.words import pagemap_words
from pagewatch.model.uffd.context import Feature
from pagewatch.model.walk import Spot, seek
from pagewatch.steps import WouldBlock
from support.modelled import PAGE, Area

PRESENT, SWAP, FILE, GUARD, PROTECTED, ALONE, SOFT = (1 << bit for bit in (63, 62, 61, 58, 57, 56, 55))
FRAME = (1 << 55) - 1
N = 512
HUGE = N * PAGE


def word(area: Area, page: int = 0, *, show_frames: bool = False) -> int:
    (only,) = area.process.pagemap(area.at(page), 1, show_frames=show_frames)
    return only


def written(**mmap: object) -> Area:
    """One page of memory, stored to."""
    area = Area(1, **mmap)
    area.store(0)
    return area


def entry_of(area: Area, page: int = 0) -> Spot:
    return seek(area.process.mm, area.at(page))


def behind(area: Area) -> Folio:
    spot = entry_of(area)
    folio = folio_at(area.kernel.machine, spot.fmt, spot.entry)
    assert folio is not None
    return folio


def replaced(make: Callable[[EntryFormat, int], int], **mmap: object) -> Area:
    """A page whose entry has been made another one, from its format and frame."""
    area = written(**mmap)
    spot = entry_of(area)
    spot.table.write(spot.slot, make(spot.fmt, spot.fmt.pfn(spot.entry)), "test")
    return area


def test_nothing_is_said_of_what_is_not_mapped_or_not_populated() -> None:
    area = Area(4)
    assert word(area) == 0
    area.store(1)
    assert word(area) == 0
    assert area.process.pagemap(area.start - PAGE, 1, show_frames=True) == [0]


def test_a_page_that_nobody_else_maps_is_present_and_alone() -> None:
    area = written()
    assert word(area) == PRESENT | ALONE
    child = area.process.fork()
    assert word(area) == PRESENT
    child.exit()
    assert word(area) == PRESENT | ALONE


def test_shared_memory_is_a_files_and_a_private_copy_of_it_is_not() -> None:
    assert word(written(shared=True)) == PRESENT | FILE | ALONE
    kernel = Kernel()
    area = Area(1, process=kernel.spawn(), file=kernel.memfd(PAGE))
    area.load(0)
    assert word(area) & FILE
    area.store(0)
    assert word(area) == PRESENT | ALONE


def test_the_zero_page_is_present_and_neither_a_files_nor_anybodys_alone() -> None:
    area = Area(1)
    area.load(0)
    assert word(area) == PRESENT
    assert word(area, show_frames=True) == PRESENT | area.kernel.machine.memory.zero.pfn


def test_the_huge_zero_page_is_a_files() -> None:
    area = Area(N, at=HUGE)
    area.advise(Advice.HUGEPAGE, 0, N)
    area.load(0)
    assert entry_of(area).level == 1
    assert {word(area, page) for page in (0, 1, N - 1)} == {PRESENT | FILE}


def test_protection_shows_of_a_page_and_of_one_that_is_not_populated() -> None:
    area = Area(2)
    area.store(0)
    area.armed()
    assert area.process.pagemap(area.start, 2) == [PRESENT | ALONE | PROTECTED, SWAP | PROTECTED]


@pytest.mark.parametrize(
    ("payload", "bits"),
    [
        (MARKER_UFFD_WP, SWAP | PROTECTED),
        (MARKER_POISON, SWAP),
        (MARKER_GUARD, SWAP | GUARD),
        (MARKER_POISON | MARKER_UFFD_WP, SWAP | PROTECTED),
        (MARKER_GUARD | MARKER_UFFD_WP, SWAP | GUARD | PROTECTED),
    ],
)
def test_a_marker_is_swapped_and_says_what_it_marks(payload: int, bits: int) -> None:
    assert word(replaced(lambda fmt, _: fmt.marker_entry(payload))) == bits


@pytest.mark.parametrize(("flags", "bits"), [(0, SWAP), (EXCLUSIVE, SWAP), (UFFD_WP, SWAP | PROTECTED)])
def test_a_swapped_page_is_nobodys_alone_and_never_a_files(flags: int, bits: int) -> None:
    assert word(replaced(lambda fmt, _: fmt.swap_entry(0, 7, flags))) == bits


@pytest.mark.parametrize("kind", [MIGRATION, DEVICE, DEVICE_EXCLUSIVE, HWPOISON])
def test_an_absent_page_with_a_frame_is_swapped_and_known_to_be_a_files(kind: int) -> None:
    assert word(replaced(lambda fmt, pfn: fmt.pfn_entry(kind, pfn, UFFD_WP))) == SWAP | PROTECTED
    assert word(replaced(lambda fmt, pfn: fmt.pfn_entry(kind, pfn), shared=True)) == SWAP | FILE


def test_a_frame_is_shown_to_who_may_see_it_and_nobody_else() -> None:
    area = written()
    assert word(area) & FRAME == 0
    assert word(area, show_frames=True) & FRAME == behind(area).pfn


def test_instead_of_a_frame_a_swapped_page_shows_the_files_number_and_the_slot() -> None:
    area = replaced(lambda fmt, _: fmt.swap_entry(3, 7))
    assert word(area) == SWAP
    assert word(area, show_frames=True) == SWAP | 3 | 7 << 5


@pytest.mark.parametrize("kind", [MIGRATION, DEVICE, HWPOISON])
def test_what_has_a_frame_and_no_slot_shows_its_kinds_number_and_that(kind: int) -> None:
    area = replaced(lambda fmt, pfn: fmt.pfn_entry(kind, pfn, YOUNG | DIRTY if kind == MIGRATION else 0))
    spot = entry_of(area)
    shown = word(area, show_frames=True) & FRAME
    assert shown >> 5 == spot.fmt.pfn(spot.entry)
    assert shown & 31 == spot.fmt.swap(spot.entry)[0] > 0


def test_of_a_marker_the_payload_stands_where_a_slot_would() -> None:
    area = replaced(lambda fmt, _: fmt.marker_entry(MARKER_GUARD))
    assert word(area, show_frames=True) & FRAME == entry_of(area).fmt.swap(entry_of(area).entry)[0] | MARKER_GUARD << 5


def test_the_pages_of_a_huge_leaf_have_frames_of_their_own() -> None:
    area = Area(N, at=HUGE)
    area.advise(Advice.HUGEPAGE, 0, N)
    area.store(0)
    words = area.process.pagemap(area.start, N, show_frames=True)
    assert words == [PRESENT | ALONE | behind(area).pfn + page for page in range(N)]


def test_of_a_huge_leaf_the_first_page_says_whether_somebody_else_maps_it() -> None:
    area = Area(N, at=HUGE)
    area.advise(Advice.HUGEPAGE, 0, N)
    area.store(0)
    child = area.process.fork()
    child.munmap(area.at(1), PAGE)
    assert {word(area, page) for page in range(3)} == {PRESENT}
    child.munmap(area.start, PAGE)
    assert {word(area, page) for page in range(3)} == {PRESENT | ALONE}


def test_so_have_those_of_a_huge_page_that_moves() -> None:
    area = Area(N, at=HUGE)
    area.advise(Advice.HUGEPAGE, 0, N)
    area.store(0)
    spot, pfn = entry_of(area), behind(area).pfn
    spot.table.write(spot.slot, spot.fmt.pfn_entry(MIGRATION, pfn), "test")
    kind = spot.fmt.swap(spot.fmt.pfn_entry(MIGRATION, pfn))[0]
    words = area.process.pagemap(area.start, 3, show_frames=True)
    assert words == [SWAP | kind | pfn + page << 5 for page in range(3)]


def test_soft_dirty_shows_of_areas_pages_and_what_is_swapped_only_where_the_kernel_has_it() -> None:
    for has in (True, False):
        area = Area(4, quirks=Quirks(soft_dirty=has))
        area.store(0, 1, 2)
        everywhere = {word(area, page) & SOFT for page in range(4)}
        area.process.clear_refs("4")
        area.store(1, 2)
        area.advise(Advice.PAGEOUT, 2, 3)
        assert entry_of(area, 2).kind != entry_of(area, 1).kind
        found = [word(area, page) & SOFT for page in range(4)]
        assert (everywhere, found) == (({SOFT}, [0, SOFT, SOFT, 0]) if has else ({0}, [0] * 4))


def hugetlb(**quirks: bool) -> Area:
    """A huge page of hugetlb, shared, stored to."""
    area = Area(N, quirks=Quirks(**quirks), huge="2M", shared=True)
    area.store(0)
    return area


def test_a_page_of_hugetlb_is_a_files_and_its_parts_have_frames() -> None:
    area = hugetlb()
    (first, *_, last) = area.process.pagemap(area.start, N, show_frames=True)
    assert first & ~FRAME == last & ~FRAME == PRESENT | FILE | ALONE
    assert last - first == N - 1


def test_of_an_absent_page_of_hugetlb_only_the_protection_shows() -> None:
    area = hugetlb()
    uffd = area.armed()
    assert word(area) == PRESENT | FILE | ALONE | PROTECTED
    area.advise(Advice.DONTNEED, 0, N)
    assert word(area, show_frames=True) == PROTECTED
    uffd.writeprotect(area.start, HUGE, protect=False)
    assert word(area) == 0


def test_hugetlb_is_soft_dirty_as_an_area_and_its_pages_never() -> None:
    area = hugetlb(soft_dirty=True)
    assert word(area) & SOFT
    (vma,) = area.process.areas
    vma.flags &= ~(1 << 27)
    area.store(0)
    assert word(area) == PRESENT | FILE | ALONE


def test_the_file_is_read_in_whole_words_and_ends_with_user_space() -> None:
    area = written()
    mm = area.process.mm
    for position, count in ((1, 8), (8, 4)):
        with pytest.raises(OSError, match="pagemap: Invalid argument"):
            pagemap_words(mm, position, count)
    position = area.start // PAGE * 8
    assert area.end == mm.top
    assert pagemap_words(mm, position - 8, 64) == [0, PRESENT | ALONE]
    assert pagemap_words(mm, position, 8) == [PRESENT | ALONE]
    assert pagemap_words(mm, position + 8, 64) == []


def test_reading_waits_for_whoever_changes_areas_or_takes_shared_tables_away_and_for_no_other_reader() -> None:
    area = hugetlb()
    mm, (vma,) = area.process.mm, area.process.areas
    for lock in (mm.mmap_lock, vma.huge_lock):
        with lock.shared:
            assert word(area) & PRESENT
        with lock.exclusive, pytest.raises(WouldBlock):
            word(area)


def test_a_slot_that_is_too_large_leaves_the_other_bits_alone() -> None:
    kernel = Kernel("riscv64")
    process = kernel.spawn()
    start = process.mmap(PAGE)
    process.store(start, b"x")
    spot = seek(process.mm, start)
    spot.table.write(spot.slot, spot.fmt.swap_entry(0, (1 << 51) + 1), "test")
    assert process.pagemap(start, 1, show_frames=True) == [SWAP | 1 << 5]


def test_the_file_of_a_process_that_exited_is_empty() -> None:
    area = written()
    area.process.exit()
    assert area.process.pagemap(area.start, 1) == []


def test_a_registration_that_protects_nothing_does_not_show() -> None:
    area = written()
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, PAGE)
    assert word(area) == PRESENT | ALONE
