"""UFFDIO_MOVE on this kernel and on the model: contents, categories, flag bits and errors."""

import errno

import pytest

ASYNC, WP = 1 << 15, 2
HOLES = 2
DONTNEED, HUGEPAGE, GUARD_INSTALL = 4, 14, 102
READ, READ_WRITE = 1, 3

AREA = (("mmap", 0, 0, 16, "anon", READ_WRITE, 0), ("uffd", 0, 0, ASYNC), ("register", 0, 0, 8, 8, WP))
"""Pages 0 to 7 are not watched, 8 to 15 are."""


def moved(both, *before, to=8, page=0, n_pages=2, mode=0, slot=0):
    """What came of a move after some steps, and then of loads at both places."""
    outcomes = both(*AREA, *before, ("move", 0, slot, to, page, n_pages, mode), *LOADS)
    return outcomes[-len(LOADS) - 1][0]


LOADS = tuple(("load", 0, page) for page in (8, 9, 0, 1))
STORES = (("store", 0, 0, 7), ("store", 0, 1, 8))


def test_pages_arrive_with_their_contents_and_leave_nothing(both):
    assert moved(both, *STORES) == ("ok", 2 * 4096)


def test_zero_pages_move_as_zero_pages(both):
    assert moved(both, ("load", 0, 0), ("store", 0, 1, 8)) == ("ok", 2 * 4096)


def test_protection_stays_behind(both):
    protect = (("register", 0, 0, 0, 8, WP), ("writeprotect", 0, 0, 0, 2, 1))
    assert moved(both, *STORES, *protect) == ("ok", 2 * 4096)


def test_a_hole_is_an_error_unless_it_is_wanted(both):
    assert moved(both) == ("errno", errno.ENOENT)
    assert moved(both, ("store", 0, 4, 1)) == ("errno", errno.ENOENT)
    assert moved(both, ("store", 0, 1, 8), mode=HOLES) == ("ok", 2 * 4096)
    assert moved(both, ("store", 0, 0, 8)) == ("ok", 4096)


def test_whatever_is_at_the_target_stays(both):
    assert moved(both, *STORES, ("store", 0, 8, 1)) == ("errno", errno.EEXIST)
    assert moved(both, *STORES, ("store", 0, 9, 1)) == ("ok", 4096)
    assert moved(both, *STORES, ("load", 0, 8)) == ("errno", errno.EEXIST)


def test_a_marker_at_the_target_is_in_the_way(both):
    unpopulated = (("uffd", 0, 1, ASYNC | 1 << 13), ("unregister", 0, 0, 8, 8), ("register", 0, 1, 8, 8, WP))
    assert moved(both, *STORES, *unpopulated, ("writeprotect", 0, 1, 8, 1, 1), slot=1) == ("errno", errno.EEXIST)


def test_a_guard_page_does_not_move(both):
    assert moved(both, *STORES, ("madvise", 0, 0, 1, GUARD_INSTALL)) == ("errno", errno.EFAULT)


def test_what_a_child_shares_does_not_move_until_it_is_copied(both):
    assert moved(both, *STORES, ("fork", 0, 1)) == ("errno", errno.EBUSY)
    assert moved(both, *STORES, ("fork", 0, 1), ("store", 0, 0, 9)) == ("ok", 4096)


@pytest.mark.parametrize(
    ("before", "to", "page", "n_pages", "number"),
    [
        ((), 0, 8, 2, errno.EINVAL),  # the target is not watched
        ((("mprotect", 0, 0, 8, READ),), 8, 0, 2, errno.EINVAL),
        ((("mmap", 0, 0, 4, "memfd", READ_WRITE, 0),), 8, 0, 2, errno.EINVAL),
        ((("mmap", 0, 0, 4, "memfd-private", READ_WRITE, 0),), 8, 0, 2, errno.EINVAL),
        ((), 8, 6, 4, errno.EINVAL),  # from two areas
        ((("munmap", 0, 0, 4),), 8, 0, 2, errno.ENOENT),
        ((("munmap", 0, 8, 4),), 8, 0, 2, errno.ENOENT),
        ((), 8, 0, 0, errno.EINVAL),
    ],
)
def test_areas_must_fit(both, before, to, page, n_pages, number):
    assert moved(both, *STORES, *before, to=to, page=page, n_pages=n_pages) == ("errno", number)


HUGE_AREA = (
    ("mmap", 0, 0, 1040, "anon", READ_WRITE, 0),
    ("madvise", 0, 0, 1040, HUGEPAGE),
    ("store", 0, 0, 7),
    ("uffd", 0, 0, ASYNC),
    ("register", 0, 0, 512, 512, WP),
)
SEEN = tuple(("load", 0, page) for page in (512, 513, 0, 1))


@pytest.mark.parametrize(
    ("before", "to", "n_pages", "result"),
    [
        ((), 512, 512, ("ok", 2 << 20)),
        ((), 512, 256, ("ok", 1 << 20)),
        ((), 513, 2, ("ok", 2 * 4096)),
        ((("store", 0, 512, 1),), 512, 512, ("errno", errno.EEXIST)),
        ((("store", 0, 513, 1), ("madvise", 0, 512, 512, DONTNEED)), 512, 512, ("ok", 2 << 20)),
        ((("fork", 0, 1),), 512, 512, ("errno", errno.EBUSY)),
        ((("fork", 0, 1),), 512, 2, ("errno", errno.EBUSY)),
    ],
)
def test_huge_pages_move_as_a_whole_or_are_split(both_large, before, to, n_pages, result):
    outcomes = both_large(*HUGE_AREA, *before, ("move", 0, 0, to, 0, n_pages, 0), *SEEN)
    assert outcomes[-len(SEEN) - 1][0] == result
