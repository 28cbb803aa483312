"""MADV_COLLAPSE: what it makes huge, and what it says where it cannot. All seen on a real 6.18 kernel."""

import errno
from collections.abc import Callable

import pytest

from pagewatch.model import Quirks
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.uffd.context import Feature, Mode
from pagewatch.vocab.categories import Category
from support.letters import F, H, P, S, W
from support.modelled import PAGE, Area

N = 512


def collapse(area: Area, first: int = 0, last: int = N) -> int:
    """0, or the errno."""
    try:
        area.advise(Advice.COLLAPSE, first, last)
    except OSError as error:
        return error.errno or -1
    finally:
        check(area.kernel.machine)
    return 0


def test_one_written_page_is_enough_and_the_rest_becomes_zeros() -> None:
    area = Area(N)
    area.store(3)
    assert collapse(area) == 0
    assert area.rows() == [(0, N, H | P | W)]
    assert (area.load(3), area.load(4)) == (b"x", b"\0")
    assert collapse(area) == 0


def test_pages_of_zeros_are_left_out_of_the_copy() -> None:
    area = Area(N)
    for page in range(N - 1):
        area.load(page)
    area.store(N - 1)
    assert collapse(area) == 0
    assert area.load(N - 1) == b"x"


def test_memory_that_was_never_written_cannot_be_collapsed() -> None:
    area = Area(N)
    assert collapse(area) == errno.EINVAL
    for page in range(N):
        area.load(page)
    assert collapse(area) == errno.EINVAL


def test_only_whole_huge_pages_within_the_range_count() -> None:
    area = Area(2 * N)
    area.store(0)
    assert collapse(area, 1, N + 1) == 0
    assert collapse(area, 0, N - 1) == 0
    assert area.rows(last=1) == [(0, 1, P | W)]
    assert collapse(area, 1, 2 * N) == errno.EINVAL
    assert collapse(Area(N // 2), 0, N // 2) == errno.EINVAL


def test_a_range_with_nothing_in_it_ends_the_call_after_what_is_before_it() -> None:
    area = Area(3 * N)
    area.store(0, 2 * N)
    assert collapse(area, 0, 3 * N) == errno.EINVAL
    assert area.rows(last=2 * N + 1) == [(0, N, H | P | W), (N, 2 * N, Category(0)), (2 * N, 2 * N + 1, P | W)]


def test_a_pinned_range_fails_the_call_but_not_what_is_behind_it() -> None:
    area = Area(2 * N)
    area.store(0, N)
    with area.process.pin(area.start, 1):
        assert collapse(area, 0, 2 * N) == errno.EAGAIN
        assert area.rows(first=N) == [(N, 2 * N, H | P | W)]


def test_zero_pages_of_an_area_that_was_written_once_can() -> None:
    area = Area(N)
    area.store(0)
    area.advise(Advice.DONTNEED, 0, 1)
    area.load(7)
    assert collapse(area) == 0
    assert area.rows() == [(0, N, H | P | W)]


@pytest.mark.parametrize(
    ("prepare", "number"),
    [
        (lambda a: a.advise(Advice.NOHUGEPAGE, 0, N), errno.EINVAL),
        (lambda a: a.advise(Advice.GUARD_INSTALL, 5, 6), errno.EINVAL),
        (lambda a: a.armed(), errno.EINVAL),
        (lambda a: a.process.userfaultfd(Feature.WP_ASYNC).register(a.start, N * PAGE), errno.EBUSY),
        (lambda a: a.process.userfaultfd(Feature(0)).register(a.start, N * PAGE, Mode.MISSING), errno.EBUSY),
        (lambda a: a.process.mprotect(a.start, N * PAGE, 0), 0),
        (lambda a: a.process.mprotect(a.start, N * PAGE, 1), 0),
        (lambda a: a.advise(Advice.PAGEOUT, 0, 1), 0),
        (lambda a: a.process.fork(), 0),
    ],
    ids=["nohugepage", "guard", "armed", "registered", "missing", "prot-none", "read-only", "swapped", "shared"],
)
def test_what_stands_in_the_way(prepare: Callable[[Area], object], number: int) -> None:
    area = Area(N)
    area.store(0, 7)
    prepare(area)
    assert collapse(area) == number
    assert (area.rows(last=1)[0][2] & H == H) is (number == 0)


def test_watched_memory_that_is_all_there_can_be_collapsed() -> None:
    area = Area(N)
    area.store(*range(N))
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, N * PAGE)
    assert collapse(area) == 0


def test_collapsed_memory_keeps_bytes_of_both_sides_of_a_fork() -> None:
    area = Area(N)
    area.store(0, 9)
    child = area.process.fork()
    child.store(area.at(9), b"child")
    assert collapse(area) == 0
    assert (area.load(9), child.load(area.at(9), 5)) == (b"x", b"child")
    assert child.load(area.at(0), 1) == b"x"


def test_a_split_huge_page_is_put_together_again() -> None:
    area = Area(N)
    area.store(0)
    assert collapse(area) == 0
    area.advise(Advice.DONTNEED, 5, 6)
    assert area.rows(last=6)[-1] == (5, 6, W)
    assert collapse(area) == 0
    assert area.rows() == [(0, N, H | P | W)]


@pytest.mark.parametrize(
    "make_read_only",
    [
        lambda a: a.process.mprotect(a.start, N * PAGE, 1),
        lambda a: a.process.fork(),
        lambda a: a.advise(Advice.DONTNEED, 0, 1),
    ],
    ids=["read-only", "shared", "emptied"],
)
def test_before_6_18_one_page_had_to_be_writable(make_read_only: Callable[[Area], object]) -> None:
    for needs, number in ((False, 0), (True, errno.EINVAL)):
        area = Area(N, quirks=Quirks(collapse_needs_writable_page=needs))
        area.store(0)
        make_read_only(area)
        assert collapse(area) == number


def test_where_no_page_was_writable_the_next_range_was_tried_all_the_same() -> None:
    area = Area(2 * N, quirks=Quirks(collapse_needs_writable_page=True))
    area.store(0, N)
    area.advise(Advice.DONTNEED, 0, 1)
    assert collapse(area, 0, 2 * N) == errno.EINVAL
    assert area.rows() == [(0, N, W), (N, 2 * N, H | P | W)]


# Files


def shared_file(n_pages: int = N) -> Area:
    area = Area(n_pages, shared=True)
    area.store(0)
    return area


def mapping_of(area: Area, **options: object) -> Area:
    """Another mapping of the same file."""
    return Area(N, process=area.process, file=area.process.areas[0].file, **options)


def test_a_memfd_becomes_huge_for_everybody() -> None:
    area = shared_file()
    other = mapping_of(area, shared=True)
    other.store(7)
    assert collapse(area) == 0
    assert area.rows() == [(0, N, H | F | P | W)]
    assert (area.load(7), other.load(0)) == (b"x", b"x")
    assert other.rows() == [(0, N, H | F | P | W)]
    assert collapse(area) == 0


def test_before_6_18_a_huge_page_of_a_file_was_not_mapped_where_no_table_was_at_all() -> None:
    for makes, number in ((True, 0), (False, errno.EINVAL)):
        area = Area(N, shared=True, quirks=Quirks(collapse_makes_upper_tables=makes))
        area.process.areas[0].file.write(PAGE, b"x")
        assert collapse(area) == number
        assert area.rows() == [(0, N, H | F | P | W if makes else Category(0))]
        area.load(0)  # the file has a huge page all the same
        assert area.rows() == [(0, N, H | F | P | W)]
        area.advise(Advice.DONTNEED, 0, N)  # an empty directory is enough
        assert collapse(area) == 0


def test_an_empty_file_and_one_on_disk_cannot() -> None:
    assert collapse(Area(N, shared=True)) == errno.EINVAL
    area = Area(N)
    disk = area.kernel.disk_file(N * PAGE)
    for shared in (True, False):
        mapped = Area(N, process=area.process, shared=shared, file=disk)
        mapped.load(0)
        assert collapse(mapped) == errno.EINVAL


def test_a_private_mapping_can_unless_it_has_pages_of_its_own() -> None:
    area = shared_file()
    clean, written = mapping_of(area), mapping_of(area)
    written.store(8)
    assert collapse(clean) == 0
    assert clean.rows() == [(0, N, H | F | P | W)]
    assert collapse(written) == errno.EINVAL
    assert written.load(8) == b"x"


def test_an_armed_mapping_keeps_small_entries_and_its_protection_though_the_file_becomes_huge() -> None:
    area = shared_file()
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.start, N * PAGE)
    uffd.writeprotect(area.at(0), PAGE)
    assert collapse(area) == errno.EINVAL
    assert area.rows() == [(0, 1, S | Category.WPALLOWED), (1, N, W | Category.WPALLOWED)]
    other = mapping_of(area, shared=True)
    assert collapse(other) == 0
    assert other.rows() == [(0, N, H | F | P | W)]
    assert area.rows(last=1) == [(0, 1, S | Category.WPALLOWED)]


def test_holes_are_not_filled_behind_the_back_of_who_waits_for_missing_pages() -> None:
    area = shared_file()
    other = mapping_of(area, shared=True)
    area.process.userfaultfd(Feature(0)).register(other.start, N * PAGE, Mode.MISSING)
    assert collapse(area) == errno.EBUSY
    assert area.load(0) == b"x"
    for page in range(N):
        area.store(page)
    assert collapse(area) == 0


def test_guards_in_a_mapping_survive_that_its_file_becomes_huge() -> None:
    area = shared_file()
    area.advise(Advice.GUARD_INSTALL, 1, 2)
    assert collapse(area) == errno.EINVAL
    assert area.rows(last=3) == [(0, 1, W), (1, 2, S | W | Category.GUARD), (2, 3, W)]


def test_pages_of_a_memfd_that_are_in_swap_are_brought_back() -> None:
    area = shared_file()
    area.store(5)
    area.advise(Advice.PAGEOUT, 0, N)
    assert collapse(area) == 0
    assert (area.load(0), area.load(5)) == (b"x", b"x")


def test_writes_through_the_file_reach_the_huge_page() -> None:
    area = shared_file()
    assert collapse(area) == 0
    area.process.areas[0].file.write(3 * PAGE, b"through")
    assert area.load(3, 7) == b"through"
