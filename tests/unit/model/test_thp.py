"""Transparent huge pages: split with everything inherited, cleared where they are a file's, never lost from.

The rows were seen on a real 6.18 kernel with the same calls.
"""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.model import Quirks
from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.format import DIRTY, INVALID, UFFD_WP, WRITE
from pagewatch.model.invariants import check
from pagewatch.model.kernel import Kernel
from pagewatch.model.madvise import Advice
from pagewatch.model.mremap import MREMAP_FIXED, MREMAP_MAYMOVE
from pagewatch.model.scan.call import WP_MATCHING
from pagewatch.model.thp import huge_order
from pagewatch.model.uffd.context import Feature
from pagewatch.model.walk import seek
from pagewatch.vocab.categories import Category
from support.letters import F, H, P, S, W, Z
from support.modelled import PAGE, Area

ARMED = Category.WPALLOWED
N = 512
HUGE = N * PAGE


def huge_area(n_huge: int = 1, *, quirks: Quirks | None = None) -> Area:
    """Anonymous memory that asks for huge pages, its first page written."""
    area = Area(n_huge * N, quirks=quirks)
    area.advise(Advice.HUGEPAGE, 0, n_huge * N)
    area.store(0)
    return area


def huge_file_area() -> Area:
    """A memfd with one huge page in its cache, mapped shared."""
    area = Area(N, shared=True)
    area.store(0)
    area.advise(Advice.COLLAPSE, 0, N)
    return area


def level_at(area: Area, page: int) -> int:
    return seek(area.process.mm, area.at(page)).level


def flags_at(area: Area, page: int) -> int:
    spot = seek(area.process.mm, area.at(page))
    return spot.fmt.flags(spot.entry)


def test_all_pages_of_a_huge_page_are_memory_of_their_own() -> None:
    area = huge_area()
    for page in (0, 1, 17, N - 1):
        area.process.store(area.at(page), page.to_bytes(2, "little"))
    assert [int.from_bytes(area.load(page, 2), "little") for page in (0, 1, 17, N - 1)] == [0, 1, 17, N - 1]
    check(area.kernel.machine)


# Splitting


def test_a_split_inherits_what_the_huge_entry_said() -> None:
    area = huge_area(quirks=Quirks(soft_dirty=True))
    area.process.clear_refs("4")
    area.armed()
    area.process.mprotect(area.at(5), PAGE, 1)
    assert level_at(area, 5) == 0
    for page in (0, 5, N - 1):
        assert flags_at(area, page) & (UFFD_WP | DIRTY | WRITE) == UFFD_WP | DIRTY
    assert not area.pages(quirk_soft_dirty())
    check(area.kernel.machine)


def quirk_soft_dirty():
    from pagewatch.vocab.query import Query

    # The area's own bit was cleared by clear_refs, so only entries can say it.
    return Query(mask=Category.SOFT_DIRTY, returned=Category.SOFT_DIRTY)


def test_a_split_page_stays_writable_without_a_copy() -> None:
    area = huge_area()
    folio = area.kernel.machine.memory.folio(
        seek(area.process.mm, area.start).fmt.pfn(seek(area.process.mm, area.start).entry)
    )
    area.advise(Advice.DONTNEED, 1, 2)
    area.store(0, 7)
    spot = seek(area.process.mm, area.at(7))
    assert spot.fmt.pfn(spot.entry) == folio.pfn + 7
    check(area.kernel.machine)


@pytest.mark.parametrize(
    ("act", "rows"),
    [
        (lambda a: a.advise(Advice.DONTNEED, 1, 2), [(0, 1, P | W), (1, 2, W), (2, N, P | W)]),
        (lambda a: a.process.munmap(a.at(10), PAGE), [(0, 10, P | W), (11, N, P | W)]),
        (lambda a: a.process.mprotect(a.at(10), PAGE, 1), [(0, N, P | W)]),
        (
            lambda a: a.advise(Advice.GUARD_INSTALL, 1, 2),
            [(0, 1, P | W), (1, 2, S | W | Category.GUARD), (2, N, P | W)],
        ),
        (lambda a: a.advise(Advice.DONTNEED, 0, N), [(0, N, Category(0))]),
        (lambda a: a.advise(Advice.NOHUGEPAGE, 0, N), [(0, N, H | P | W)]),
        (lambda a: a.advise(Advice.FREE, 0, N), [(0, N, H | P | W)]),
    ],
    ids=["dontneed", "munmap", "mprotect", "guard", "dontneed-all", "flags", "free-all"],
)
def test_cutting_a_huge_page_splits_it_and_nothing_else_does(act: Callable[[Area], None], rows: list) -> None:
    area = huge_area()
    act(area)
    assert area.rows() == rows
    check(area.kernel.machine)


def test_a_range_that_cuts_two_huge_pages_splits_both_and_drops_what_is_between() -> None:
    area = huge_area(2)
    area.store(N)
    area.advise(Advice.DONTNEED, 1, 2 * N - 1)
    assert area.rows() == [(0, 1, P | W), (1, 2 * N - 1, W), (2 * N - 1, 2 * N, P | W)]


# Write-protection


def test_a_scan_protects_a_whole_huge_page_and_a_write_splits_it_for_one_page() -> None:
    area = huge_area()
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.start, HUGE)
    area.raw(flags=WP_MATCHING)
    assert area.rows() == [(0, N, H | P | ARMED)]
    area.store(7)
    assert area.rows() == [(0, 7, P | ARMED), (7, 8, P | W | ARMED), (8, N, P | ARMED)]
    check(area.kernel.machine)


def test_a_scan_that_protects_a_part_splits_and_protects_just_that() -> None:
    area = huge_area(2)
    area.store(N)
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, 2 * HUGE)
    assert area.rows(flags=WP_MATCHING, max_pages=600) == [(0, N, H | P | W | ARMED), (N, 600, P | W | ARMED)]
    assert area.rows() == [(0, N, H | P | ARMED), (N, 600, P | ARMED), (600, 2 * N, P | W | ARMED)]


def test_a_protected_huge_page_is_not_split_by_protecting_part_of_it() -> None:
    area = huge_area()
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, HUGE)
    area.raw(flags=WP_MATCHING)
    area.raw(first=3, last=10, flags=WP_MATCHING)
    assert area.rows() == [(0, N, H | P | ARMED)]


def test_a_plain_report_cuts_huge_pages_and_leaves_them_whole() -> None:
    area = huge_area()
    assert area.rows(max_pages=5) == [(0, 5, H | P | W)]
    assert area.raw(max_pages=5).walk_end == area.at(5)
    assert level_at(area, 0) == 1


def test_the_ioctl_protects_a_part_by_splitting() -> None:
    area = huge_area()
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.start, HUGE)
    uffd.writeprotect(area.at(3), 7 * PAGE)
    assert area.rows() == [(0, 3, P | W | ARMED), (3, 10, P | ARMED), (10, N, P | W | ARMED)]


def test_the_huge_zero_page_can_be_protected_and_is_split_by_a_write() -> None:
    area = Area(N, quirks=Quirks(thp_enabled="always"))
    area.load(0)
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, HUGE)
    area.raw(flags=WP_MATCHING)
    assert area.rows() == [(0, N, H | Z | P | ARMED)]
    area.store(9)
    assert area.rows() == [(0, 9, Z | P | ARMED), (9, 10, P | W | ARMED), (10, N, Z | P | ARMED)]


def test_a_synchronous_monitor_is_told_before_a_huge_page_is_written() -> None:
    area = huge_area()
    uffd = area.armed(Feature.PAGEFAULT_FLAG_WP)
    told = []

    def answer() -> None:
        message = uffd.read()
        told.append((message.address, message.flags))
        uffd.writeprotect(area.start, HUGE, protect=False)

    uffd.handle_with(answer)
    area.store(5)
    assert told == [(area.at(5), 3)]
    assert area.rows() == [(0, N, H | P | W)]


# Files


def test_a_huge_page_of_a_file_is_mapped_whole_by_every_mapping() -> None:
    area = huge_file_area()
    assert area.rows() == [(0, N, H | F | P | W)]
    file = area.process.areas[0].file
    other = Area(N, process=area.process, shared=True, file=file)
    other.load(7)
    assert other.rows() == [(0, N, H | F | P | W)]
    private = Area(N, process=area.process, file=file)
    private.load(7)
    assert private.rows() == [(0, N, H | F | P | W)]
    private.store(8)
    assert private.rows() == [(0, 8, W), (8, 9, P | W), (9, N, W)]
    check(area.kernel.machine)


def test_splitting_a_huge_page_of_a_file_clears_it_and_a_fault_brings_it_back() -> None:
    area = huge_file_area()
    area.advise(Advice.DONTNEED, 5, 6)
    assert area.rows() == [(0, N, Category(0))]
    assert area.load(0) == b"x"
    assert area.rows() == [(0, N, H | F | P | W)]
    check(area.kernel.machine)


def test_a_scan_protects_a_files_huge_page_whole_and_a_write_lifts_it_all() -> None:
    area = huge_file_area()
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, HUGE)
    area.raw(flags=WP_MATCHING)
    assert area.rows() == [(0, N, H | F | P | ARMED)]
    area.store(9)
    assert area.rows() == [(0, N, H | F | P | W | ARMED)]


def test_the_ioctl_protects_a_files_huge_page_by_markers() -> None:
    area = huge_file_area()
    area.armed()
    assert area.rows() == [(0, N, S | ARMED)]
    assert area.load(0) == b"x"
    assert area.rows(first=0, last=1) == [(0, 1, F | P | ARMED)]


def test_protecting_part_of_a_files_huge_page_by_a_scan_leaves_the_rest_written() -> None:
    area = huge_file_area()
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, HUGE)
    area.raw(first=0, last=N // 2, flags=WP_MATCHING)
    assert area.rows() == [(0, N // 2, S | ARMED), (N // 2, N, W | ARMED)]
    area.store(N - 1)
    assert N - 1 in area.pages()


def test_dropping_a_protected_huge_page_of_a_file_forgets_its_protection() -> None:
    area = huge_file_area()
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, HUGE)
    area.raw(flags=WP_MATCHING)
    area.advise(Advice.DONTNEED, 0, N)
    assert area.rows() == [(0, N, W | ARMED)]


# fork and mremap


def test_fork_shares_a_huge_page_and_the_first_to_write_gets_a_small_copy() -> None:
    area = huge_area()
    process = area.process.fork()
    process.store(area.at(3), b"child")
    assert process.load(area.start, 1) == b"x"
    assert area.load(3) == b"\0"
    assert area.rows() == [(0, N, H | P | W)]
    process.exit()
    area.store(1)
    assert area.rows() == [(0, N, H | P | W)]
    check(area.kernel.machine)


def test_a_forked_huge_page_loses_its_protection_and_the_parents_keeps_it() -> None:
    area = huge_area()
    area.armed()
    child = area.process.fork()
    spot = seek(child.mm, area.start)
    assert spot.level == 1
    assert not spot.fmt.flags(spot.entry) & UFFD_WP
    assert flags_at(area, 0) & UFFD_WP


@pytest.mark.parametrize(("shift", "level"), [(0, 1), (PAGE, 0)], ids=["aligned", "misaligned"])
def test_a_moved_huge_page_stays_whole_if_its_new_place_is_aligned(shift: int, level: int) -> None:
    area = huge_area()
    target = area.process.mmap(2 * HUGE) + shift
    moved = area.process.mremap(area.start, HUGE, HUGE, flags=MREMAP_MAYMOVE | MREMAP_FIXED, target=target)
    assert seek(area.process.mm, moved).level == level
    assert area.process.load(moved, 1) == b"x"
    check(area.kernel.machine)


def test_pagemap_words_of_a_huge_page_say_what_those_of_small_ones_do() -> None:
    area = huge_area()
    assert {word >> 55 for word in area.process.pagemap(area.start, N)} == {0x102}
    frames = [word & (1 << 55) - 1 for word in area.process.pagemap(area.start, N, show_frames=True)]
    assert frames == list(range(frames[0], frames[0] + N))
    area.advise(Advice.DONTNEED, 5, 6)
    child = area.process.fork()
    child.store(area.at(7), b"c")
    words = [word >> 55 for word in area.process.pagemap(area.at(6), 2)]
    assert words == [0x100, 0x102]


@pytest.mark.parametrize(("by_first", "last_is"), [(True, 0x100), (False, 0x102)], ids=["now", "before 6.15"])
def test_pagemap_judges_all_pages_of_a_huge_leaf_by_the_first_since_6_15(last_is: int, *, by_first: bool) -> None:
    area = huge_area(quirks=Quirks(pagemap_judges_huge_by_first_page=by_first))
    area.process.fork().madvise(area.at(2), (N - 2) * PAGE, Advice.DONTNEED)
    words = [word >> 55 for word in area.process.pagemap(area.start, N)]
    assert words == [0x100, 0x100] + [last_is] * (N - 2)


# Any format


@pytest.mark.parametrize(
    "arch",
    [
        name
        for name, fmt in ARCHES.items()
        if fmt.at[1].supported & INVALID and 1 << fmt.at[1].shift in fmt.at[1].leaf_sizes
    ],
)
def test_every_format_with_huge_pages_maps_splits_and_drops_them(arch: str) -> None:
    kernel = Kernel(arch, quirks=Quirks(thp_enabled="always"))
    process, page, size = kernel.spawn(), kernel.machine.page_bytes, kernel.machine.thp_bytes
    start = process.mmap(size)
    process.store(start + 3 * page, b"three")
    folio = next(f for f in kernel.machine.memory.folios.values() if f.anon)
    assert folio.order == huge_order(kernel.machine)
    process.madvise(start, page, Advice.DONTNEED)
    assert process.load(start + 3 * page, 5) == b"three"
    check(kernel.machine)
    process.munmap(start, size)
    assert folio.pfn not in kernel.machine.memory.folios
    check(kernel.machine)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["store", "drop", "move", "protect", "fork", "free", "collapse"]),
            st.integers(0, 95),
            st.integers(1, 40),
        ),
        max_size=12,
    )
)
def test_no_history_of_cuts_loses_a_byte(history: list[tuple[str, int, int]]) -> None:
    kernel = Kernel("ppc64-radix-64k", quirks=Quirks(thp_enabled="always"))
    page = kernel.machine.page_bytes
    process = kernel.spawn()
    start = process.mmap(96 * page, at=kernel.machine.thp_bytes * 64)
    shadow: dict[int, int] = {}
    for serial, (act, first, n_pages) in enumerate(history, 1):
        last = min(96, first + n_pages)
        at, n_bytes = start + first * page, (last - first) * page
        if act == "store":
            process.store(at, bytes([serial]))
            shadow[first] = serial
        elif act == "drop":
            process.madvise(at, n_bytes, Advice.DONTNEED)
            shadow = {p: v for p, v in shadow.items() if not first <= p < last}
        elif act == "protect":
            process.mprotect(at, n_bytes, 1)
            process.mprotect(at, n_bytes, 3)
        elif act == "fork":
            child = process.fork()
            child.store(at, b"\xff")
            child.exit()
        elif act == "collapse":
            with suppress(OSError):
                process.madvise(start, 96 * page, Advice.COLLAPSE)
        elif act == "move":
            spare = process.mmap(n_bytes)
            process.mremap(at, n_bytes, n_bytes, flags=MREMAP_MAYMOVE | MREMAP_FIXED, target=spare)
            process.mremap(spare, n_bytes, n_bytes, flags=MREMAP_MAYMOVE | MREMAP_FIXED, target=at)
        check(kernel.machine)
        assert {p: v for p in range(96) if (v := process.load(start + p * page, 1)[0])} == shadow
