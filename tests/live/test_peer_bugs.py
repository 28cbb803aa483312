"""Bugs of neighbouring tools that lost writes in silence, each as a test that this one does not have it.

The names say what went wrong there; the truth is always a shadow of what the test itself stored.
"""

import ctypes
import mmap
import random
from pathlib import Path

import pytest

import pagewatch
from pagewatch import BlindReason, Category, Process, Query
from pagewatch.linux.thp import huge_page_size
from support import libc, raw
from support.area import area
from support.needs import requires
from support.uring import pinned

pytestmark = requires("uffd_wp_async", "pagemap_scan")

P = raw.PAGE
WRITTEN = Query.where("written")


def tracked(memory, **options):
    return pagewatch.track((memory.start, memory.end), **options)


def written_in(memory, epoch):
    return memory.pages(epoch.regions)


# --- wasmtime (PR 14357): a buffer of 32 regions, and what did not fit into it was never reset


@pytest.mark.parametrize("n_regions", [31, 32, 33, 1000, 5000])
def test_more_regions_than_any_buffer_has_room_for_are_all_collected(n_regions):
    with area(2 * n_regions) as memory, tracked(memory) as tracker:
        expected = list(range(0, 2 * n_regions, 2))
        memory.store(expected)
        assert written_in(memory, tracker.collect()) == expected
        assert written_in(memory, tracker.collect()) == []


def test_a_scan_of_32_regions_says_where_it_stopped_and_that_it_did():
    with area(200) as memory, raw.armed((memory.start, memory.end)), Process() as process:
        expected = list(range(0, 200, 2))
        memory.store(expected)
        found, position = [], memory.start
        while position < memory.end:
            scan = process.scan(position, memory.end, WRITTEN, protect=True, max_regions=32)
            assert scan.complete == (len(scan.regions) < 32)
            found += memory.pages(scan.regions)
            position = scan.walk_end
        assert found == expected


# --- the same: pages were asked to be present, and a swapped-out dirty page is not


def swap_out(memory, pages):
    for page in pages:
        memory.advise(libc.MADV_PAGEOUT, page, page + 1)
    states = raw.categories(memory.start, memory.end)
    stayed = [page for page in pages if states[memory.at(page)] & raw.PRESENT]
    if stayed:
        pytest.skip(f"the kernel kept pages {stayed} in memory")


def noise(page, value):
    """A page of bytes that do not compress away, so that it is really written to swap."""
    return random.Random(f"{page} {value}").randbytes(P)


def fill(memory, pages, value):
    for page in pages:
        ctypes.memmove(memory.at(page), noise(page, value), P)


def test_dirty_pages_that_were_swapped_out_are_collected(swap):
    with area(32) as memory:
        fill(memory, range(32), 0)
        with tracked(memory) as tracker:
            fill(memory, [3, 4, 20], 1)
            swap_out(memory, [3, 4, 20])
            assert written_in(memory, tracker.collect()) == [3, 4, 20]
            assert ctypes.string_at(memory.at(20), P) == noise(20, 1)


# --- Firecracker: mincore() took "swapped out" for "not written", and "read back" for "written"


def test_clean_pages_that_were_swapped_out_and_read_back_are_not_written(swap):
    with area(32) as memory:
        fill(memory, range(32), 0)
        with tracked(memory) as tracker:
            swap_out(memory, range(8, 16))
            assert written_in(memory, tracker.collect()) == []
            memory.load(range(8, 16))
            assert written_in(memory, tracker.collect()) == []
            swap_out(memory, [9])
            memory.store([9])
            assert written_in(memory, tracker.collect()) == [9]


def test_pages_swapped_out_before_arming_are_tracked_like_others(swap):
    with area(16) as memory:
        fill(memory, range(16), 0)
        swap_out(memory, range(16))
        with tracked(memory) as tracker:
            memory.load([1, 2])
            memory.store([5])
            assert written_in(memory, tracker.collect()) == [5]


# --- e2b (firecracker PR 8): "present and not write-protected", asked before anything was armed


def test_resident_pages_are_not_written_only_because_they_are_resident():
    with area(64) as memory:
        memory.store(range(64))
        with tracked(memory) as tracker:
            assert written_in(memory, tracker.collect()) == []


def test_a_scan_of_memory_that_was_never_armed_can_be_told_to_refuse():
    with area(8) as memory, Process() as process:
        memory.store(range(8))
        with pytest.raises(pagewatch.RangeNotArmed):
            process.scan(memory.start, memory.end, WRITTEN, require_armed=True)


# --- the kernel itself (July 2026): what MADV_DONTNEED dropped was not reported


def rebuilt(memory, base, epochs):
    """A copy of the memory, made from an older copy and what the epochs since then name."""
    copy = bytearray(base)
    for epoch in epochs:
        for start, end, _ in epoch.regions:
            first, last = start - memory.start, end - memory.start
            copy[first:last] = ctypes.string_at(start, end - start)
    return bytes(copy)


@pytest.mark.parametrize("advice", [libc.MADV_DONTNEED, mmap.MADV_FREE], ids=["DONTNEED", "FREE"])
def test_a_copy_kept_up_by_epochs_never_has_dropped_bytes(advice):
    size = huge_page_size() or 2 << 20
    with area(3 * size // P, align=size) as memory:
        memory.advise(libc.MADV_HUGEPAGE)
        memory.store(range(memory.n_pages), value=7)
        with tracked(memory) as tracker:
            base = ctypes.string_at(memory.start, memory.n_pages * P)
            # A whole huge page, then a part of one.
            memory.advise(advice, size // P, 2 * size // P)
            memory.advise(advice, 5, 9)
            epochs = [tracker.collect()]
            if any(spot.reason is BlindReason.ZAP_UNSEEN for spot in epochs[0].blind_spots):
                pytest.skip("this kernel has the bug; the epoch names it")
            memory.store([1])
            epochs.append(tracker.collect())
            assert rebuilt(memory, base, epochs) == ctypes.string_at(memory.start, memory.n_pages * P)
            if advice == libc.MADV_DONTNEED:
                assert written_in(memory, epochs[0]) == [*range(5, 9), *range(size // P, 2 * size // P)]


# --- AgentENV (#120): the bitmap was cleared for one snapshot and the next was built on an older one


def test_the_epochs_since_arming_add_up_to_every_write():
    rng = random.Random(120)
    with area(300) as memory:
        memory.store(range(0, 300, 5))
        with tracked(memory) as tracker:
            base = ctypes.string_at(memory.start, 300 * P)
            stored, epochs = set(), []
            for round_ in range(20):
                now = rng.sample(range(300), 30)
                memory.store(now, value=round_ + 2)
                stored |= set(now)
                epochs.append(tracker.collect())
                assert written_in(memory, epochs[-1]) == sorted(now)
            assert [epoch.index for epoch in epochs] == list(range(20))
            assert {page for epoch in epochs for page in written_in(memory, epoch)} == stored
            assert rebuilt(memory, base, epochs) == ctypes.string_at(memory.start, 300 * P)


# --- bdwgc (#479, #553, #949): right in the first round only, and at odds with mprotect


def test_two_hundred_rounds_with_changing_access_are_exact():
    rng = random.Random(949)
    with area(256) as memory, tracked(memory) as tracker:
        for _ in range(200):
            first = rng.randrange(200)
            now = set(rng.sample(range(256), rng.randrange(40)))
            memory.store(now)
            libc.mprotect(memory.at(first), 50 * P, rng.choice([libc.PROT_READ, libc.PROT_NONE]))
            libc.mprotect(memory.at(first), 50 * P, libc.PROT_READ | libc.PROT_WRITE)
            memory.load(rng.sample(range(256), 20))
            late = set(rng.sample(range(256), 5))
            memory.store(late)
            assert written_in(memory, tracker.collect()) == sorted(now | late)


def test_a_write_that_fails_is_none():
    """The kernel looks at the mapping first: a refused copy into read-only memory changes nothing."""
    with area(4) as memory, tracked(memory) as tracker:
        libc.mprotect(memory.at(1), P, libc.PROT_READ)
        with Path("/dev/zero").open("rb", buffering=0) as zeroes, pytest.raises(OSError, match="Bad address"):
            zeroes.readinto((ctypes.c_char * 8).from_address(memory.at(1)))
        assert written_in(memory, tracker.collect()) == []


# --- faabric (PR 210): resetting is for the whole process, so that two trackers undo each other


def test_trackers_side_by_side_do_not_disturb_each_other():
    with area(32) as one, area(32) as other, tracked(one) as first, tracked(other) as second:
        one.store([1, 2])
        other.store([3])
        assert written_in(one, first.collect()) == [1, 2]
        one.store([4])
        assert written_in(other, second.collect()) == [3]
        first.close()
        other.store([5])
        assert written_in(other, second.collect()) == [5]


# --- CubeSandbox (PR 1343): looking physical pages up while the kernel moves them


def test_pages_that_the_kernel_moves_meanwhile_are_neither_lost_nor_invented():
    compact = Path("/proc/sys/vm/compact_memory")
    rng = random.Random(1343)
    with area(4096) as memory:
        memory.advise(libc.MADV_NOHUGEPAGE)
        memory.store(range(4096))
        with tracked(memory) as tracker:
            for round_ in range(5):
                now = sorted(rng.sample(range(4096), 500))
                memory.store(now[:250], value=round_ + 3)
                try:
                    compact.write_text("1")
                except OSError as error:
                    pytest.skip(f"only root can have memory compacted: {error}")
                memory.store(now[250:], value=round_ + 3)
                assert written_in(memory, tracker.collect()) == now
                assert memory.load(now) == [round_ + 3] * 500


# --- CRIU (#915, #2021): a process that keeps a userfaultfd cannot be dumped


def test_closing_leaves_no_userfaultfd_in_the_process():
    def userfaultfds():
        links = Path("/proc/self/fd").iterdir()
        return [link for link in links if link.is_symlink() and str(link.readlink()) == "anon_inode:[userfaultfd]"]

    before = len(userfaultfds())
    with area(16) as memory:
        with tracked(memory) as tracker:
            memory.store([1])
            tracker.collect()
            assert len(userfaultfds()) == before + 1
        assert len(userfaultfds()) == before
        assert "uw" not in raw.vm_flags(memory.start)
        assert raw.protected_pages(memory.start, memory.end) == []


# --- every tool on page tables: writes of devices and io_uring into pinned memory bypass them


def test_memory_pinned_before_arming_is_named_as_a_blind_spot():
    with area(16) as memory:
        memory.store(range(16))
        try:
            with pinned((memory.at(4), 2 * P)), tracked(memory) as tracker:
                spots = tracker.collect().blind_spots
        except OSError as error:
            pytest.skip(f"io_uring cannot be used here: {error}")
        named = [(memory.index(s.start), memory.index(s.end)) for s in spots if s.reason is BlindReason.PINNED]
        assert named == [(4, 6)]


def test_pinned_memory_counts_as_written_when_asked_to_be_strict():
    with area(16) as memory:
        memory.store(range(16))
        try:
            with pinned((memory.at(4), 2 * P)), tracked(memory, strict=True) as tracker:
                epoch = tracker.collect()
        except OSError as error:
            pytest.skip(f"io_uring cannot be used here: {error}")
        assert written_in(memory, epoch) == [4, 5]
        assert memory.pages(epoch.assumed) == [4, 5]


# --- a one-byte write to a huge page, reported as 512 pages where it was never armed


def test_one_byte_in_an_armed_huge_page_is_one_page_and_the_category_says_huge_no_more():
    size = huge_page_size()
    if not size:
        pytest.skip("this kernel has no transparent huge pages")
    with area(size // P, align=size) as memory:
        memory.advise(libc.MADV_HUGEPAGE)
        memory.store([0])
        if not raw.categories(memory.start, memory.at(1))[memory.start] & int(Category.HUGE):
            pytest.skip("the kernel gave no huge page")
        with tracked(memory) as tracker:
            memory.store([77])
            assert written_in(memory, tracker.collect()) == [77]
