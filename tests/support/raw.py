"""The kernel's own words, asked for without the library: packed by hand, numbers as literals.

An oracle for tests of the scanner must not share its structures, its limits or its mistakes.
"""

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
WPALLOWED, WRITTEN, FILE, PRESENT, SWAPPED, PFNZERO, HUGE, SOFT_DIRTY, GUARD = (1 << bit for bit in range(9))

_PAGEMAP_SCAN = 0xC0606610
_UFFDIO_API = 0xC018AA3F
_UFFDIO_REGISTER = 0xC020AA00
_UFFDIO_WRITEPROTECT = 0xC018AA06
_USERFAULTFD_CALL = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
_PIDFD_GETFD_CALL = 438
_WP_ASYNC, _WP_UNPOPULATED, _WP_HUGETLBFS_SHMEM, _PAGEFAULT_FLAG_WP = 1 << 15, 1 << 13, 1 << 12, 1

_UFFD_WP_BIT = 1 << 57


@dataclass(frozen=True)
class Answer:
    """What one raw PAGEMAP_SCAN said."""

    regions: list[tuple[int, int, int]]
    walk_end: int


def scan(
    start: int,
    end: int,
    *,
    inverted: int = 0,
    mask: int = 0,
    anyof: int = 0,
    returned: int = 0,
    protect: bool = False,
    capacity: int = 1 << 16,
    max_pages: int = 0,
    pid: int | str = "self",
) -> Answer:
    """One call, nothing repaired."""
    vector = bytearray(24 * capacity)
    at = ctypes.addressof(ctypes.c_char.from_buffer(vector))
    argument = bytearray(
        struct.pack("12Q", 96, int(protect), start, end, 0, at, capacity, max_pages, inverted, mask, anyof, returned)
    )
    fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
    try:
        found = fcntl.ioctl(fd, _PAGEMAP_SCAN, argument)
    finally:
        os.close(fd)
    regions = [struct.unpack_from("3Q", vector, 24 * index) for index in range(found)]
    return Answer([(a, b, c) for a, b, c in regions], struct.unpack("12Q", argument)[4])


def categories(start: int, end: int) -> dict[int, int]:
    """The categories of every mapped page, asked page by page, so that no limit or merging is in play."""
    everything = 0x1FF if _knows_guards() else 0x7F
    found = {}
    for at in range(start, end, PAGE):
        answer = scan(at, at + PAGE, returned=everything, capacity=1)
        for _, _, bits in answer.regions:
            found[at] = bits
    return found


def _knows_guards() -> bool:
    try:
        scan(0, 0, mask=GUARD, capacity=1)
    except OSError:
        return False
    return True


def protected_pages(start: int, end: int, pid: int | str = "self") -> list[int]:
    """Pages whose word in /proc/PID/pagemap carries the write-protect bit (57), as indexes from ``start``."""
    fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
    try:
        words = os.pread(fd, (end - start) // PAGE * 8, start // PAGE * 8)
    finally:
        os.close(fd)
    return [index for index, (word,) in enumerate(struct.iter_unpack("Q", words)) if word & _UFFD_WP_BIT]


def vm_flags(address: int, pid: int | str = "self") -> set[str]:
    """The VmFlags of the mapping that holds an address."""
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_bytes().splitlines():
        bounds, _, _ = line.partition(b" ")
        if b"-" in bounds and not bounds.endswith(b":"):
            low, high = (int(bound, 16) for bound in bounds.split(b"-"))
            inside = low <= address < high
        elif inside and line.startswith(b"VmFlags:"):
            return set(line.decode().split()[1:])
    raise LookupError(f"{address:#x} is not mapped")


@contextmanager
def armed(*ranges: tuple[int, int]) -> Iterator[int]:
    """The ranges under asynchronous write-protection, every page protected; gives the descriptor."""
    with registered(*ranges) as fd:
        for start, end in ranges:
            protect(fd, start, end)
        yield fd


@contextmanager
def registered(*ranges: tuple[int, int]) -> Iterator[int]:
    """The ranges registered for asynchronous write-protection, nothing protected yet."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(_USERFAULTFD_CALL, os.O_CLOEXEC | os.O_NONBLOCK)
    assert fd >= 0, os.strerror(ctypes.get_errno())
    try:
        features = _WP_ASYNC | _WP_UNPOPULATED | _WP_HUGETLBFS_SHMEM | _PAGEFAULT_FLAG_WP
        fcntl.ioctl(fd, _UFFDIO_API, bytearray(struct.pack("3Q", 0xAA, features, 0)))
        for start, end in ranges:
            fcntl.ioctl(fd, _UFFDIO_REGISTER, bytearray(struct.pack("4Q", start, end - start, 2, 0)))
        yield fd
    finally:
        os.close(fd)


def protect(fd: int, start: int, end: int) -> None:
    """UFFDIO_WRITEPROTECT of a registered range."""
    fcntl.ioctl(fd, _UFFDIO_WRITEPROTECT, bytearray(struct.pack("3Q", start, end - start, 1)))


def take_descriptor(pid: int, number: int) -> int:
    """A copy of a descriptor of another process (pidfd_getfd)."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        taken = libc.syscall(_PIDFD_GETFD_CALL, pidfd, number, 0)
        assert taken >= 0, os.strerror(ctypes.get_errno())
        return int(taken)
    finally:
        os.close(pidfd)
