"""Differences that random histories found in memory with huge pages; see ``test_differences``.

Page 0 begins one huge page, page 512 the next; the files end six pages behind it.
"""

import errno

import pytest

from support.hugepages import hugetlb_pages
from support.machine import swapping
from support.versus.comparison import compare

ASYNC, MISSING, WP = 1 << 15, 1, 2
MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4
DONTNEED, FREE, HUGEPAGE, NOHUGEPAGE, PAGEOUT, POPULATE_READ, POPULATE_WRITE, COLLAPSE = 4, 8, 14, 15, 21, 22, 23, 25
READ, READ_WRITE = 1, 3
PRESENT, PFNZERO, HUGE, SOFT_DIRTY_CATEGORY, SOFT_DIRTY = 0x8, 0x20, 0x40, 0x80, 1
"""Categories; and bit 55 of pagemap words, which new areas have where that is compiled in: left out here."""
EXCLUSIVE, FILE, SWAP = 1 << 1, 1 << 6, 1 << 7
"""Bits 55 and up of pagemap words."""


def mapped(kind="anon", prot=READ_WRITE):
    """All pages as one area, that may have huge pages."""
    return (("mmap", 0, 0, 1040, kind, prot, 0), ("madvise", 0, 0, 1040, HUGEPAGE))


def is_huge(outcome, page):
    return bool(categories(outcome, page) & HUGE)


def present(outcome, page):
    return bool(categories(outcome, page) & PRESENT)


def zero_page(outcome, page):
    return bool(categories(outcome, page) & PFNZERO)


def categories(outcome, page):
    address = 0x10_8000_0000 + (page - 512) * 4096
    found = next((bits for start, end, bits in outcome[1][0] if start <= address < end), 0)
    return found & ~SOFT_DIRTY_CATEGORY


def areas(outcome):
    """Areas as (first page, page behind the last)."""
    base = 0x10_8000_0000 - 512 * 4096
    return [((start - base) // 4096, (end - base) // 4096) for start, end, _ in outcome[1][2]]


def word(outcome, page):
    """The flag bits of the pagemap word of a place."""
    places = (0, 1, 2, 255, 256, 511, 512, 513, 514, 700, 1022, 1023, 1024, 1025, 1028, 1032)
    return outcome[1][1][places.index(page)] & ~SOFT_DIRTY


@pytest.fixture(scope="module")
def pool():
    """Pages for hugetlb, as many as any script here maps."""
    with hugetlb_pages(4, size=1 << 21):
        yield


def collapsed(kind):
    """The first huge page of a file, mapped as one."""
    return (*mapped(kind), ("madvise", 0, 0, 512, POPULATE_READ), ("madvise", 0, 0, 512, COLLAPSE))


def huge_memory():
    """The second huge page, stored to at its last but one page."""
    return (*mapped(), ("store", 0, 1022, 64))


class TestLazyFree:
    def test_a_shared_huge_page_stays_whole(self, both_large):
        *_, freed = both_large(*huge_memory(), ("fork", 0, 1), ("madvise", 0, 1022, 1, FREE))
        assert is_huge(freed, 1022)
        small = (("fork", 0, 1), ("madvise", 0, 512, 1, DONTNEED), ("madvise", 0, 1022, 1, FREE), ("store", 0, 514, 1))
        *_, stored = both_large(*huge_memory(), *small)
        assert not zero_page(stored, 700)

    def test_part_of_the_huge_zero_page_is_left_alone(self, both_large):
        *_, freed = both_large(*mapped(), ("load", 0, 1022), ("madvise", 0, 1022, 1, FREE))
        assert is_huge(freed, 1022)

    def test_a_huge_page_that_is_half_protected_is_split(self, both_large):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 0, 1040, WP), ("writeprotect", 0, 0, 512, 256, 1))
        *_, freed = both_large(*huge_memory(), *watch, ("madvise", 0, 512, 512, FREE))
        assert zero_page(freed, 700)
        assert not zero_page(freed, 1022)


class TestCollapse:
    def test_it_goes_on_behind_memory_without_any_table_but_not_behind_an_emptied_one(self, both_large, quirks):
        plain = (("mmap", 0, 0, 1040, "anon", READ_WRITE, 0), ("store", 0, 1023, 16))
        *_, some = both_large(*plain, ("madvise", 0, 0, 1024, COLLAPSE))
        assert some[0] == ("errno", errno.EINVAL)
        assert is_huge(some, 1023)
        emptied = (("store", 0, 2, 1), ("madvise", 0, 0, 512, DONTNEED))
        *_, none = both_large(*plain, *emptied, ("madvise", 0, 0, 1024, COLLAPSE))
        refused = quirks.zap_frees_tables or quirks.collapse_needs_writable_page
        assert none[0] == (("errno", errno.EINVAL) if refused else ("ok", 0))
        assert is_huge(none, 1023) is not quirks.zap_frees_tables

    @pytest.mark.parametrize(
        "step",
        [("mprotect", 0, 0, 1040, READ), ("fork", 0, 1), ("madvise", 0, 2, 1, DONTNEED)],
        ids=["read-only", "shared", "emptied"],
    )
    def test_it_needs_no_page_that_can_be_written(self, both_large, quirks, step):
        small = (("mmap", 0, 0, 1040, "anon", READ_WRITE, 0), ("madvise", 0, 0, 1040, NOHUGEPAGE), ("store", 0, 2, 1))
        advised = (step, ("madvise", 0, 0, 1040, HUGEPAGE))
        *_, collapsed = both_large(*small, *advised, ("madvise", 0, 0, 512, COLLAPSE), ("store", 0, 1032, 1))
        assert is_huge(collapsed, 2) is not quirks.collapse_needs_writable_page

    def test_it_maps_a_huge_page_of_a_file_where_no_table_is_at_all(self, both_large, quirks):
        cached = (mapped("memfd")[0], ("pwrite", 0, "memfd", 1, 16))
        *_, collapsed = both_large(*cached, ("madvise", 0, 0, 512, COLLAPSE))
        assert (collapsed[0] == ("ok", 0)) is is_huge(collapsed, 0) is quirks.collapse_makes_upper_tables
        *_, loaded = both_large(*cached, ("madvise", 0, 0, 512, COLLAPSE), ("load", 0, 0))
        assert is_huge(loaded, 511)

    def test_it_is_refused_where_page_offsets_of_the_file_do_not_fit(self, both_large):
        shifted = ("mmap", 0, 0, 1040, "memfd", READ_WRITE, 1)
        *_, refused = both_large(shifted, ("madvise", 0, 256, 258, COLLAPSE))
        assert refused[0] == ("errno", errno.EINVAL)
        *_, nothing = both_large(mapped("memfd")[0], ("madvise", 0, 256, 258, COLLAPSE))
        assert nothing[0] == ("ok", 0)

    def test_a_protected_zero_page_is_a_missing_page_first(self, both_large):
        watched = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 0, 1024, WP), ("writeprotect", 0, 0, 511, 513, 1))
        halves = (*mapped(), ("madvise", 0, 0, 512, POPULATE_READ), *watched, ("store", 0, 0, 511))
        *_, refused = both_large(*halves, ("madvise", 0, 0, 512, COLLAPSE))
        assert refused[0] == ("errno", errno.EBUSY)
        whole = (("writeprotect", 0, 0, 0, 1024, 1), ("madvise", 0, 0, 512, COLLAPSE))
        *_, refused = both_large(*mapped(), ("madvise", 0, 0, 512, POPULATE_READ), *watched, *whole)
        assert refused[0] == ("errno", errno.EBUSY)

    @pytest.mark.parametrize("first", [512, 513])
    def test_a_watch_that_begins_behind_the_range_keeps_holes_from_being_filled(self, both_large, first):
        """The child collapses the first half, one page of which is there; its parent waits for the second."""
        memory = (("mmap", 0, 0, 1040, "memfd", READ_WRITE, 0), ("uffd", 0, 0, ASYNC))
        watched = (*memory, ("fork", 0, 1), ("register", 0, 0, first, 500, MISSING), ("pwrite", 1, "memfd", 2, 16))
        # The load makes tables; without any, kernels before 6.18 would refuse for that.
        *_, collapsed_ = both_large(*watched, ("load", 1, 2), ("madvise", 1, 0, 512, COLLAPSE))
        assert collapsed_[0] == (("errno", errno.EBUSY) if first == 512 else ("ok", 0))
        assert is_huge(collapsed_, 0) is (first == 513)


class TestMoves:
    @pytest.mark.parametrize("kind", ["anon", "memfd"])
    def test_whole_page_tables_move_and_leave_nothing_behind(self, both_large, kind):
        moved = ("mremap", 0, 512, 512, 512, MAYMOVE | FIXED | DONTUNMAP, 0)
        *_, left = both_large(("mmap", 0, 0, 1024, kind, READ_WRITE, 0), ("store", 0, 700, 1), moved)
        assert word(left, 700) == 0
        assert categories(left, 700) == 0  # with a table it would be called written
        assert categories(left, 0)

    def test_they_do_so_from_inside_a_table_if_nothing_is_below(self, both_large):
        part = (("mmap", 0, 513, 511, "anon", READ_WRITE, 0), ("store", 0, 700, 1))
        *_, left = both_large(*part, ("mremap", 0, 513, 511, 511, MAYMOVE | FIXED | DONTUNMAP, 1))
        assert categories(left, 700) == 0


class TestPageOut:
    def test_a_page_of_a_memfd_that_was_only_read_becomes_a_hole(self, kernel, large):
        live, _, quirks = kernel
        with swapping():
            out = (
                ("load", 0, 0),
                ("load", 0, 2),
                ("madvise", 0, 0, 16, PAGEOUT),
                ("pread", 0, "memfd", 0),
                ("load", 0, 2),
            )
            script = (("mmap", 0, 0, 1040, "memfd", READ_WRITE, 0), *out)
            *_, loaded = compare(live, large._replace(swap=True), script, quirks)
        assert not present(loaded, 0)

    def test_continue_brings_back_what_is_in_swap(self, kernel):
        live, arena, quirks = kernel
        watched = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 0, 16, WP), ("continue", 0, 0, 0, 6, 0))
        with swapping():
            script = (
                ("mmap", 0, 0, 16, "shared", READ_WRITE, 0),
                ("madvise", 0, 0, 16, POPULATE_WRITE),
                ("madvise", 0, 0, 6, PAGEOUT),
                *watched,
            )
            *_, (result, _) = compare(live, arena._replace(swap=True), script, quirks)
        assert result == ("ok", 6 * 4096)

    def test_what_is_left_of_a_huge_page_becomes_the_zero_page_where_it_is_zeros(self, kernel, large):
        live, _, quirks = kernel
        with swapping():
            script = (*huge_memory(), ("madvise", 0, 1022, 1, PAGEOUT))
            *_, out = compare(live, large._replace(swap=True), script, quirks)
        assert zero_page(out, 1023)
        assert word(out, 1022) == SWAP


class TestFork:
    @pytest.mark.usefixtures("pool")
    def test_the_child_has_upper_tables_where_the_parent_has_some(self, both_large):
        touched = (("store", 0, 512, 1), ("mmap", 0, 512, 512, "hugetlb", READ_WRITE, 0))
        *_, child = both_large(mapped()[0], *touched, ("fork", 0, 1), ("munmap", 1, 0, 1))
        assert is_huge(child, 512)  # an empty entry of hugetlb memory; without a table it would not be called so


class TestFiles:
    def test_a_fault_maps_all_of_a_large_folio(self, both_large, quirks):
        """A private page keeps the area from mapping the huge page as one."""
        apart = (("store", 0, 512, 1), ("madvise", 0, 512, 512, COLLAPSE), ("load", 0, 700))
        *_, loaded = both_large(*mapped("memfd-private"), *apart)
        assert not is_huge(loaded, 1023)
        assert present(loaded, 1023) is quirks.fault_around_maps_whole_folios

    def test_a_store_maps_all_of_a_large_folio(self, both_large, quirks):
        half = (("munmap", 0, 256, 1), ("store", 0, 2, 1))
        *_, stored = both_large(*collapsed("shared"), *half)
        assert not present(stored, 511)
        *_, stored = both_large(*collapsed("memfd"), ("truncate", 0, "memfd", 256 * 4096), ("store", 0, 2, 1))
        assert present(stored, 255) is quirks.files_keep_halves

    def test_a_file_cut_inside_a_huge_page_keeps_halves_of_it(self, both_large, quirks):
        *_, loaded = both_large(*collapsed("memfd"), ("truncate", 0, "memfd", 256 * 4096), ("load", 0, 0))
        assert present(loaded, 255) is (quirks.files_keep_halves and quirks.fault_around_maps_whole_folios)

    def test_a_file_cut_inside_the_first_page_of_a_huge_page_keeps_that_page_alone(self, both_large):
        whole = (("madvise", 0, 512, 512, POPULATE_READ), ("madvise", 0, 512, 512, COLLAPSE))
        *_, loaded = both_large(*mapped("memfd"), *whole, ("truncate", 0, "memfd", 512 * 4096 + 8), ("loads", 0))
        assert [present(loaded, page) for page in (512, 513, 1023)] == [True, False, False]

    def test_lifting_protection_leaves_a_huge_page_of_a_file_whole(self, both_large):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 0, 512, WP))
        *_, closed = both_large(*collapsed("memfd-private"), *watch, ("close", 0, 0))
        assert is_huge(closed, 511)
        *_, lifted = both_large(*collapsed("memfd-private"), *watch, ("writeprotect", 0, 0, 0, 512, 0))
        assert is_huge(lifted, 511)


@pytest.mark.usefixtures("pool")
class TestHugetlb:
    def test_hugetlb_replaces_small_pages(self, both_large):
        *_, replaced = both_large(*mapped(), ("mmap", 0, 512, 512, "hugetlb", READ_WRITE, 0))
        assert areas(replaced) == [(0, 512), (512, 1024), (1024, 1040)]

    def test_what_cannot_be_replaced_leaves_areas_cut(self, both_large):
        huge = ("mmap", 0, 512, 512, "hugetlb", READ_WRITE, 0)
        *_, refused = both_large(*mapped(), huge, ("mmap", 0, 2, 511, "anon", READ_WRITE, 0))
        assert refused[0] == ("errno", errno.EINVAL)
        assert areas(refused) == [(0, 2), (2, 512), (512, 1024), (1024, 1040)]

    def test_a_refused_fill_has_made_page_tables(self, both_large):
        watch = (("uffd", 0, 1, ASYNC), ("register", 0, 1, 0, 512, WP), ("continue", 0, 1, 0, 512, 0))
        *_, refused = both_large(("mmap", 0, 0, 1024, "hugetlb-private", READ, 0), *watch)
        assert refused[0] == ("errno", errno.EFAULT)
        assert is_huge(refused, 0)
        assert not is_huge(refused, 512)

    def test_unregistering_ends_inside_a_huge_page_that_nobody_watches(self, both_large):
        huge = ("mmap", 0, 512, 512, "hugetlb-private", READ_WRITE, 0)
        *_, done = both_large(*mapped("shared"), ("uffd", 0, 1, ASYNC), huge, ("unregister", 0, 1, 2, 512))
        assert done[0] == ("ok", None)
        watch = (("uffd", 0, 1, ASYNC), huge, ("register", 0, 1, 0, 1024, WP))
        *_, refused = both_large(*mapped("shared"), *watch, ("unregister", 0, 1, 2, 512))
        assert refused[0] == ("errno", errno.EINVAL)
        assert areas(refused) == [(0, 2), (2, 512), (512, 1024), (1024, 1040)]

    def test_a_fault_makes_the_upper_tables_even_if_it_fails(self, both_large):
        beyond = (("mmap", 0, 512, 512, "hugetlb", READ_WRITE, 0), ("load", 0, 1032))
        *_, failed = both_large(("mmap", 0, 0, 1040, "memfd", READ, 0), *beyond)
        assert failed[0][0] == "signal"
        assert is_huge(failed, 512)  # an empty entry of hugetlb memory; without a table it would not be called so


class TestPagemapWords:
    def test_the_huge_zero_page_counts_as_a_files(self, both_large):
        *_, loaded = both_large(*mapped(), ("load", 0, 1))
        assert is_huge(loaded, 0)
        assert word(loaded, 0) & FILE

    def test_the_first_page_of_a_huge_leaf_says_for_all_whether_they_are_exclusive(self, both_large, quirks):
        huge = (*mapped("shared"), ("madvise", 0, 0, 512, POPULATE_READ), ("madvise", 0, 0, 512, COLLAPSE))
        apart = (("fork", 0, 1), ("load", 1, 0), ("munmap", 0, 2, 510), ("load", 0, 0))
        *_, child = both_large(*huge, *apart, ("load", 1, 0))
        assert is_huge(child, 511)
        assert not word(child, 1) & EXCLUSIVE
        assert bool(word(child, 511) & EXCLUSIVE) is not quirks.pagemap_judges_huge_by_first_page
