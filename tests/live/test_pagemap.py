"""PAGEMAP_SCAN on the running kernel, where the raw call is not right by itself.

What is true is asked page by page, or with the raw call (``support.raw``), never through the scanner.
"""

import ctypes
import functools
import itertools
import os
import subprocess

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagewatch.linux import pagemap, scan_vector, scan_walk
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
from support.area import Area, area
from support.forked import NOBODY, forked_child, in_forked_child
from support.interrupting import interrupted
from support.needs import requires
from support.resuming import pages_of_all, resumed

pytestmark = requires("uffd_wp_async", "pagemap_scan")

P = raw.PAGE
USER_END = (1 << 47) - P

PRESENT = Query.where("present")
WRITTEN = Query.where("written")


@pytest.fixture
def scanner():
    with PagemapScanner() as scanner:
        yield scanner


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


def test_an_earlier_result_is_not_taken_for_that_of_a_failed_call(scanner):
    with area(64) as memory, raw.armed((memory.at(0), memory.at(60))):
        memory.store(range(0, 60, 2))
        assert len(scanner.scan(memory.start, memory.at(60), WRITTEN, protect=True).regions) == 30
        memory.store([7])
        with pytest.raises(RangeNotArmed) as caught:
            scanner.scan(memory.start, memory.end, WRITTEN, protect=True, require_armed=True)
        assert memory.pages(caught.value.scan.regions) == [7]


@pytest.mark.parametrize("last", [60, 64], ids=["whole", "then unarmed"])
def test_a_scan_interrupted_anywhere_loses_nothing(monkeypatch, last):
    """Also while a vector grows, and while one that is mostly used is given away."""
    monkeypatch.setattr(pagemap, "_FIRST_CAPACITY", 2)
    monkeypatch.setattr(scan_vector, "_LONG_OUTPUT", 8)
    expected = list(range(0, 60, 2))
    with area(64) as memory, raw.armed((memory.start, memory.at(60))):
        for step in itertools.count(1):
            memory.store(expected)
            with PagemapScanner() as scanner:
                scan = functools.partial(
                    scanner.scan, memory.start, memory.at(last), WRITTEN, protect=True, require_armed=True
                )
                try:
                    if not interrupted(scan, step=step, inside=[pagemap, scan_vector, scan_walk]):
                        break
                except RangeNotArmed:
                    break
                left = memory.pages(raw.scan(memory.start, memory.at(60), mask=raw.WRITTEN).regions)
                assert sorted([*memory.pages(scanner.latest()), *left]) == expected
                again = scanner.scan(memory.start, memory.at(60), WRITTEN, protect=True)
                assert memory.pages(again.regions) == left
    assert step > 200


def test_a_reading_scan_that_was_interrupted_leaves_nothing_behind(scanner):
    with area(16) as memory, raw.armed((memory.start, memory.end)):
        for step in itertools.count(1):
            memory.store(range(0, 16, 2))
            reading = functools.partial(scanner.scan, memory.start, memory.end, WRITTEN)
            was_interrupted = interrupted(reading, step=step, inside=[pagemap, scan_vector, scan_walk])
            memory.store([1])
            assert memory.pages(scanner.scan(memory.start, memory.at(2), WRITTEN).regions) == [0, 1]
            assert memory.pages(scanner.scan(memory.start, memory.end, WRITTEN, protect=True).regions)[:2] == [0, 1]
            if not was_interrupted:
                break
    assert step > 100


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
        # Not 1 << 63: arm64 takes that for address 0 with a tag in its top byte.
        (0xFFFF_8000_0000_0000, 0xFFFF_8000_0000_0000 + P, "not a range of user space"),
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


def test_a_kernel_without_the_call_is_a_missing_feature(scanner):
    """As before Linux 6.7: the file does not know the request."""
    os.close(scanner._fd)
    scanner._fd = os.open("/proc/self/maps", os.O_RDONLY)
    with pytest.raises(FeatureMissing) as caught:
        scanner.scan(0, P, PRESENT)
    assert (caught.value.feature, "6.7" in caught.value.hint) == ("pagemap_scan", True)


def test_a_closed_scanner_says_so():
    scanner = PagemapScanner()
    scanner.close()
    scanner.close()
    with pytest.raises(TrackerClosed, match="closed"):
        scanner.scan(0, P, PRESENT)


# --- targets


def test_another_process_is_scanned():
    with area(8) as memory, forked_child(lambda: memory.store([2, 5])) as (child, _), PagemapScanner(child) as scanner:
        assert memory.pages(scanner.scan(memory.start, memory.end, PRESENT).regions) == [2, 5]
        found = scanner.scan(0, USER_END, PRESENT).regions
        expected = raw.scan(0, USER_END, mask=raw.PRESENT, pid=child).regions
        assert found.page_addresses().tolist() == [at for a, b, _ in expected for at in range(a, b, P)]


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
