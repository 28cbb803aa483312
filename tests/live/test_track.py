"""track(): what it accepts, what it refuses, and how much of a target counts."""

import array
import ctypes
import gc
import mmap
import os
import subprocess
import sys
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest

import pagewatch
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.buffers import buffer_span
from support.needs import requires

pytestmark = requires("uffd_wp_async", "pagemap_scan")

# Large enough that the allocator gives it pages of its own, but for the edges.
_BYTES = 256 * PAGE_SIZE


def _touched(target: object, offset: int) -> list[slice]:
    """What an epoch says after one byte of a target was written through its address."""
    start, _ = buffer_span(target)
    with pagewatch.track(target) as tracker:
        ctypes.memset(start + offset, 1, 1)
        return tracker.collect().regions.within(target)


def _page_of(target: object, offset: int) -> slice:
    """The page of a byte, as a slice of the target."""
    start, n_bytes = buffer_span(target)
    low = (start + offset) // PAGE_SIZE * PAGE_SIZE - start
    return slice(max(low, 0), min(low + PAGE_SIZE, n_bytes))


def _edges(target: object) -> list[slice]:
    """The pages that the target may share with its neighbours on the heap."""
    return [_page_of(target, 0), _page_of(target, buffer_span(target)[1] - 1)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.zeros(_BYTES, np.uint8),
        lambda: np.zeros((64, _BYTES // 512), np.float64, order="F"),
        lambda: np.zeros(_BYTES // 8, "M8[ns]"),
        lambda: bytearray(_BYTES),
        lambda: array.array("d", bytes(_BYTES)),
        ctypes.c_char * _BYTES,
        lambda: memoryview(bytearray(_BYTES))[100:-100],
        lambda: np.zeros(2 * _BYTES, np.uint8)[777:-333],
    ],
    ids=["numpy", "fortran", "datetime", "bytearray", "array", "ctypes", "memoryview slice", "unaligned slice"],
)
@pytest.mark.parametrize("offset", [0, 1, 3 * PAGE_SIZE, _BYTES - 600])
def test_buffers_of_all_kinds_are_tracked_to_the_page(make, offset):
    target = make()
    touched = _touched(target, offset)
    assert _page_of(target, offset) in touched
    assert [page for page in touched if page not in _edges(target)] in ([], [_page_of(target, offset)])


def test_an_anonymous_mmap_is_tracked():
    with mmap.mmap(-1, _BYTES) as target:
        assert _touched(target, PAGE_SIZE + 5) == [slice(PAGE_SIZE, 2 * PAGE_SIZE)]


def test_multiprocessing_shared_memory_is_tracked():
    segment = shared_memory.SharedMemory(create=True, size=_BYTES)
    try:
        assert _touched(segment.buf, PAGE_SIZE) == [slice(PAGE_SIZE, 2 * PAGE_SIZE)]
    finally:
        segment.close()
        segment.unlink()


class _CpuTensor:
    """What a CPU tensor of another library offers: DLPack and no buffer."""

    def __init__(self, n_bytes: int) -> None:
        self.array = np.zeros(n_bytes, np.uint8)

    def __dlpack__(self, **options: object) -> object:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


def test_a_cpu_tensor_is_tracked_without_a_copy():
    tensor = _CpuTensor(_BYTES)
    with pagewatch.track(tensor) as tracker:
        tensor.array[PAGE_SIZE * 2] = 1
        assert _page_of(tensor.array, PAGE_SIZE * 2) in tracker.collect().regions.within(tensor.array)


def test_a_tracked_bytearray_cannot_be_resized_and_can_after_closing():
    target = bytearray(_BYTES)
    with pagewatch.track(target), pytest.raises(BufferError):
        target.extend(b"more")
    target.extend(b"more")
    assert len(target) == _BYTES + 4


def test_a_pair_of_addresses_is_rounded_outward_to_pages():
    target = np.zeros(_BYTES, np.uint8)
    start = target.ctypes.data + 100
    with pagewatch.track((start, start + 1)) as tracker:
        ctypes.memset(start, 1, 1)
        assert [r.start % PAGE_SIZE for r in tracker.collect().regions] == [0]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ([1, 2, 3], "list has no buffer"),
        ("text", "str has no buffer"),
        (bytearray(0), "empty"),
        (np.zeros((64, 64))[:, ::2], "not contiguous"),
        ((4096, 4096), "empty"),
        ((8192, 4096), "empty"),
        ((-4096, 4096), "user space"),
        ((1.5, 2.5), "pair"),
        ((1, 2, 3), "pair"),
        ((4096, 1 << 64), "user space"),
    ],
)
def test_what_is_no_target_is_refused_in_words(target, says):
    with pytest.raises(pagewatch.InvalidArgument, match=says):
        pagewatch.track(target)


def test_a_range_without_memory_is_refused_in_words():
    nowhere = (1 << 46, (1 << 46) + PAGE_SIZE)
    with pytest.raises(pagewatch.RangeNotTrackable, match="nothing is mapped"), pagewatch.track(nowhere):
        pass


def test_an_unknown_method_names_the_known_ones():
    with pytest.raises(pagewatch.InvalidArgument, match="uffd-async"):
        pagewatch.track(bytearray(10), method="magic")


def test_ranges_do_not_go_with_a_buffer():
    with pytest.raises(pagewatch.InvalidArgument, match="slice"):
        pagewatch.track(bytearray(10), ranges=[(0, 1)])


def test_another_process_must_be_attached_first():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with pagewatch.Process(child.pid) as process, pytest.raises(pagewatch.NotPermitted, match="attach"):
            pagewatch.track(process)
    finally:
        child.communicate(b"\n", timeout=20)


def test_a_tracker_that_was_never_armed_says_so():
    tracker = pagewatch.track(bytearray(_BYTES))
    with pytest.raises(pagewatch.TrackerClosed, match="with"):
        tracker.collect()
    tracker.close()


@pytest.mark.parametrize("ranges", [5, [5], [("a", "b"), (1, 2)], [(1, 2, 3)], [None], []])
def test_odd_ranges_are_refused_in_words(ranges):
    with pagewatch.Process() as process, pytest.raises(pagewatch.InvalidArgument, match="range"):
        pagewatch.track(process, ranges=ranges)


def test_ranges_may_be_numpy_integers():
    target = np.zeros(_BYTES, np.uint8)
    start = np.uint64(target.ctypes.data)
    with pagewatch.Process() as process, pagewatch.track(process, ranges=[(start, start + 1)]) as tracker:
        assert tracker.statistics().armed_bytes == PAGE_SIZE


def _watched_areas(target: object) -> int:
    """How many mappings of a target the kernel says a userfaultfd protects."""
    start, n_bytes = buffer_span(target)
    watched, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        word, *rest = line.split()
        if "-" in word and not word.endswith(":"):
            low, high = (int(bound, 16) for bound in word.split("-"))
            inside = low < start + n_bytes and start < high
        elif word == "VmFlags:":
            watched += inside and "uw" in rest
    return watched


def _arm_and_drop(target: np.ndarray) -> None:
    tracker = pagewatch.track(target)
    tracker.arm()
    assert _watched_areas(target) > 0
    del tracker
    gc.collect()


def test_a_dropped_tracker_warns_and_gives_its_memory_back():
    target = np.zeros(_BYTES, np.uint8)
    with pytest.warns(ResourceWarning, match="without being closed"):
        _arm_and_drop(target)
    assert _watched_areas(target) == 0
    assert _page_of(target, 3 * PAGE_SIZE) in _touched(target, 3 * PAGE_SIZE)


def test_a_shared_memory_object_is_taken_by_its_buffer():
    segment = shared_memory.SharedMemory(create=True, size=_BYTES)
    try:
        with pagewatch.track(segment) as tracker:
            segment.buf[PAGE_SIZE] = 1
            assert tracker.collect().regions.within(segment.buf) == [slice(PAGE_SIZE, 2 * PAGE_SIZE)]
    finally:
        segment.close()
        segment.unlink()


def test_regions_are_found_within_a_shared_memory_object():
    segment = shared_memory.SharedMemory(create=True, size=_BYTES)
    try:
        assert _touched(segment, PAGE_SIZE) == [slice(PAGE_SIZE, 2 * PAGE_SIZE)]
    finally:
        segment.close()
        segment.unlink()


class _Packet(ctypes.Structure):
    _fields_ = [("payload", ctypes.c_char * _BYTES), ("buf", ctypes.c_char * 100)]


@pytest.mark.parametrize(
    "make",
    [_Packet, lambda: np.zeros(_BYTES // 16, [("buf", "<i8"), ("payload", "<i8")]).view(np.recarray)],
    ids=["ctypes structure", "record array"],
)
def test_a_target_with_a_field_named_buf_is_tracked_as_a_whole(make):
    target = make()
    assert _page_of(target, 3 * PAGE_SIZE) in _touched(target, 3 * PAGE_SIZE)


def test_a_process_object_is_refused_in_a_forked_child():
    with pagewatch.Process() as process:
        child = os.fork()
        if child == 0:
            try:
                process.maps()
            except pagewatch.TrackerClosed:
                os._exit(42)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def test_overlapping_and_touching_ranges_are_tracked_once():
    target = np.zeros(_BYTES, np.uint8)
    start = -(-target.ctypes.data // PAGE_SIZE) * PAGE_SIZE
    pairs = [(start + 2 * PAGE_SIZE, start + 4 * PAGE_SIZE), (start, start + 3 * PAGE_SIZE)]
    with pagewatch.Process() as process, pagewatch.track(process, ranges=pairs) as tracker:
        assert tracker.statistics().armed_bytes == 4 * PAGE_SIZE
        ctypes.memset(start, 1, 5 * PAGE_SIZE)
        assert tracker.collect().regions.pages == 4


def test_this_whole_process_can_be_tracked():
    target = np.zeros(_BYTES, np.uint8)
    target[:] = 1
    with pagewatch.Process() as process, pagewatch.track(process) as tracker:
        tracker.collect()
        target[PAGE_SIZE * 3] = 1
        page = (target.ctypes.data + PAGE_SIZE * 3) // PAGE_SIZE * PAGE_SIZE
        assert tracker.collect().regions.clip(page, page + PAGE_SIZE).pages == 1


def test_nothing_per_collect_reads_proc_for_own_memory(monkeypatch):
    """The floor leaves about 50 us; a read of /proc/self/maps alone takes longer."""
    import builtins

    target = np.zeros(_BYTES, np.uint8)
    with pagewatch.track(target) as tracker:
        calls = []
        for module, name in ((os, "open"), (os, "pread"), (os, "read"), (builtins, "open")):
            monkeypatch.setattr(module, name, lambda *_, name=name, **__: calls.append(name))
        tracker.collect()
        monkeypatch.undo()
    assert calls == []
