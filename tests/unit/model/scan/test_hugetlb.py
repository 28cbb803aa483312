"""Scans of hugetlb memory: whole huge pages or nothing. Expectations are what the running kernel was seen to do."""

import pytest

from pagewatch.model import Quirks
from pagewatch.model.scan.call import WP_MATCHING, ScanArg, ScanReply
from pagewatch.model.uffd.context import Feature
from pagewatch.steps import WouldBlock
from pagewatch.vocab.categories import Category
from support.hugetlb_world import HugeArea, Size
from support.letters import H, S, W
from support.modelled import ALL, PAGE, WRITTEN

PAGES = 512
ARMED = Category.WPALLOWED


def armed(n_pages: int = 2, *, populated: int | None = None, protect: bool = True, **area) -> HugeArea:
    made = HugeArea(n_pages=n_pages, **area)
    for page in range(n_pages if populated is None else populated):
        made.process.store(made.at(page), b"x")
    uffd = made.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(made.start, made.n_bytes)
    if protect:
        uffd.writeprotect(made.start, made.n_bytes)
    return made


def raw(area: HugeArea, first: int, last: int, *, query=WRITTEN, **arg) -> ScanReply:
    start, end = area.start + first * PAGE, area.start + last * PAGE
    return area.process.pagemap_scan(ScanArg(start=start, end=end, query=query, vec_len=1000, **arg))


def rows(area: HugeArea, reply: ScanReply) -> list[tuple[int, int, Category]]:
    return [((s - area.start) // PAGE, (e - area.start) // PAGE, Category(c)) for s, e, c in reply.regions]


def walk_end(area: HugeArea, reply: ScanReply) -> int:
    assert reply.walk_end is not None
    return (reply.walk_end - area.start) // PAGE


def test_one_byte_written_makes_the_whole_huge_page_written() -> None:
    area = armed()
    assert raw(area, 0, 2 * PAGES).regions == ()
    area.process.store(area.at(1, 12345), b"x")
    assert rows(area, raw(area, 0, 2 * PAGES)) == [(PAGES, 2 * PAGES, W)]


@pytest.mark.parametrize(
    ("first", "last", "max_pages", "result", "end", "left"),
    [
        (3, 10, 0, 0, 3, (0, 1024)),
        (3, 1024, 0, 1, 3, (0, 512)),
        (0, 612, 0, 1, 512, (512, 1024)),
        (0, 1024, 100, 0, 512, (0, 1024)),
    ],
)
def test_a_cut_page_is_neither_reported_nor_protected_and_the_walk_goes_on(
    first: int, last: int, max_pages: int, *, result: int, end: int, left: tuple[int, int]
) -> None:
    area = armed(protect=False)
    reply = raw(area, first, last, flags=WP_MATCHING, max_pages=max_pages)
    assert (reply.result, walk_end(area, reply)) == (result, end)
    assert rows(area, raw(area, 0, 2 * PAGES)) == [(*left, W)]


def test_an_empty_page_is_huge_and_never_written_so_a_scan_does_not_arm_it() -> None:
    area = armed(protect=False)
    area.process.madvise(area.start, area.n_bytes, 4)
    assert rows(area, raw(area, 0, 2 * PAGES, query=ALL)) == [(0, 2 * PAGES, H | ARMED)]
    raw(area, 0, 2 * PAGES, query=ALL, flags=WP_MATCHING)
    assert rows(area, raw(area, 0, 2 * PAGES, query=ALL)) == [(0, 2 * PAGES, H | ARMED)]


def test_a_protected_empty_page_reads_as_swapped() -> None:
    area = armed(populated=0)
    assert rows(area, raw(area, 0, 2 * PAGES, query=ALL)) == [(0, 2 * PAGES, H | S | ARMED)]
    words = area.process.pagemap(area.start, 1)
    assert [word & ~(1 << 55) for word in words] == [1 << 57]  # the legacy interface does not call it swapped


def test_memory_without_a_table_is_not_even_huge() -> None:
    area = armed(populated=0, protect=False)
    assert rows(area, raw(area, 0, 2 * PAGES, query=ALL)) == [(0, 2 * PAGES, ARMED)]


def test_arming_a_hole_arms_the_whole_page_that_was_reported_in_part() -> None:
    area = armed(populated=0, protect=False)
    reply = raw(area, 3, 10, query=ALL, flags=WP_MATCHING)
    assert rows(area, reply) == [(3, 10, ARMED)]
    assert rows(area, raw(area, 0, PAGES, query=ALL)) == [(0, PAGES, H | S | ARMED)]


def test_arming_a_hole_once_hung_for_ever() -> None:
    area = armed(populated=0, protect=False, quirks=Quirks(scan_hugetlb_hole_deadlocks=True))
    with pytest.raises(WouldBlock, match="hugetlb vma lock"):
        raw(area, 0, PAGES, query=ALL, flags=WP_MATCHING)


@pytest.mark.parametrize(("by_2m", "left"), [(True, 1), (False, 0)])
def test_pages_of_1g_were_never_protected_when_a_page_had_to_be_2m(*, by_2m: bool, left: int) -> None:
    area = armed(1, protect=False, size=Size("x86_64", 1 << 30), quirks=Quirks(scan_hugetlb_by_2m=by_2m))
    raw(area, 0, 1 << 18, flags=WP_MATCHING)
    assert raw(area, 0, 1 << 18).result == left


def test_an_exact_scan_finishes_where_a_resume_loop_would_not() -> None:
    area = armed(protect=False)
    scan = area.process.scan(area.start + 3 * PAGE, area.start + 10 * PAGE, WRITTEN, protect=True)
    assert scan.complete
