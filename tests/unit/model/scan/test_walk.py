"""What a scan protects, and what it leaves."""

import pytest

from pagewatch.model import Quirks
from pagewatch.model.madvise import Advice
from pagewatch.model.scan.call import WP_MATCHING
from pagewatch.model.uffd.context import Feature, Mode
from pagewatch.vocab.categories import Category as Cat
from pagewatch.vocab.query import Query
from support.modelled import ALL, PAGE, PRESENT, WRITTEN, Area


def registered(n_pages: int, **options) -> Area:
    area = Area(n_pages, **options)
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.start, n_pages * PAGE)
    return area


def test_registered_but_unarmed_memory_reads_as_written() -> None:
    area = registered(16)
    assert area.rows() == [(0, 16, Cat.WPALLOWED | Cat.WRITTEN)]


def test_protecting_a_hole_makes_markers() -> None:
    area = registered(16)
    assert area.pages(flags=WP_MATCHING) == list(range(16))
    assert area.rows() == [(0, 16, Cat.WPALLOWED | Cat.SWAPPED)]
    assert area.process.pagemap(area.start, 1) == [1 << 62 | 1 << 57]


def test_reading_a_marker_maps_the_zero_page_protected() -> None:
    area = Area(4)
    area.armed()
    assert area.load(1) == b"\0"
    assert area.categories(1) == Cat.WPALLOWED | Cat.PRESENT | Cat.PFNZERO
    area.store(1)
    assert area.categories(1) == Cat.WPALLOWED | Cat.PRESENT | Cat.WRITTEN


def test_a_write_is_reported_once_and_the_page_protected_again() -> None:
    area = Area(8)
    area.store(*range(8))
    area.armed()
    area.store(3)
    assert area.pages(flags=WP_MATCHING) == [3]
    assert area.pages(flags=WP_MATCHING) == []
    area.store(3)
    assert area.pages() == [3]


def test_a_get_does_not_protect() -> None:
    area = Area(8)
    area.armed()
    area.store(3)
    assert area.pages() == area.pages() == [3]


def test_pages_cut_off_by_a_limit_stay_written() -> None:
    area = Area(8)
    area.armed()
    area.store(1, 3, 5)
    assert area.pages(flags=WP_MATCHING, max_pages=2) == [1, 3]
    assert area.pages(flags=WP_MATCHING, vec_len=1) == [5]
    assert area.pages() == []


def test_only_what_matched_is_protected() -> None:
    area = registered(8)
    area.store(2, 3)
    assert area.pages(Query(mask=Cat.PRESENT, returned=Cat.PRESENT), flags=WP_MATCHING) == [2, 3]
    assert area.pages() == [0, 1, 4, 5, 6, 7]


@pytest.mark.parametrize("query", [Query(mask=Cat.SWAPPED), Query(mask=Cat.PRESENT)])
def test_without_a_vector_every_page_with_a_table_is_protected_whatever_the_masks(query: Query) -> None:
    area = registered(8)
    area.store(2)
    reply = area.raw(query, flags=WP_MATCHING, vec_len=0, max_pages=3)
    assert (reply.result, reply.regions) == (0, ())
    assert area.pages() == []


def test_without_a_vector_a_hole_still_honours_the_masks() -> None:
    area = registered(8)
    area.raw(Query(mask=Cat.PRESENT), flags=WP_MATCHING, vec_len=0)
    assert area.pages() == list(range(8))


def test_protecting_skips_and_hides_areas_that_are_not_armed() -> None:
    area = Area(8)
    area.store(*range(8))
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.at(2), 2 * PAGE)
    assert area.pages(flags=WP_MATCHING) == [2, 3]
    assert area.pages(flags=0) == [0, 1, 4, 5, 6, 7]


def test_dropped_memory_reads_as_written() -> None:
    area = Area(8)
    area.store(*range(8))
    area.armed()
    area.advise(Advice.DONTNEED, 2, 4)
    assert area.pages() == [2, 3]


def test_an_empty_entry_is_written_and_a_hole_without_registration_is_nothing() -> None:
    area = Area(1024)
    assert area.rows() == [(0, 1024, Cat(0))]
    area.store(0)
    table_pages = 512 - (area.start // PAGE) % 512
    assert area.rows(first=1) == [(1, table_pages, Cat.WRITTEN), (table_pages, 1024, Cat(0))]


def test_before_the_fixes_a_hole_was_never_written() -> None:
    area = registered(8, quirks=Quirks(scan_holes_written=False))
    assert area.pages() == []
    area.store(0)
    assert area.categories(1) == Cat.WPALLOWED
    # ... but the fast path disagreed with the generic one.
    assert area.pages(WRITTEN) == list(range(8))


def test_dontneed_of_a_whole_table_reads_as_written_only_since_the_fixes() -> None:
    for fixed, expected in ((True, 512), (False, 0)):
        area = Area(1024, quirks=Quirks(scan_holes_written=fixed), at=1 << 32)
        area.store(*range(0, 512, 64))
        area.armed()
        area.advise(Advice.DONTNEED, 0, 512)
        assert len(area.pages(last=512)) == expected


def test_shared_memory_is_file_and_the_zero_page_is_not() -> None:
    shared = Area(4, shared=True)
    shared.store(0)
    assert shared.categories(0) & (Cat.FILE | Cat.PRESENT) == Cat.FILE | Cat.PRESENT
    private = Area(4)
    private.load(0)
    assert private.categories(0) == Cat.PRESENT | Cat.WRITTEN | Cat.PFNZERO


def test_file_is_not_computed_for_an_inversion_alone() -> None:
    area = Area(1, shared=True)
    area.store(0)
    assert area.rows(Query(inverted=Cat.FILE, mask=Cat.PRESENT, returned=Cat.PRESENT)) == [(0, 1, Cat.PRESENT)]


def test_guards_are_written_and_swapped_until_they_are_protected() -> None:
    area = Area(4)
    area.armed()
    area.advise(Advice.GUARD_INSTALL, 1, 2)
    assert area.categories(1) == Cat.WPALLOWED | Cat.WRITTEN | Cat.SWAPPED | Cat.GUARD
    area.raw(flags=WP_MATCHING)
    assert area.categories(1) == Cat.WPALLOWED | Cat.SWAPPED | Cat.GUARD
    area.advise(Advice.GUARD_REMOVE, 1, 2)
    assert area.categories(1) == Cat.WPALLOWED | Cat.WRITTEN


def test_a_sync_registration_is_not_wpallowed() -> None:
    area = Area(4)
    uffd = area.process.userfaultfd(0)
    uffd.register(area.start, 4 * PAGE, Mode.WP)
    assert area.rows()[0][2] & Cat.WPALLOWED == Cat(0)
    assert area.pages(flags=WP_MATCHING) == []


def test_unmapped_gaps_give_nothing() -> None:
    area = Area(8)
    area.process.munmap(area.at(2), 4 * PAGE)
    assert [row[:2] for row in area.rows(ALL)] == [(0, 2), (6, 8)]


def test_soft_dirty_is_a_category_only_where_it_is_compiled_in() -> None:
    for compiled_in in (True, False):
        area = Area(4, quirks=Quirks(soft_dirty=compiled_in))
        area.process.clear_refs("4")
        area.store(2)
        dirty = area.pages(Query(mask=Cat.SOFT_DIRTY, returned=Cat.SOFT_DIRTY))
        assert dirty == ([2] if compiled_in else [])


def test_present_pages_are_told_from_swapped_ones() -> None:
    area = Area(4)
    area.store(0, 1)
    area.advise(Advice.PAGEOUT, 0, 1)
    assert area.pages(PRESENT) == [1]
    assert area.categories(0) == Cat.SWAPPED | Cat.WRITTEN
