"""PAGEMAP_SCAN of huge pages on the running kernel: what a range or a limit cuts is neither lost nor found twice."""

import functools
import itertools

import pytest

from pagewatch.linux import pagemap, scan_vector, scan_walk
from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query
from support import libc, raw
from support.area import MAP_HUGETLB, area
from support.hugepages import hugetlb_pages
from support.interrupting import interrupted
from support.needs import requires
from support.resuming import pages_of_all, resumed

pytestmark = requires("uffd_wp_async", "pagemap_scan")

P = raw.PAGE
HUGE = 2 << 20
IN_HUGE = HUGE // P
MAP_HUGETLB_2M = MAP_HUGETLB | 21 << 26
WRITTEN = Query.where("written")


@pytest.fixture
def scanner():
    with PagemapScanner() as scanner:
        yield scanner


# --- hugetlb pages cut by a range or a limit


@pytest.fixture
def hugetlb():
    """Four armed hugetlb pages of 512, of which 0, 1 and 3 are written."""
    with (
        hugetlb_pages(4, size=HUGE),
        area(4 * IN_HUGE, flags=MAP_HUGETLB_2M, align=HUGE) as memory,
        raw.armed((memory.start, memory.end)),
    ):
        memory.store([0, IN_HUGE, 3 * IN_HUGE])
        yield memory


WRITTEN_IN_HUGETLB = [*range(2 * IN_HUGE), *range(3 * IN_HUGE, 4 * IN_HUGE)]


@pytest.mark.parametrize(
    ("first", "last", "still_written"),
    [(3, 10, {0, 1, 3}), (3, 1024, {0, 3}), (0, 612, {1, 3}), (511, 513, {0, 1, 3}), (0, 2048, set())],
)
def test_cut_hugetlb_pages_are_reported_and_stay_written(scanner, hugetlb, first, last, still_written):
    scan = scanner.scan(hugetlb.at(first), hugetlb.at(last), WRITTEN, protect=True)
    assert hugetlb.pages(scan.regions) == [page for page in WRITTEN_IN_HUGETLB if first <= page < last]
    assert scan.complete
    again = hugetlb.pages(raw.scan(hugetlb.start, hugetlb.end, mask=raw.WRITTEN).regions)
    assert {page // IN_HUGE for page in again} == still_written


@pytest.mark.parametrize("first", [0, 3, 511, 512, 1500])
@pytest.mark.parametrize("max_pages", [0, 1, 100, 509, 512, 513, 600, 1024, 2000])
@pytest.mark.parametrize("max_regions", [None, 1, 2])
def test_resumed_scans_of_hugetlb_end_and_lose_nothing(scanner, hugetlb, first, max_pages, max_regions):
    scans = resumed(scanner, hugetlb, WRITTEN, first=first, protect=True, max_pages=max_pages, max_regions=max_regions)
    assert pages_of_all(hugetlb, scans) == [page for page in WRITTEN_IN_HUGETLB if page >= first]
    assert all(scan.regions.pages <= max_pages for scan in scans if max_pages)


@pytest.mark.parametrize("max_pages", [100, 512, 600])
@pytest.mark.parametrize("expression", ["written", "huge", "written & (huge | present)"])
def test_what_was_reported_whole_is_protected_and_the_rest_is_reported_again(scanner, hugetlb, max_pages, expression):
    query = Query.where(expression, returned=Category.WRITTEN)
    resumed(scanner, hugetlb, query, protect=True, max_pages=max_pages)
    left = {page // IN_HUGE for page in hugetlb.pages(raw.scan(hugetlb.start, hugetlb.end, mask=raw.WRITTEN).regions)}
    protected = {page // IN_HUGE for page in raw.protected_pages(hugetlb.start, hugetlb.end)}
    assert left | protected == {0, 1, 2, 3}
    assert not left & protected
    assert left <= {0, 1, 3}


def test_huge_pages_that_are_not_registered_are_not_reported_as_cut(scanner):
    with (
        hugetlb_pages(1, size=HUGE),
        area(IN_HUGE, flags=MAP_HUGETLB_2M, align=HUGE) as memory,
    ):
        memory.store([0])
        scan = scanner.scan(memory.at(3), memory.at(10), WRITTEN, protect=True)
        assert len(scan.regions) == 0
        scan = scanner.scan(memory.at(3), memory.at(10), WRITTEN, protect=True, max_pages=2)
        assert len(scan.regions) == 0


def test_unregistered_huge_pages_beside_a_cut_one_are_not_reported(scanner):
    with hugetlb_pages(2, size=HUGE), area(2 * IN_HUGE, flags=MAP_HUGETLB_2M, align=HUGE) as memory:
        memory.store([0, IN_HUGE])
        with raw.armed((memory.at(IN_HUGE), memory.end)):
            memory.store([IN_HUGE])
            scan = scanner.scan(memory.start, memory.end - P, WRITTEN, protect=True)
            assert memory.pages(scan.regions) == list(range(IN_HUGE, 2 * IN_HUGE - 1))


def test_small_pages_behind_a_cut_hugetlb_page_are_found_once(scanner):
    """The limit is met behind the cut page, and overwrites the walk_end that tells of it."""
    with hugetlb_pages(1, size=HUGE), area(3 * IN_HUGE, align=HUGE) as memory:
        libc.mmap(HUGE, at=memory.at(IN_HUGE), flags=libc.MAP_PRIVATE | libc.MAP_ANONYMOUS | MAP_HUGETLB_2M)
        with raw.armed((memory.start, memory.end)):
            memory.store([5, IN_HUGE, *range(2 * IN_HUGE, 2 * IN_HUGE + 40)])
            expected = [5, *range(IN_HUGE, 2 * IN_HUGE + 40)]
            scans = resumed(scanner, memory, WRITTEN, protect=True, max_pages=30)
            assert pages_of_all(memory, scans) == expected


@pytest.mark.parametrize("limits", [{}, {"max_pages": 700}], ids=["no limit", "a limit"])
def test_a_scan_interrupted_anywhere_keeps_what_it_protected(hugetlb, limits):
    """The looks for huge pages before and after a protecting call must not take the place of its output."""
    end = hugetlb.at(2 * IN_HUGE + 100)
    for step in itertools.count(1):
        hugetlb.store([0, IN_HUGE, 2 * IN_HUGE])
        with PagemapScanner() as scanner:
            scan = functools.partial(scanner.scan, hugetlb.start, end, WRITTEN, protect=True, **limits)
            if not interrupted(scan, step=step, inside=[pagemap, scan_vector, scan_walk]):
                break
            found = scanner.latest()
            left = hugetlb.pages(raw.scan(hugetlb.start, hugetlb.end, mask=raw.WRITTEN).regions)
            assert {page // IN_HUGE for page in [*hugetlb.pages(found), *left]} >= {0, 1, 2}
            assert {region.categories for region in found} <= {Category.WRITTEN}
            assert hugetlb.pages(scanner.scan(hugetlb.start, hugetlb.end, WRITTEN, protect=True).regions) == left
    assert step > 200


# --- transparent huge pages


def test_a_limit_splits_a_transparent_huge_page_and_loses_nothing(scanner):
    with area(2 * IN_HUGE, align=HUGE) as memory:
        memory.advise(libc.MADV_HUGEPAGE)
        memory.store([0, IN_HUGE])
        if not raw.categories(memory.start, memory.at(1))[memory.start] & raw.HUGE:
            pytest.skip("the kernel gave no transparent huge page")
        with raw.registered((memory.start, memory.end)):
            scans = resumed(scanner, memory, WRITTEN, protect=True, max_pages=600)
            assert pages_of_all(memory, scans) == list(range(2 * IN_HUGE))
            assert raw.protected_pages(memory.start, memory.end) == list(range(2 * IN_HUGE))
