"""PAGEMAP_SCAN on the running kernel, where the raw call is not right by itself.

What is true is asked page by page, or with the raw call (``support.raw``), never through the scanner.
"""

import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import (
    FeatureMissing,
    InvalidArgument,
    NotPermitted,
    RangeNotArmed,
    TargetGone,
    TrackerClosed,
)
from pagewatch.vocab.query import Query
from support import libc, raw
from support.area import MAP_HUGETLB, Area, area
from support.forked import NOBODY, in_forked_child
from support.hugepages import hugetlb_pages
from support.needs import requires

pytestmark = requires("uffd_wp_async", "pagemap_scan")

P = raw.PAGE
HUGE = 2 << 20
MAP_HUGETLB_2M = MAP_HUGETLB | 21 << 26
USER_END = (1 << 47) - P
IN_HUGE = HUGE // P

PRESENT = Query.where("present")
WRITTEN = Query.where("written")


@pytest.fixture
def scanner():
    with PagemapScanner() as scanner:
        yield scanner


def resumed(scanner, memory, query, *, first=0, last=None, **options):
    """All scans of a range, each going on where the one before ended."""
    position, end = memory.at(first), memory.at(memory.n_pages if last is None else last)
    scans = []
    while position < end:
        scans.append(scanner.scan(position, end, query, **options))
        assert position < scans[-1].walk_end <= end, "a resume must make progress"
        assert scans[-1].complete == (scans[-1].walk_end == end)
        position = scans[-1].walk_end
    return scans


def pages_of_all(memory, scans):
    return [page for scan in scans for page in memory.pages(scan.regions)]


# --- results of more than 512 regions: the kernel leaves walk_end behind


@pytest.mark.parametrize("n_regions", [511, 512, 513, 1023, 1024, 1025, 1300, 1536, 1537, 9000])
@pytest.mark.parametrize("protect", [False, True])
def test_long_results_have_every_page_exactly_once(scanner, n_regions, protect):
    with area(2 * n_regions + 5) as memory, raw.armed((memory.start, memory.end)):
        expected = list(range(0, 2 * n_regions, 2))
        memory.store(expected)
        scan = scanner.scan(memory.start, memory.end, WRITTEN, protect=protect)
        assert memory.pages(scan.regions) == expected
        assert (scan.complete, scan.walk_end) == (True, memory.end)


@pytest.mark.parametrize("max_regions", [1, 511, 512, 513, 700, 1025])
def test_resuming_long_results_repeats_nothing(scanner, max_regions):
    with area(2800) as memory:
        expected = list(range(0, 2600, 2))
        memory.store(expected)
        assert pages_of_all(memory, resumed(scanner, memory, PRESENT, max_regions=max_regions)) == expected


def test_raw_call_leaves_walk_end_behind_or_a_kernel_has_repaired_it():
    """The very bug: why the scanner trusts the number of regions more than walk_end."""
    with area(2800) as memory:
        memory.store(range(0, 2600, 2))
        answer = raw.scan(memory.start, memory.end, mask=raw.PRESENT, capacity=4096)
        assert memory.pages(answer.regions) == list(range(0, 2600, 2))
        assert memory.index(answer.walk_end) in (2048, memory.n_pages)


# --- limits


@pytest.mark.parametrize(("max_pages", "walk_end"), [(2, 5), (3, 8), (5, 10), (7, 64), (8, 64)])
def test_max_pages_ends_before_the_first_match_left_out(scanner, max_pages, walk_end):
    with area(64) as memory:
        memory.store([2, 3, 5, 8, 9, 10, 20])
        scan = scanner.scan(memory.start, memory.at(20), PRESENT, max_pages=max_pages)
        assert memory.pages(scan.regions) == [2, 3, 5, 8, 9, 10][:max_pages]
        assert memory.index(scan.walk_end) == min(walk_end, 20)


@pytest.mark.parametrize(("max_regions", "walk_end"), [(1, 5), (3, 20), (4, 64), (5, 64)])
def test_max_regions_ends_before_the_first_match_left_out(scanner, max_regions, walk_end):
    with area(64) as memory:
        memory.store([2, 3, 5, 8, 9, 10, 20])
        scan = scanner.scan(memory.start, memory.end, PRESENT, max_regions=max_regions)
        assert len(scan.regions) == min(max_regions, 4)
        assert memory.index(scan.walk_end) == walk_end


def test_no_regions_allowed_finds_nothing_and_goes_nowhere(scanner):
    with area(4) as memory:
        memory.store(range(4))
        scan = scanner.scan(memory.start, memory.end, PRESENT, max_regions=0)
        assert (len(scan.regions), scan.walk_end, scan.complete) == (0, memory.start, False)


def test_an_empty_range_is_complete(scanner):
    with area(1) as memory:
        scan = scanner.scan(memory.start, memory.start, PRESENT)
        assert (len(scan.regions), scan.walk_end, scan.complete) == (0, memory.start, True)


def test_an_end_inside_a_page_takes_the_whole_page(scanner):
    with area(4) as memory:
        memory.store(range(4))
        scan = scanner.scan(memory.start, memory.at(1) + 1, PRESENT)
        assert memory.pages(scan.regions) == [0, 1]
        assert scan.walk_end == memory.at(2)


@pytest.fixture(scope="module")
def patchwork():
    """640 pages in every state that one process can put them in cheaply."""
    with area(640) as memory:
        memory.store(range(0, 640, 3))
        memory.load(range(1, 640, 7))  # the zero page
        libc.mprotect(memory.at(100), 20 * P, libc.PROT_READ)  # splits the mapping
        libc.munmap(memory.at(300), 15 * P)
        with raw.registered((memory.at(0), memory.at(100)), (memory.at(330), memory.end)) as fd:
            raw.protect(fd, memory.at(330), memory.at(600))
            memory.store(range(400, 420))
            yield memory, raw.categories(memory.start, memory.end)


queries = st.builds(
    Query,
    *[st.sets(st.sampled_from([1, 2, 4, 8, 16, 32, 64])).map(lambda bits: Category(sum(bits))) for _ in range(4)],
)


def naive(truth, query):
    """(page, reported categories) of every match, by the formula and one page at a time."""
    return [(at, bits & int(query.returned)) for at, bits in sorted(truth.items()) if query.matches(bits)]


def as_reported(regions):
    return [(at, int(bits)) for start, end, bits in regions for at in range(start, end, P)]


@given(query=queries, bounds=st.lists(st.integers(0, 640), min_size=2, max_size=2).map(sorted))
@settings(max_examples=150)
def test_one_scan_is_what_page_by_page_says(patchwork, query, bounds):
    memory, truth = patchwork
    start, end = memory.at(bounds[0]), memory.at(bounds[1])
    with PagemapScanner() as scanner:
        scan = scanner.scan(start, end, query)
    expected = naive({at: bits for at, bits in truth.items() if start <= at < end}, query)
    assert as_reported(scan.regions) == expected
    assert scan.complete


@given(query=queries, max_pages=st.integers(0, 90), max_regions=st.none() | st.integers(1, 30))
@settings(max_examples=150)
def test_resumed_scans_add_up_to_the_whole(patchwork, query, max_pages, max_regions):
    memory, truth = patchwork
    with PagemapScanner() as scanner:
        scans = resumed(scanner, memory, query, max_pages=max_pages, max_regions=max_regions)
    assert [page for scan in scans for page in as_reported(scan.regions)] == naive(truth, query)
    assert all(scan.regions.pages <= max_pages for scan in scans if max_pages)
    assert all(len(scan.regions) <= max_regions for scan in scans if max_regions)


@given(
    written=st.sets(st.integers(0, 199), max_size=60),
    max_pages=st.integers(0, 40),
    max_regions=st.none() | st.integers(1, 20),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_resumed_protecting_scans_report_and_protect_each_page_once(written, max_pages, max_regions):
    with area(200) as memory, raw.armed((memory.start, memory.end)), PagemapScanner() as scanner:
        memory.store(written)
        scans = resumed(scanner, memory, WRITTEN, protect=True, max_pages=max_pages, max_regions=max_regions)
        assert pages_of_all(memory, scans) == sorted(written)
        assert raw.protected_pages(memory.start, memory.end) == list(range(200))


def test_pages_cut_off_by_a_limit_stay_unprotected(scanner):
    with area(20) as memory, raw.armed((memory.start, memory.end)):
        memory.store(range(20))
        scanner.scan(memory.start, memory.end, WRITTEN, protect=True, max_pages=7)
        assert raw.protected_pages(memory.start, memory.end) == list(range(7))


# --- coalescing


def test_equal_neighbours_merge_across_mappings(scanner):
    with area(8) as memory:
        libc.mprotect(memory.at(4), 4 * P, libc.PROT_READ)
        libc.mprotect(memory.at(4), 2 * P, libc.PROT_READ | 4)
        memory.store(range(4))
        memory.load(range(4, 8))
        everything = scanner.scan(memory.start, memory.end, Query(returned=Category(0)))
        assert [tuple(r) for r in everything.regions] == [(memory.start, memory.end, 0)]
        split = scanner.scan(memory.start, memory.end, Query(returned=Category.PFNZERO))
        assert [memory.index(r.start) for r in split.regions] == [0, 4]


def test_a_hole_between_mappings_separates(scanner):
    with area(9) as memory:
        libc.munmap(memory.at(4), P)
        scan = scanner.scan(memory.start, memory.end, Query())
        assert [(memory.index(r.start), memory.index(r.end)) for r in scan.regions] == [(0, 4), (5, 9)]


# --- protection: masks hold, and nothing is armed that does not match


@pytest.mark.parametrize("expression", ["present", "swapped", "present & !pfnzero"])
def test_masks_decide_what_is_protected(scanner, expression):
    """The raw call without a vector would protect every page."""
    query = Query.where(expression)
    with area(12) as memory, raw.registered((memory.start, memory.end)):
        memory.store([1, 2, 7])
        memory.load([4])
        matching = [
            memory.index(at) for at, bits in raw.categories(memory.start, memory.end).items() if query.matches(bits)
        ]
        scanner.scan(memory.start, memory.end, query, protect=True)
        assert raw.protected_pages(memory.start, memory.end) == matching


def test_a_scan_without_protect_changes_nothing(scanner):
    with area(12) as memory, raw.registered((memory.start, memory.end)):
        memory.store(range(12))
        scanner.scan(memory.start, memory.end, WRITTEN)
        assert raw.protected_pages(memory.start, memory.end) == []


def test_memory_that_is_not_registered_is_neither_reported_nor_protected(scanner):
    with area(12) as memory, raw.registered((memory.at(0), memory.at(4))):
        memory.store(range(12))
        scan = scanner.scan(memory.start, memory.end, WRITTEN, protect=True)
        assert memory.pages(scan.regions) == [0, 1, 2, 3]


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


def test_small_pages_behind_a_cut_hugetlb_page_are_found_once(scanner):
    """The limit is met behind the cut page, and overwrites the walk_end that tells of it."""
    with hugetlb_pages(1, size=HUGE), area(3 * IN_HUGE, align=HUGE) as memory:
        libc.mmap(HUGE, at=memory.at(IN_HUGE), flags=libc.MAP_PRIVATE | libc.MAP_ANONYMOUS | MAP_HUGETLB_2M)
        with raw.armed((memory.start, memory.end)):
            memory.store([5, IN_HUGE, *range(2 * IN_HUGE, 2 * IN_HUGE + 40)])
            expected = [5, *range(IN_HUGE, 2 * IN_HUGE + 40)]
            scans = resumed(scanner, memory, WRITTEN, protect=True, max_pages=30)
            assert pages_of_all(memory, scans) == expected


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


# --- errors: what was scanned before is never lost


def test_unarmed_memory_is_named_and_earlier_output_kept(scanner):
    with area(24) as memory, raw.armed((memory.at(0), memory.at(8)), (memory.at(16), memory.at(24))):
        memory.store([1, 2, 6, 10, 20])
        with pytest.raises(RangeNotArmed) as caught:
            scanner.scan(memory.start, memory.end, WRITTEN, protect=True, require_armed=True)
        assert memory.pages(caught.value.regions) == list(range(8, 16))
        assert memory.pages(caught.value.scan.regions) == [1, 2, 6]
        assert not caught.value.scan.complete
        # What the failed call protected, it reported; the rest is still there for the next scan.
        assert memory.pages(raw.scan(memory.at(16), memory.end, mask=raw.WRITTEN).regions) == [20]
        assert raw.protected_pages(memory.start, memory.at(8)) == list(range(8))


def test_a_failed_call_loses_no_region_of_a_long_result(scanner):
    with area(5000) as memory, raw.armed((memory.at(0), memory.at(4990))):
        expected = list(range(0, 4990, 2))
        memory.store(expected)
        with pytest.raises(RangeNotArmed) as caught:
            scanner.scan(memory.start, memory.end, WRITTEN, protect=True, require_armed=True)
        found = memory.pages(caught.value.scan.regions)
        left = memory.pages(raw.scan(memory.start, memory.at(4990), mask=raw.WRITTEN).regions)
        assert found + left == expected


def test_the_scanner_works_on_after_an_error(scanner):
    with area(8) as memory, raw.armed((memory.at(0), memory.at(4))):
        memory.store([1, 6])
        with pytest.raises(RangeNotArmed):
            scanner.scan(memory.start, memory.end, WRITTEN, protect=True, require_armed=True)
        memory.store([3])
        assert memory.pages(scanner.scan(memory.start, memory.at(4), WRITTEN).regions) == [3]


def test_gaps_do_not_count_as_unarmed(scanner):
    with area(12) as memory:
        libc.munmap(memory.at(4), 4 * P)
        with raw.armed((memory.at(0), memory.at(4)), (memory.at(8), memory.at(12))):
            memory.store([1, 9])
            scan = scanner.scan(memory.start, memory.end, WRITTEN, protect=True, require_armed=True)
            assert memory.pages(scan.regions) == [1, 9]


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (1, P, "not a multiple"),
        (2 * P, P, "must not end before"),
        (-P, P, "must not end before"),
        (0, 1 << 64, "must not end before"),
        (0, (1 << 64) - 1, "not a range of user space"),
        (0, (1 << 64) - P, "not a range of user space"),
        (0xFFFF_FFFF_FF60_0000, 0xFFFF_FFFF_FF60_1000, "not a range of user space"),
        (1 << 63, (1 << 63) + P, "not a range of user space"),
    ],
)
def test_bad_ranges_are_refused(scanner, start, end, words):
    with pytest.raises(InvalidArgument, match=words):
        scanner.scan(start, end, PRESENT)


@pytest.mark.parametrize("limits", [{"max_pages": -1}, {"max_regions": -1}])
def test_negative_limits_are_refused(scanner, limits):
    with pytest.raises(InvalidArgument, match="negative"):
        scanner.scan(0, P, PRESENT, **limits)


def test_a_category_that_the_kernel_does_not_know_is_a_missing_feature(scanner):
    query = Query()
    object.__setattr__(query, "mask", Category(1 << 40))  # as a kernel older than the category would see it
    with pytest.raises(FeatureMissing, match="does not know all categories"):
        scanner.scan(0, P, query)


def test_a_closed_scanner_says_so():
    scanner = PagemapScanner()
    scanner.close()
    scanner.close()
    with pytest.raises(TrackerClosed, match="closed"):
        scanner.scan(0, P, PRESENT)


# --- targets


def test_another_process_is_scanned():
    with area(8, shared=True) as memory:
        memory.store([2, 5])
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            with PagemapScanner(child.pid) as scanner:
                found = scanner.scan(0, USER_END, PRESENT).regions
            expected = raw.scan(0, USER_END, mask=raw.PRESENT, pid=child.pid).regions
            assert found.page_addresses().tolist() == [at for a, b, _ in expected for at in range(a, b, P)]
        finally:
            child.communicate(b"\n")


def test_a_pid_that_does_not_exist_is_gone():
    child = subprocess.Popen(["true"])
    child.wait()
    with pytest.raises(TargetGone) as caught:
        PagemapScanner(child.pid)
    assert caught.value.pid == child.pid


def test_a_zombie_is_gone():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    try:
        with pytest.raises(TargetGone):
            PagemapScanner(child.pid).scan(0, USER_END, PRESENT)
    finally:
        child.wait()


def test_a_kernel_thread_has_no_memory():
    with pytest.raises((TargetGone, NotPermitted)) as caught:
        PagemapScanner(2)
    if os.geteuid() == 0:
        assert caught.type is TargetGone


def test_another_users_process_is_not_permitted():
    if os.geteuid():
        with pytest.raises(NotPermitted, match="ptrace_scope"):
            PagemapScanner(1)
        return
    target = os.getpid()
    error = in_forked_child(lambda: PagemapScanner(target), user=NOBODY)
    assert isinstance(error, NotPermitted)
    assert error.reason == f"/proc/{target}/pagemap may not be read"
    assert "SYS_PTRACE" in error.hint


def test_pages_are_found_in_an_array_by_its_slices(scanner):
    values = np.zeros(16 * P, np.uint8)
    start = -(-values.ctypes.data // P) * P
    ctypes.memset(start + 3 * P, 1, P)
    memory = Area(start, 12)
    assert 3 in memory.pages(scanner.scan(memory.start, memory.end, PRESENT).regions)
