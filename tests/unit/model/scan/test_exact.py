"""Scans that are right where the raw ioctl is not; the expectations of huge pages are those of the live tests."""

import pytest

from pagewatch.model import Kernel
from pagewatch.model.invariants import check
from pagewatch.model.uffd.context import Feature
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import InvalidArgument, RangeNotArmed, TargetGone
from pagewatch.vocab.query import Query
from pagewatch.vocab.scan import Scan
from support.modelled import WRITTEN

PAGE = 4096
IN_HUGE = 512
BASE = 1 << 30


class Memory:
    """Four hugetlb pages, of which 0, 1 and 3 are written since they were armed."""

    def __init__(self, *, armed: bool = True, huge: bool = True) -> None:
        self.kernel = Kernel()
        self.process = self.kernel.spawn()
        self.start = self.process.mmap(4 * IN_HUGE * PAGE, at=BASE, huge="2M" if huge else None)
        self.end = self.at(4 * IN_HUGE)
        if armed:
            self.arm()
        for page in (0, IN_HUGE, 3 * IN_HUGE):
            self.process.store(self.at(page), b"x")

    def arm(self) -> None:
        uffd = self.process.userfaultfd(Feature.WP_ASYNC)
        uffd.register(self.start, self.end - self.start)
        uffd.writeprotect(self.start, self.end - self.start)

    def at(self, page: int) -> int:
        return BASE + page * PAGE

    def pages(self, scan: Scan) -> list[int]:
        return [(int(address) - self.start) // PAGE for address in scan.regions.page_addresses()]

    def scan(self, first: int = 0, last: int = 4 * IN_HUGE, query: Query = WRITTEN, **limits) -> Scan:
        return self.process.scan(self.at(first), self.at(last), query, protect=True, **limits)

    def still_written(self) -> set[int]:
        """Numbers of huge pages."""
        return {page // IN_HUGE for page in self.pages(self.process.scan(self.start, self.end, WRITTEN))}


WRITTEN_PAGES = [*range(2 * IN_HUGE), *range(3 * IN_HUGE, 4 * IN_HUGE)]


@pytest.mark.parametrize(
    ("first", "last", "still_written"),
    [(3, 10, {0, 1, 3}), (3, 1024, {0, 3}), (0, 612, {1, 3}), (511, 513, {0, 1, 3}), (0, 2048, set())],
)
def test_cut_hugetlb_pages_are_reported_and_stay_written(first: int, last: int, still_written: set[int]) -> None:
    memory = Memory()
    scan = memory.scan(first, last)
    assert memory.pages(scan) == [page for page in WRITTEN_PAGES if first <= page < last]
    assert scan.complete
    assert memory.still_written() == still_written
    check(memory.kernel.machine)


@pytest.mark.parametrize("first", [0, 3, 511, 512, 1500])
@pytest.mark.parametrize("max_pages", [0, 100, 509, 512, 513, 600, 1024, 2000])
@pytest.mark.parametrize("max_regions", [None, 1, 2])
def test_resumed_scans_of_hugetlb_end_and_lose_nothing(first: int, max_pages: int, max_regions: int | None) -> None:
    memory, found, position = Memory(), set[int](), first
    for _ in range(4 * IN_HUGE):
        scan = memory.scan(position, max_pages=max_pages, max_regions=max_regions)
        assert not max_pages or scan.regions.pages <= max_pages
        found.update(memory.pages(scan))
        if scan.complete:
            break
        assert scan.walk_end > memory.at(position) or scan.regions
        position = (scan.walk_end - memory.start) // PAGE
    assert sorted(found) == [page for page in WRITTEN_PAGES if page >= first]


def test_small_pages_behind_a_cut_hugetlb_page_are_found_once() -> None:
    memory = Memory(armed=False, huge=False)
    memory.process.mmap(IN_HUGE * PAGE, at=memory.at(IN_HUGE), huge="2M")
    memory.arm()
    for page in (5, IN_HUGE, *range(2 * IN_HUGE, 2 * IN_HUGE + 40)):
        memory.process.store(memory.at(page), b"x")
    found, position = list[int](), 0
    while position < 4 * IN_HUGE:
        scan = memory.scan(position, max_pages=30)
        found += memory.pages(scan)
        position = (scan.walk_end - memory.start) // PAGE
    assert found == [5, *range(IN_HUGE, 2 * IN_HUGE + 40)]


def test_huge_pages_that_are_not_registered_are_not_reported_as_cut() -> None:
    memory = Memory(armed=False)
    assert memory.pages(memory.scan(3, 10)) == memory.pages(memory.scan(3, 10, max_pages=2)) == []


def test_what_is_returned_of_a_cut_page_is_what_was_asked_for() -> None:
    scan = Memory().scan(3, 10, Query(mask=Category.WRITTEN, returned=Category.PRESENT | Category.HUGE))
    assert [region.categories for region in scan.regions] == [Category.PRESENT | Category.HUGE]


def test_memory_that_is_not_armed_is_named_and_what_was_found_before_is_kept() -> None:
    memory = Memory()
    memory.process.mmap(PAGE, at=memory.end)
    with pytest.raises(RangeNotArmed) as caught:
        memory.process.scan(memory.start, memory.end + PAGE, WRITTEN, protect=True, require_armed=True)
    assert [(region.start, region.end) for region in caught.value.regions] == [(memory.end, memory.end + PAGE)]
    assert caught.value.scan is not None
    assert memory.pages(caught.value.scan) == WRITTEN_PAGES


@pytest.mark.parametrize(
    ("start", "end", "limits"),
    [(1, PAGE, {}), (PAGE, 0, {}), (0, 1 << 60, {}), (0, PAGE, {"max_pages": -1}), (0, PAGE, {"max_regions": -1})],
)
def test_bad_ranges_and_limits_are_refused(start: int, end: int, limits: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        Kernel().spawn().scan(start, end, WRITTEN, **limits)


def test_of_a_process_that_ended_nothing_can_be_said() -> None:
    memory = Memory()
    memory.process.exit()
    with pytest.raises(TargetGone):
        memory.scan()
