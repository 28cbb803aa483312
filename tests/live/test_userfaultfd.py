"""Write-protection handles on the running kernel: what they leave behind, what they refuse, and in which words."""

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from pagewatch.linux.userfaultfd import UserfaultFd, Way, open_by_first_way, open_userfaultfd
from pagewatch.vocab.buffers import buffer_span
from pagewatch.vocab.errors import FeatureMissing, RangeNotArmed, RangeNotTrackable, TargetGone, TrackerClosed
from support import libc, raw
from support.area import MAP_HUGETLB, area
from support.forked import NOBODY, forked_child, in_forked_child
from support.hugepages import hugetlb_pages
from support.needs import requires

pytestmark = requires("uffd_wp_async", "pagemap_scan")

P = raw.PAGE
GIB = 1 << 30


@pytest.fixture
def uffd():
    with UserfaultFd(open_userfaultfd(), os.getpid()) as handle:
        yield handle


def open_userfaultfds():
    links = Path("/proc/self/fd").iterdir()
    return sum(os.path.lexists(link) and str(link.readlink()) == "anon_inode:[userfaultfd]" for link in links)


# --- arming


def test_registering_protects_nothing_yet(uffd):
    with area(8) as memory:
        memory.store(range(8))
        uffd.register(memory.start, memory.end)
        assert "uw" in raw.vm_flags(memory.start)
        assert raw.protected_pages(memory.start, memory.end) == []


def test_protecting_protects_populated_and_empty_pages(uffd):
    with area(8) as memory:
        memory.store([1, 2])
        uffd.register(memory.start, memory.end)
        uffd.protect(memory.start, memory.end)
        assert raw.protected_pages(memory.start, memory.end) == list(range(8))


def test_a_store_lifts_protection_of_its_page_only(uffd):
    with area(8) as memory:
        uffd.register(memory.start, memory.end)
        uffd.protect(memory.start, memory.end)
        memory.store([5])
        assert raw.protected_pages(memory.start, memory.end) == [0, 1, 2, 3, 4, 6, 7]
        assert memory.load([5]) == [1]


def test_protecting_keeps_the_bytes(uffd):
    with area(4) as memory:
        memory.store(range(4), value=9)
        uffd.register(memory.start, memory.end)
        uffd.protect(memory.start, memory.end)
        assert memory.load(range(4)) == [9] * 4


def test_long_ranges_are_protected_to_the_last_page(uffd):
    """More than one piece of 256 MiB, and a rest."""
    n_pages = (513 << 20) // P
    with area(n_pages, flags=libc.MAP_NORESERVE) as memory:
        uffd.register(memory.start, memory.end)
        uffd.protect(memory.start, memory.end)
        for first in (0, (256 << 20) // P - 2, (512 << 20) // P - 2, n_pages - 4):
            assert raw.protected_pages(memory.at(first), memory.at(first + 4)) == [0, 1, 2, 3]


def test_hugetlb_pages_of_a_gigabyte_are_protected(uffd):
    """Pieces of a range must not end inside such a page."""
    with (
        hugetlb_pages(1, size=GIB),
        area(GIB // P, flags=MAP_HUGETLB | GIB.bit_length() - 1 << 26, align=GIB) as memory,
    ):
        uffd.register(memory.start, memory.end)
        uffd.protect(memory.start, memory.end)
        assert raw.protected_pages(memory.start, memory.at(2)) == [0, 1]


# --- leaving


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("leave", ["unregister", "close"])
def test_leaving_lifts_every_protection_and_the_registration(uffd, leave, shared):
    with area(16, shared=shared) as memory:
        memory.store(range(0, 16, 3))
        uffd.register(memory.start, memory.end)
        uffd.protect(memory.start, memory.end)
        memory.store([4])
        uffd.unregister(memory.start, memory.end) if leave == "unregister" else uffd.close()
        assert raw.protected_pages(memory.start, memory.end) == []
        assert "uw" not in raw.vm_flags(memory.start)
        memory.store(range(16), value=7)
        assert memory.load(range(16)) == [7] * 16


def test_unregistering_part_leaves_the_rest_armed(uffd):
    with area(8) as memory:
        uffd.register(memory.start, memory.end)
        uffd.protect(memory.start, memory.end)
        uffd.unregister(memory.at(2), memory.at(5))
        assert raw.protected_pages(memory.start, memory.end) == [0, 1, 5, 6, 7]


def test_unregistering_what_is_gone_or_never_was_ours_is_no_error(uffd):
    with area(8) as memory:
        uffd.register(memory.start, memory.end)
        libc.munmap(memory.at(2), 4 * P)
        uffd.unregister(memory.start, memory.end)
        assert "uw" not in raw.vm_flags(memory.start)
        uffd.unregister(memory.start, memory.end)
        uffd.unregister(memory.at(2), memory.at(6))


def test_closing_twice_is_no_error_and_other_calls_say_that_it_is_closed():
    handle = UserfaultFd(open_userfaultfd(), os.getpid())
    handle.close()
    handle.close()
    for call in (handle.register, handle.protect, handle.unregister):
        with pytest.raises(TrackerClosed, match="closed"):
            call(0x10000, 0x20000)
    with pytest.raises(TrackerClosed):
        handle.fileno()


# --- refusals


def test_memory_of_another_handle_is_refused(uffd):
    with area(8) as memory, UserfaultFd(open_userfaultfd(), os.getpid()) as other:
        other.register(memory.start, memory.end)
        with pytest.raises(RangeNotTrackable, match="another userfaultfd") as caught:
            uffd.register(memory.start, memory.end)
        assert (caught.value.start, caught.value.end) == (memory.start, memory.end)


def test_unmapped_memory_is_refused(uffd):
    with area(8) as memory:
        libc.munmap(memory.start, 8 * P)
        with pytest.raises(RangeNotTrackable, match="nothing is mapped"):
            uffd.register(memory.start, memory.end)


def test_a_shared_file_mapped_read_only_is_refused(uffd, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(P))
    with path.open("rb") as file, mmap.mmap(file.fileno(), P, prot=mmap.PROT_READ) as mapped:
        start, _ = buffer_span(mapped)
        with pytest.raises(RangeNotTrackable, match="mapped read-only"):
            uffd.register(start, start + P)


def test_protecting_what_is_not_registered_is_refused(uffd):
    with area(8) as memory:
        uffd.register(memory.at(0), memory.at(4))
        with pytest.raises(RangeNotArmed) as caught:
            uffd.protect(memory.at(0), memory.end)
        assert caught.value.regions.nbytes
        with pytest.raises(RangeNotArmed):
            uffd.protect(memory.at(4), memory.end)


# --- targets that are gone


def test_a_handle_on_a_dead_process_says_so():
    """As attaching takes it over from a process, which then ends."""
    with forked_child(open_userfaultfd) as (child, number):
        taken = raw.take_descriptor(child, number)
    with UserfaultFd(taken, child) as handle:
        for call in (handle.register, handle.protect):
            with pytest.raises(TargetGone) as caught:
                call(0x10000, 0x20000)
            assert caught.value.pid == child
        handle.unregister(0x10000, 0x20000)


def test_a_handle_of_another_process_arms_that_process():
    with area(4, shared=True) as memory, forked_child(open_userfaultfd) as (child, number):
        with UserfaultFd(raw.take_descriptor(child, number), child) as handle:
            handle.register(memory.start, memory.end)
            handle.protect(memory.start, memory.end)
            assert raw.protected_pages(memory.start, memory.end, pid=child) == [0, 1, 2, 3]
            assert raw.protected_pages(memory.start, memory.end) == []
            handle.unregister(memory.start, memory.end)
        assert raw.protected_pages(memory.start, memory.end, pid=child) == []


def test_a_refused_handshake_closes_the_descriptor():
    before = open_userfaultfds()
    fd = open_userfaultfd()
    first = UserfaultFd(fd, os.getpid())
    with pytest.raises(FeatureMissing, match="asynchronous write-protection"):
        UserfaultFd(os.dup(fd), os.getpid())  # a second handshake is refused by the kernel
    assert open_userfaultfds() == before + 1
    first.close()
    assert open_userfaultfds() == before


# --- ways to a handle


@pytest.mark.parametrize("way", Way)
def test_every_open_way_gives_a_handle_that_tracks_stores_and_kernel_writes(way):
    try:
        fd = way.open()
    except OSError as error:
        pytest.skip(f"{way.value} is closed to this user: {error}")
    with UserfaultFd(fd, os.getpid()) as handle, area(8) as memory, Path("/dev/zero").open("rb", buffering=0) as zeroes:
        handle.register(memory.start, memory.end)
        handle.protect(memory.start, memory.end)
        memory.store([2])
        zeroes.readinto((ctypes.c_char * 10).from_address(memory.at(6)))
        assert memory.pages(raw.scan(memory.start, memory.end, mask=raw.WRITTEN).regions) == [2, 6]


def test_handles_are_not_inherited_and_do_not_block():
    fd = open_userfaultfd()
    try:
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)
    finally:
        os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_an_unprivileged_user_gets_a_handle_for_user_mode():
    sysctl = Path("/proc/sys/vm/unprivileged_userfaultfd")
    if sysctl.read_text().strip() == "1" or Path("/dev/userfaultfd").stat().st_mode & 0o6:
        pytest.skip("this machine opens better ways to everyone")
    way = in_forked_child(lambda: open_by_first_way()[0].name, user=NOBODY)
    assert way == Way.USER_MODE_ONLY.name
