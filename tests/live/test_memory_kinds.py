"""Exact tracking of every kind of memory a program has."""

import ctypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pagewatch
from pagewatch import BlindReason, Category, Query
from pagewatch.linux.thp import huge_page_size
from pagewatch.testing.epoch_contract import written_pages
from pagewatch.vocab.addresses import PAGE_SIZE, page_ceil
from support import libc
from support.hugepages import hugetlb_pages
from support.needs import requires

pytestmark = requires("uffd_wp_async", "pagemap_scan")

_PAGES = 32
_BYTES = _PAGES * PAGE_SIZE


@contextmanager
def _mapped(**named: int) -> Iterator[int]:
    start = libc.mmap(_BYTES, **named)
    try:
        yield start
    finally:
        libc.munmap(start, _BYTES)


@contextmanager
def _file(directory: str | None) -> Iterator[int]:
    """A file of 32 pages, given as a descriptor: of memory (memfd), or in a directory."""
    if directory is None:
        fd = os.memfd_create("pagewatch-test")
    else:
        with tempfile.NamedTemporaryFile(dir=directory) as named:
            fd = os.dup(named.fileno())
    try:
        os.ftruncate(fd, _BYTES)
        yield fd
    finally:
        os.close(fd)


def _epoch_pages(tracker: pagewatch.Tracker, start: int) -> list[int]:
    return written_pages(tracker.collect(), start, PAGE_SIZE)


def _track(start: int, n_bytes: int = _BYTES, **options: bool) -> pagewatch.Tracker:
    return pagewatch.track((start, start + n_bytes), **options)


def _poke(start: int, *pages: int) -> None:
    for page in pages:
        ctypes.memset(start + page * PAGE_SIZE + 7, 0x5A, 1)


@pytest.mark.parametrize("sharing", [libc.MAP_PRIVATE, libc.MAP_SHARED], ids=["private", "shared"])
@pytest.mark.parametrize("populated", [False, True], ids=["empty", "populated"])
def test_anonymous_memory_is_exact(sharing, populated):
    with _mapped(flags=sharing | libc.MAP_ANONYMOUS) as start:
        if populated:
            ctypes.memset(start, 1, _BYTES)
        with _track(start) as tracker:
            for pages in ([3], [0, 31], [], [3, 4]):
                _poke(start, *pages)
                assert _epoch_pages(tracker, start) == pages


@pytest.mark.parametrize("sharing", [libc.MAP_PRIVATE, libc.MAP_SHARED], ids=["private", "shared"])
@pytest.mark.parametrize("directory", [None, "/dev/shm", "/var/tmp"], ids=["memfd", "tmpfs", "disk"])
def test_file_mappings_are_exact_and_name_what_they_cannot_see(directory, sharing):
    with _file(directory) as fd, _mapped(flags=sharing, fd=fd) as start, _track(start) as tracker:
        for pages in ([3], [0, 31], [], [3, 4]):
            _poke(start, *pages)
            epoch = tracker.collect()
            assert written_pages(epoch, start, PAGE_SIZE) == pages
            reason = BlindReason.FILE_CONTENT if sharing == libc.MAP_SHARED else BlindReason.PRIVATE_FILE
            assert [spot.reason for spot in epoch.blind_spots] == [reason]


def test_writing_a_shared_file_by_write_is_not_seen_and_named():
    """The kernel keeps no protection on a file, only on mappings of it (docs/facts)."""
    with _file(None) as fd, _mapped(flags=libc.MAP_SHARED, fd=fd) as start:
        ctypes.memset(start, 1, _BYTES)
        with _track(start) as tracker:
            os.pwrite(fd, b"by the other door", 0)
            epoch = tracker.collect()
            assert ctypes.string_at(start, 6) == b"by the"
            assert epoch.regions.pages == 0
            assert [(s.start, s.end, s.reason) for s in epoch.blind_spots] == [
                (start, start + _BYTES, BlindReason.FILE_CONTENT)
            ]


def test_kernel_writes_into_armed_memory_are_seen():
    """read(2) into a buffer, the way that user-mode tricks (mprotect and SIGSEGV) fail."""
    with _mapped() as start, _track(start) as tracker:
        source, sink = os.pipe()
        os.write(sink, b"z" * 8)
        buffer = (ctypes.c_char * 8).from_address(start + 5 * PAGE_SIZE)
        os.readv(source, [buffer])
        os.close(source)
        os.close(sink)
        assert _epoch_pages(tracker, start) == [5]


def test_memory_made_writable_later_is_exact():
    """Changing protection neither sets nor clears the state."""
    with _mapped() as start:
        ctypes.memset(start, 1, _BYTES)
        libc.mprotect(start, _BYTES, libc.PROT_READ)
        with _track(start) as tracker:
            libc.mprotect(start, _BYTES, libc.PROT_READ | libc.PROT_WRITE)
            assert _epoch_pages(tracker, start) == []
            _poke(start, 8)
            assert _epoch_pages(tracker, start) == [8]


def test_a_shared_file_mapped_read_only_is_refused_in_words():
    with _file(None) as fd:
        start = libc.mmap(_BYTES, prot=libc.PROT_READ, flags=libc.MAP_SHARED, fd=_reopened_read_only(fd))
        try:
            with pytest.raises(pagewatch.RangeNotTrackable, match="read-only") as caught, _track(start):
                pass
            assert caught.value.start == start
        finally:
            libc.munmap(start, _BYTES)


def _reopened_read_only(fd: int) -> int:
    read_only = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.dup2(read_only, fd)
    os.close(read_only)
    return fd


def test_memory_tracked_by_someone_else_is_refused_in_words():
    refused = pytest.raises(pagewatch.RangeNotTrackable, match="another userfaultfd")
    with _mapped() as start, _track(start), refused, _track(start):
        pass


def test_a_refused_tracker_leaves_nothing_armed():
    with _mapped() as start, _track(start + 4 * PAGE_SIZE, PAGE_SIZE):
        with pytest.raises(pagewatch.RangeNotTrackable), _track(start):
            pass
        armed = _scan(start, _BYTES, Query.where("wpallowed", returned=Category(0)))
        assert [tuple(r[:2]) for r in armed] == [(start + 4 * PAGE_SIZE, start + 5 * PAGE_SIZE)]


@contextmanager
def _huge_area(n_huge: int) -> Iterator[tuple[int, int]]:
    """(start, bytes of a huge page) of memory that is mapped by transparent huge pages."""
    size = huge_page_size()
    if not size:
        pytest.skip("this kernel has no transparent huge pages")
    length = (n_huge + 1) * size
    base = libc.mmap(length)
    try:
        start = page_ceil(base, size)
        libc.madvise(start, n_huge * size, libc.MADV_HUGEPAGE)
        ctypes.memset(start, 1, n_huge * size)
        if _huge_bytes(start, n_huge * size) != n_huge * size:
            pytest.skip("the kernel gave no transparent huge pages")
        yield start, size
    finally:
        libc.munmap(base, length)


def _huge_bytes(start: int, n_bytes: int) -> int:
    return _scan(start, n_bytes, Query.where("huge")).nbytes


def _scan(start: int, n_bytes: int, query: Query) -> pagewatch.Regions:
    with pagewatch.Process() as process:
        return process.scan(start, start + n_bytes, query).regions


@requires("thp")
def test_one_byte_in_a_huge_page_is_one_small_page():
    """The write splits the huge page; its other pages stay protected and clean."""
    with _huge_area(2) as (start, size), _track(start, 2 * size) as tracker:
        assert _huge_bytes(start, 2 * size) == 2 * size, "arming keeps it huge"
        _poke(start, 700)
        assert _epoch_pages(tracker, start) == [700]
        _poke(start, 3, 700)
        assert _epoch_pages(tracker, start) == [3, 700]


@requires("thp")
def test_half_of_a_huge_page_under_tracking_loses_nothing():
    with _huge_area(1) as (start, size), _track(start, size // 2) as tracker:
        last = size // 2 // PAGE_SIZE - 1
        _poke(start, 0, last, last + 1)
        assert _epoch_pages(tracker, start) == [0, last]


@requires("thp")
def test_a_huge_page_dropped_as_a_whole_reads_as_written():
    """Kernels before the fix of July 2026 lose this; there it must be a named blind spot."""
    with _huge_area(2) as (start, size), _track(start, 2 * size) as tracker:
        libc.madvise(start + size, size, libc.MADV_DONTNEED)
        epoch = tracker.collect()
        seen = epoch.regions.clip(start + size, start + 2 * size).nbytes == size
        assert seen or BlindReason.ZAP_UNSEEN in {spot.reason for spot in epoch.blind_spots}
        assert epoch.regions.clip(start, start + size).pages == 0


@requires("thp")
def test_split_huge_pages_are_collapsed_back_on_close_if_asked():
    with _huge_area(2) as (start, size):
        with _track(start, 2 * size, collapse_on_close=True) as tracker:
            _poke(start, 5)
            tracker.collect()
            assert _huge_bytes(start, 2 * size) == size
        assert _huge_bytes(start, 2 * size) == 2 * size
        assert ctypes.string_at(start + 5 * PAGE_SIZE + 7, 1) == b"\x5a"


@pytest.mark.parametrize("populated", [False, True], ids=["empty", "populated"])
@pytest.mark.parametrize("sharing", [libc.MAP_PRIVATE, libc.MAP_SHARED], ids=["private", "shared"])
def test_hugetlb_is_tracked_by_whole_huge_pages(sharing, populated):
    with hugetlb_pages(4) as size:
        start = libc.mmap(4 * size, flags=sharing | libc.MAP_ANONYMOUS | libc.MAP_HUGETLB)
        try:
            if populated:
                ctypes.memset(start, 1, 4 * size)
            with _track(start, 4 * size) as tracker:
                for huge in (2, 0, 3):
                    ctypes.memset(start + huge * size + 12345, 7, 1)
                    epoch = tracker.collect()
                    assert [tuple(r[:2]) for r in epoch.regions] == [(start + huge * size, start + (huge + 1) * size)]
                assert _epoch_pages(tracker, start) == []
        finally:
            libc.munmap(start, 4 * size)


def test_a_range_inside_a_hugetlb_page_tracks_that_page():
    with hugetlb_pages(2) as size:
        start = libc.mmap(2 * size, flags=libc.MAP_PRIVATE | libc.MAP_ANONYMOUS | libc.MAP_HUGETLB)
        try:
            with _track(start + 5 * PAGE_SIZE, 3 * PAGE_SIZE) as tracker:
                ctypes.memset(start, 1, 1)
                assert [tuple(r[:2]) for r in tracker.collect().regions] == [(start, start + size)]
                ctypes.memset(start + size, 1, 1)
                assert tracker.collect().regions.pages == 0
        finally:
            libc.munmap(start, 2 * size)


def test_closing_leaves_no_protection_and_no_registration():
    with _mapped() as start:
        with _track(start):
            _poke(start, 1)
        with pagewatch.Process() as process:
            flags = next(m.flags for m in process.maps_with_flags() if m.start <= start < m.end)
        assert flags is not None
        assert "uw" not in flags
        assert all(word >> 57 & 1 == 0 for word in _pagemap_words(start))


def _pagemap_words(start: int) -> list[int]:
    with Path("/proc/self/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(start // PAGE_SIZE * 8)
        data = pagemap.read(_PAGES * 8)
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]


def test_a_forked_child_cannot_use_its_parents_tracker_and_does_not_disturb_it():
    with _mapped() as start, _track(start) as tracker:
        child = os.fork()
        if child == 0:
            try:
                _poke(start, 9)
                tracker.collect()
            except pagewatch.TrackerClosed:
                tracker.close()
                os._exit(42)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        _poke(start, 4)
        assert _epoch_pages(tracker, start) == [4], "the child's write is not ours; closing there did not disarm here"


def test_the_parent_keeps_tracking_through_copy_on_write_after_fork():
    with _mapped() as start:
        ctypes.memset(start, 1, _BYTES)
        with _track(start) as tracker:
            forked = os.fork()
            if forked == 0:
                os._exit(0)
            _poke(start, 2)
            os.waitpid(forked, 0)
            assert _epoch_pages(tracker, start) == [2]
