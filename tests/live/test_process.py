"""``Process``: scanning and reading, of this process and of others, and what becomes of it when they go."""

import ctypes
import os
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from pagewatch import Category, InvalidArgument, NotPermitted, Process, Query, RangeNotArmed, TargetGone, TrackerClosed
from support import libc, raw
from support.area import area
from support.forked import NOBODY, forked_child, in_forked_child
from support.needs import requires

P = raw.PAGE
PRESENT = Query.where("present")
WRITTEN = Query.where("written")


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


# --- this process


def test_this_process_is_the_default():
    with Process() as process:
        assert (process.pid, process.is_self) == (os.getpid(), True)
    with Process(os.getpid()) as process:
        assert process.is_self


@requires("pagemap_scan")
def test_a_pid_may_be_of_any_integer_type():
    with Process(np.int64(os.getpid())) as process:
        assert type(process.pid) is int
        assert process.is_self


def test_own_memory_is_scanned():
    with area(16) as memory, Process() as process:
        memory.store([1, 2, 9])
        scan = process.scan(memory.start, memory.end, PRESENT)
        assert memory.pages(scan.regions) == [1, 2, 9]
        assert all(region.categories == Category.PRESENT for region in scan.regions)


def test_own_memory_is_read():
    value = ctypes.create_string_buffer(b"seventeen octets.")
    with Process() as process:
        assert process.read(ctypes.addressof(value), 17) == b"seventeen octets."
        assert process.read(ctypes.addressof(value), 0) == b""


@requires("uffd_wp_async", "pagemap_scan")
def test_reading_armed_memory_is_no_write():
    with area(4) as memory, raw.armed((memory.start, memory.end)), Process() as process:
        assert process.read(memory.start, 4 * P) == bytes(4 * P)
        assert len(process.scan(memory.start, memory.end, WRITTEN).regions) == 0


@requires("uffd_wp_async", "pagemap_scan")
def test_protecting_scan_re_arms():
    with area(4) as memory, raw.armed((memory.start, memory.end)), Process() as process:
        memory.store([2])
        scan = process.scan(memory.start, memory.end, WRITTEN, protect=True, require_armed=True)
        assert memory.pages(scan.regions) == [2]
        assert raw.protected_pages(memory.start, memory.end) == [0, 1, 2, 3]


@requires("pagemap_scan")
def test_memory_that_is_not_armed_is_named():
    with area(4) as memory, Process() as process, pytest.raises(RangeNotArmed) as caught:
        process.scan(memory.start, memory.end, WRITTEN, require_armed=True)
    assert memory.pages(caught.value.regions) == [0, 1, 2, 3]


def test_flags_are_those_of_smaps():
    with area(4) as memory, Process() as process:
        (found,) = [m for m in process.maps_with_flags() if m.start == memory.start]
        assert found.flags == raw.vm_flags(memory.start)


@requires("pagemap_scan")
def test_threads_may_share_one_process():
    with area(256) as memory, Process() as process:
        memory.store(range(0, 256, 2))
        wrong = []

        def scan():
            for _ in range(200):
                if memory.pages(process.scan(memory.start, memory.end, PRESENT).regions) != list(range(0, 256, 2)):
                    wrong.append(1)

        threads = [threading.Thread(target=scan) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


# --- bad arguments


@pytest.mark.parametrize("pid", [0, -1, True, 1.5, "1", np.array([1, 2])], ids=repr)
def test_what_is_no_pid_is_refused(pid):
    with pytest.raises(InvalidArgument, match="positive number"):
        Process(pid)


@pytest.mark.parametrize(("start", "n_bytes"), [(-1, 4), (0, -1)])
def test_negative_ranges_are_not_read(start, n_bytes):
    with Process() as process, pytest.raises(InvalidArgument, match="negative"):
        process.read(start, n_bytes)


def test_unmapped_memory_is_not_read():
    with area(4) as memory, Process() as process:
        libc.munmap(memory.at(2), P)
        memory.store([0, 1])
        assert process.read(memory.start, 2 * P)[8] == 1
        with pytest.raises(InvalidArgument, match=f"{memory.at(2):#x} is not readable; {2 * P} of {3 * P} bytes"):
            process.read(memory.start, 3 * P)


@pytest.mark.parametrize("start", [0, 1 << 63, (1 << 64) - P, 1 << 70])
def test_addresses_outside_of_user_space_are_not_read(start):
    with Process() as process, pytest.raises(InvalidArgument, match="not readable"):
        process.read(start, 8)


def test_a_closed_process_says_so():
    process = Process()
    process.close()
    process.close()
    with pytest.raises(TrackerClosed):
        process.maps()
    with pytest.raises(TrackerClosed):
        process.scan(0, P, PRESENT)


def test_protection_needs_attaching():
    with Process() as process, pytest.raises(NotPermitted, match="not attached"):
        process.lend_protection()


# --- other processes


def test_another_process_is_scanned_and_read():
    with area(4) as memory:
        memory.store([1], value=77)
        with forked_child(lambda: memory.store([3], value=88)) as (child, _), Process(child) as process:
            assert not process.is_self
            assert process.read(memory.at(3) + 8, 1) == b"\x58"
            assert memory.pages(process.scan(memory.start, memory.end, PRESENT).regions) == [1, 3]
            assert [m.start for m in process.maps() if m.start == memory.start] == [memory.start]


def test_every_call_on_a_dead_process_says_that_it_is_gone():
    with area(1) as memory:
        memory.store([0])
        with forked_child(lambda: None) as (child, _):
            process = Process(child)
            assert len(process.scan(memory.start, memory.end, PRESENT).regions) == 1
        with process:
            calls = (
                process.maps,
                process.maps_with_flags,
                lambda: process.scan(memory.start, memory.end, PRESENT),
                lambda: process.read(memory.start, 1),
            )
            for call in calls:
                with pytest.raises(TargetGone) as caught:
                    call()
                assert caught.value.pid == child


def test_every_call_after_an_exec_says_that_it_is_gone(other_program):
    child, go_on = other_program
    with Process(child) as process:
        first = process.maps()[0]
        go_on()
        # The new program may well have memory at the same place.
        code = next(m for m in map_lines(child) if "r" in m[2])
        calls = (
            process.maps,
            process.maps_with_flags,
            lambda: process.scan(first.start, first.end, PRESENT),
            lambda: process.scan(0, (1 << 47) - P, Query()),
            lambda: process.read(code[0], 1),
        )
        for call in calls:
            with pytest.raises(TargetGone, match="exec"):
                call()


def map_lines(pid):
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        bounds, permissions = line.split()[:2]
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        yield start, end, permissions


def test_a_process_that_does_not_exist_is_gone():
    child = subprocess.Popen(["true"])
    child.wait()
    with pytest.raises(TargetGone, match="does not exist"):
        Process(child.pid)


def test_a_zombie_leaves_no_descriptor_open():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    before = open_descriptors()
    try:
        with pytest.raises(TargetGone):
            Process(child.pid)
        assert open_descriptors() == before
    finally:
        child.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_users_process_is_not_permitted():
    target = os.getpid()

    def look():
        before = open_descriptors()
        try:
            Process(target)
        except NotPermitted as error:
            return error.hint, open_descriptors() - before
        return None

    hint, leaked = in_forked_child(look, user=NOBODY)
    assert "SYS_PTRACE" in hint
    assert leaked == 0


def test_a_process_prints_its_pid():
    with Process() as process:
        assert repr(process) == f"<Process {os.getpid()}>"
