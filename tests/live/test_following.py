"""A tracker of a whole program follows it as its memory changes shape."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

import pagewatch
from pagewatch import BlindReason
from pagewatch.linux.proc import parse_fields
from pagewatch.testing.epoch_contract import spots_of, written_pages
from pagewatch.vocab.addresses import PAGE_SIZE
from support import libc
from support.needs import requires
from support.target_world import target_world

pytestmark = requires("uffd_wp_async", "pagemap_scan", "attach")

_PAGES = 16
_BYTES = _PAGES * PAGE_SIZE


@pytest.fixture
def world():
    with target_world() as world:
        yield world


def _inside(epoch: pagewatch.Epoch, start: int) -> list[int]:
    return [page for page in written_pages(epoch, start, PAGE_SIZE) if 0 <= page < _PAGES]


def _named(epoch: pagewatch.Epoch, reason: BlindReason, start: int, n_bytes: int) -> bool:
    return any(low <= start and start + n_bytes <= high for low, high in spots_of(epoch, reason))


def test_a_growing_heap_is_found_named_and_then_exact(world):
    with world.track(None) as tracker:
        start = -(-world.call("sbrk", 4 * _BYTES) // PAGE_SIZE) * PAGE_SIZE
        world.store(start + 2 * PAGE_SIZE, b"x")
        epoch = tracker.collect()
        assert _named(epoch, BlindReason.MAPPED_LATE, start, _BYTES)
        assert 2 in _inside(epoch, start)
        world.store(start + 5 * PAGE_SIZE, b"x")
        assert _inside(tracker.collect(), start) == [5]


def test_a_mapping_moved_by_mremap_is_found_at_its_new_place(world):
    start = world.map(_PAGES)
    world.store(start, b"x" * _BYTES)
    with world.track(None) as tracker:
        to = world.map(_PAGES) + 0
        world.call("munmap", to, _BYTES)
        moved = world.call("mremap", start, _BYTES, _BYTES, libc.MREMAP_MAYMOVE | libc.MREMAP_FIXED, to)
        epoch = tracker.collect()
        assert moved == to
        assert _named(epoch, BlindReason.UNMAPPED, start, _BYTES)
        assert _named(epoch, BlindReason.MAPPED_LATE, to, _BYTES)
        world.store(to + 3 * PAGE_SIZE, b"x")
        assert _inside(tracker.collect(), to) == [3]


def test_a_neighbour_that_a_move_robs_of_its_arming_loses_no_write(world):
    """docs/facts/moving_next_to_watched.md: the mapping that moved memory merges with is watched no more."""
    start = world.call("mmap", 3 * _BYTES)
    neighbour, to = start + _BYTES, start + 2 * _BYTES
    world.call("munmap", to, _BYTES)
    with world.track([(start, to)]) as tracker:
        world.call("mremap", start, _BYTES, _BYTES, libc.MREMAP_MAYMOVE | libc.MREMAP_FIXED, to)
        world.store(neighbour + 5 * PAGE_SIZE, b"x")
        epoch = tracker.collect()
        assert 5 in _inside(epoch, neighbour)
        assert _named(epoch, BlindReason.MAPPED_LATE, neighbour, _BYTES)
        world.store(neighbour + 7 * PAGE_SIZE, b"x")
        epoch = tracker.collect()
        assert _inside(epoch, neighbour) == [7]
        assert not _named(epoch, BlindReason.MAPPED_LATE, neighbour, _BYTES)


def test_a_mapping_grown_in_place_is_exact_in_its_old_part_and_named_in_its_new(world):
    room = world.call("mmap", 4 * _BYTES, prot=libc.PROT_NONE)
    world.call("munmap", room + _BYTES, 2 * _BYTES)
    start = world.call("mmap", _BYTES, at=room)
    with world.track(None) as tracker:
        tracker.collect()
        world.store(start, b"x")
        assert world.call("mremap", start, _BYTES, 2 * _BYTES, 0) == start
        epoch = tracker.collect()
        assert _inside(epoch, start) == [0]
        assert _named(epoch, BlindReason.MAPPED_LATE, start + _BYTES, _BYTES)
        assert spots_of(tracker.collect(), BlindReason.MAPPED_LATE) == []
        world.store(start + _BYTES + PAGE_SIZE, b"x")
        assert _inside(tracker.collect(), start + _BYTES) == [1]


def test_a_mapping_that_becomes_writable_is_taken_up(world):
    fd_backed = world.call("mmap", _BYTES, prot=libc.PROT_NONE)
    with world.track(None) as tracker:
        tracker.collect()
        world.call("mprotect", fd_backed, _BYTES, libc.PROT_READ | libc.PROT_WRITE)
        epoch = tracker.collect()
        assert _named(epoch, BlindReason.MAPPED_LATE, fd_backed, _BYTES)
        world.store(fd_backed + PAGE_SIZE, b"x")
        assert _inside(tracker.collect(), fd_backed) == [1]


def test_armed_memory_that_loses_its_write_permission_stays_armed(world):
    start = world.map(_PAGES)
    with world.track(None) as tracker:
        tracker.collect()
        world.store(start + PAGE_SIZE, b"x")
        world.call("mprotect", start, _BYTES, libc.PROT_READ)
        assert _inside(tracker.collect(), start) == [1]
        world.call("mprotect", start, _BYTES, libc.PROT_READ | libc.PROT_WRITE)
        world.store(start + 2 * PAGE_SIZE, b"x")
        epoch = tracker.collect()
        assert _inside(epoch, start) == [2]
        assert not _named(epoch, BlindReason.MAPPED_LATE, start, _BYTES)


def test_code_that_is_patched_between_two_collects_is_a_blind_spot(world):
    """Made writable, changed and closed again: what was not armed cannot tell."""
    text = world.call("mmap", _BYTES, prot=libc.PROT_READ, flags=libc.MAP_PRIVATE, fd=world.file(_BYTES))
    with world.track(None) as tracker:
        world.call("mprotect", text, _BYTES, libc.PROT_READ | libc.PROT_WRITE)
        world.store(text, b"patched")
        world.call("mprotect", text, _BYTES, libc.PROT_READ)
        assert _named(tracker.collect(), BlindReason.NOT_WRITABLE, text, _BYTES)


def test_what_a_linker_relocates_and_closes_is_assumed(world):
    with world.track(None) as tracker:
        tracker.collect()
        fd = world.file(_BYTES)
        data = world.call("mmap", _BYTES, flags=libc.MAP_PRIVATE, fd=fd)
        world.store(data + 3 * PAGE_SIZE, b"relocated")
        world.call("mprotect", data, _BYTES, libc.PROT_READ)
        epoch = tracker.collect()
        assert _inside(epoch, data) == [3]
        assert _named(epoch, BlindReason.MAPPED_LATE, data, _BYTES)


def test_private_copies_of_a_late_file_mapping_are_assumed(world):
    with world.track(None) as tracker:
        tracker.collect()
        data = world.call("mmap", _BYTES, flags=libc.MAP_PRIVATE, fd=world.file(_BYTES))
        world.store(data + 3 * PAGE_SIZE, b"x")
        epoch = tracker.collect()
        assert _inside(epoch, data) == [3]
        assert (data + 3 * PAGE_SIZE, data + 4 * PAGE_SIZE) in [(r.start, r.end) for r in epoch.assumed]


def test_a_reservation_without_access_is_not_armed(world):
    huge = 64 << 30
    start = world.call("mmap", huge, prot=libc.PROT_NONE, flags=libc.MAP_PRIVATE | libc.MAP_ANONYMOUS)
    with world.track(None) as tracker:
        assert tracker.statistics().armed_bytes < huge
        assert _inside(tracker.collect(), start) == []


def test_a_mapping_too_sparse_to_arm_is_named_and_costs_the_target_nothing(world):
    """8 bytes of page table a page: a terabyte would cost the target two gigabytes."""
    flags = libc.MAP_PRIVATE | libc.MAP_ANONYMOUS | libc.MAP_NORESERVE
    start = world.call("mmap", 1 << 45, flags=flags)
    with world.track(None) as tracker:
        epoch = tracker.collect()
        assert _named(epoch, BlindReason.TOO_SPARSE, start, 1 << 45)
        status = parse_fields(Path(f"/proc/{world.popen.pid}/status").read_text())
        tables = int(status["VmPTE"].split()[0])
        assert tables < 100_000


def _program(code: str) -> subprocess.Popen[str]:
    popen = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert popen.stdout
    popen.stdout.readline()
    return popen


def test_a_program_that_execs_is_gone_not_silent():
    with _program("import os; print('up', flush=True); input(); os.execvp('sleep', ['sleep', '60'])") as popen:
        try:
            with pagewatch.Process(popen.pid) as process, process.attach(), pagewatch.track(process) as tracker:
                tracker.collect()
                print("go", file=popen.stdin, flush=True)
                with pytest.raises(pagewatch.TargetGone, match="exec"):
                    _collect_for_ten_seconds(tracker)
            assert popen.poll() is None, "the new program runs on"
        finally:
            popen.kill()


def test_a_program_that_dies_is_gone_and_closing_is_no_error():
    with (
        _program("print('up', flush=True); input()") as popen,
        pagewatch.Process(popen.pid) as process,
        process.attach(),
        pagewatch.track(process) as tracker,
    ):
        popen.send_signal(signal.SIGKILL)
        with pytest.raises(pagewatch.TargetGone):
            _collect_for_ten_seconds(tracker)


def _collect_for_ten_seconds(tracker: pagewatch.Tracker) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        tracker.collect()


def test_writes_of_all_threads_are_seen():
    code = """
import ctypes, mmap, threading
area = mmap.mmap(-1, 64 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
def write(page):
    area[page * mmap.PAGESIZE] = 1
print(start, flush=True)
input()
threads = [threading.Thread(target=write, args=(page,)) for page in range(0, 64, 7)]
for t in threads: t.start()
for t in threads: t.join()
print('done', flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as popen:
        assert popen.stdin
        assert popen.stdout
        start = int(popen.stdout.readline())
        with pagewatch.Process(popen.pid) as process, process.attach(), pagewatch.track(process) as tracker:
            print("go", file=popen.stdin, flush=True)
            popen.stdout.readline()
            pages = [page for page in written_pages(tracker.collect(), start, PAGE_SIZE) if 0 <= page < 64]
            assert pages == list(range(0, 64, 7))
        popen.stdin.close()
        assert popen.wait(20) == 1, "input() at the end of the file"


_EXIT_THREAD = {"x86_64": 60, "aarch64": 93}


def test_a_process_whose_first_thread_has_exited_is_tracked():
    """Its /proc/PID files have no memory any more; those of its other threads have."""
    code = f"""
import ctypes, mmap, sys, threading
area = mmap.mmap(-1, 64 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
def write():
    sys.stdin.readline()
    area[5 * mmap.PAGESIZE] = 1
    print('done', flush=True)
    sys.stdin.readline()
threading.Thread(target=write).start()
print(ctypes.addressof(ctypes.c_char.from_buffer(area)), flush=True)
ctypes.CDLL(None).syscall({_EXIT_THREAD[os.uname().machine]}, 0)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as popen:
        assert popen.stdin
        assert popen.stdout
        start = int(popen.stdout.readline())
        stat = Path(f"/proc/{popen.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        try:
            with pagewatch.Process(popen.pid) as process, process.attach(), pagewatch.track(process) as tracker:
                print("go", file=popen.stdin, flush=True)
                popen.stdout.readline()
                assert _inside(tracker.collect(), start) == [5]
        finally:
            popen.kill()


def test_one_attachment_serves_one_tracker_at_a_time(world):
    start = world.map(_PAGES)
    with world.track(None), pytest.raises(pagewatch.InvalidArgument, match="has a tracker already"):
        world.track([(start, start + _BYTES)])
    with world.track([(start, start + _BYTES)]) as tracker:
        world.store(start, b"x")
        assert _inside(tracker.collect(), start) == [0]


def test_detaching_first_ends_a_tracker_in_words_and_closing_it_is_no_error():
    with _program("print('up', flush=True); input()") as popen:
        with pagewatch.Process(popen.pid) as process:
            with process.attach():
                tracker = pagewatch.track(process)
                tracker.arm()
            with pytest.raises(pagewatch.TrackerClosed, match="the process was detached"):
                tracker.collect()
            tracker.close()
            with process.attach(), pagewatch.track(process) as another:
                another.collect()
        popen.kill()


def test_memory_unmapped_in_ranges_of_another_process_is_named(world):
    start = world.map(_PAGES)
    with world.track([(start, start + _BYTES)]) as tracker:
        world.store(start + 3 * PAGE_SIZE, b"x")
        world.unmap(start + 2 * PAGE_SIZE, 2)
        epoch = tracker.collect()
        assert _named(epoch, BlindReason.UNMAPPED, start + 2 * PAGE_SIZE, 2 * PAGE_SIZE)


def test_attaching_to_the_program_that_came_after_by_exec_is_refused():
    with _program("import os; print('up', flush=True); input(); os.execvp('sleep', ['sleep', '60'])") as popen:
        try:
            with pagewatch.Process(popen.pid) as process:
                print("go", file=popen.stdin, flush=True)
                deadline = time.monotonic() + 10
                while Path(f"/proc/{popen.pid}/comm").read_text() != "sleep\n" and time.monotonic() < deadline:
                    time.sleep(0.01)
                with pytest.raises(pagewatch.TargetGone):
                    process.attach()
        finally:
            popen.kill()


_TOGGLING = """
import ctypes, mmap
libc = ctypes.CDLL(None)
size = 2400 * mmap.PAGESIZE
area = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
start = ctypes.addressof(ctypes.c_char.from_buffer(area))
def protect(page, bits):
    libc.mprotect(ctypes.c_void_p(start + page * mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE), bits)
for page in range(0, 2400, 2):
    protect(page, 1)
print('up', flush=True)
while True:
    for page in range(0, 2400, 2):
        protect(page, 3)
        protect(page, 1)
"""


def test_a_layout_that_changes_while_it_is_read_is_no_error():
    """The kernel gives /proc/PID/maps in pieces: a mapping that grew in between comes twice."""
    with _program(_TOGGLING) as popen:
        try:
            with pagewatch.Process(popen.pid) as process:
                for _ in range(300):
                    bounds = [(m.start, m.end) for m in process.maps()]
                    assert all(a[1] <= b[0] for a, b in pairwise(bounds))
        finally:
            popen.kill()


def test_attaching_twice_is_refused_in_words(world):
    with pytest.raises(pagewatch.InvalidArgument, match="attached already"):
        world.process.attach()


def test_a_program_that_is_tracked_from_elsewhere_is_refused_in_words(world):
    with world.track(None), pagewatch.Process(world.popen.pid) as second, second.attach():
        tracker = pagewatch.track(second)
        with pytest.raises(pagewatch.RangeNotTrackable, match="another userfaultfd"):
            tracker.arm()
        tracker.close()
    assert world.popen.poll() is None
