"""The raw interfaces, with nothing of pagewatch in between: what the scripts beside this file stand on.

Linux 6.7 or newer, x86-64 or arm64; run them with any Python, unprivileged unless they say otherwise.
"""

import ctypes
import fcntl
import os
import struct
import sys

PAGE = os.sysconf("SC_PAGE_SIZE")
WRITTEN, FILE, PRESENT, SWAPPED, HUGE = 2, 4, 8, 16, 64
WP_MATCHING, CHECK_WPASYNC = 1, 2
PROT_RW, SHARED, PRIVATE, FIXED, ANONYMOUS, HUGETLB = 3, 1, 2, 0x10, 0x20, 0x40000
MADV_DONTNEED, MADV_REMOVE = 4, 9
_PAGEMAP_SCAN = 0xC0606610
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_WRITEPROTECT = 0xC018AA3F, 0xC020AA00, 0xC018AA06
_NR_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p


def _checked(result):
    if result in (-1, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def mmap(n_bytes, flags=PRIVATE | ANONYMOUS, fd=-1, at=None):
    """Map memory; its address."""
    return _checked(_libc.mmap(ctypes.c_void_p(at), ctypes.c_size_t(n_bytes), PROT_RW, flags, fd, ctypes.c_long(0)))


def madvise(start, n_bytes, advice):
    """Give advice."""
    _checked(_libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(n_bytes), advice))


def store(address):
    """Write one byte."""
    ctypes.memset(address, 1, 1)


def load(address, n_bytes=8):
    """Read."""
    return ctypes.string_at(address, n_bytes)


def userfaultfd():
    """A userfaultfd in asynchronous write-protect mode (features WP_ASYNC, WP_UNPOPULATED, WP_HUGETLBFS_SHMEM)."""
    fd = _checked(_libc.syscall(_NR_USERFAULTFD[os.uname().machine], os.O_CLOEXEC | 1))
    fcntl.ioctl(fd, _UFFDIO_API, struct.pack("QQQ", 0xAA, 1 << 15 | 1 << 13 | 1 << 12, 0))
    return fd


def register(fd, start, n_bytes):
    """UFFDIO_REGISTER for write-protection."""
    fcntl.ioctl(fd, _UFFDIO_REGISTER, struct.pack("QQQQ", start, n_bytes, 2, 0))


def protect(fd, start, n_bytes):
    """UFFDIO_WRITEPROTECT."""
    fcntl.ioctl(fd, _UFFDIO_WRITEPROTECT, struct.pack("QQQ", start, n_bytes, 1))


def armed(n_pages, flags=PRIVATE | ANONYMOUS, fd=-1):
    """Fresh memory, registered and protected; its address. The userfaultfd stays open to the end of the script."""
    start = mmap(n_pages * PAGE, flags, fd)
    uffd = userfaultfd()
    register(uffd, start, n_pages * PAGE)
    protect(uffd, start, n_pages * PAGE)
    return start


def scan(start, end, *, mask=0, returned=0, flags=0, capacity=4096, max_pages=0, pid="self"):
    """PAGEMAP_SCAN as it is: (regions, walk_end). Raises OSError, and then what it did is lost."""
    vector = (ctypes.c_uint64 * (3 * max(capacity, 1)))()
    at = ctypes.addressof(vector) if capacity else 0
    arg = bytearray(struct.pack("12Q", 96, flags, start, end, 0, at, capacity, max_pages, 0, mask, 0, returned))
    fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
    try:
        found = fcntl.ioctl(fd, _PAGEMAP_SCAN, arg)
    finally:
        os.close(fd)
    regions = [tuple(vector[3 * i : 3 * i + 3]) for i in range(found)]
    return regions, struct.unpack_from("Q", arg, 32)[0]


def pages(regions, start):
    """Page numbers, relative to ``start``, of (start, end, categories) rows."""
    return [page for a, b, _ in regions for page in range((a - start) // PAGE, (b - start) // PAGE)]


def fact(text, holds):
    """Print a fact with whether this kernel shows it; the script ends with 1 if it does not."""
    print(("yes  " if holds else "NO   ") + text)
    if not holds:
        sys.exit(1)


def bug(text, shows):
    """Print a kernel bug with whether this kernel has it; a kernel without it is no failure."""
    print(("yes  " if shows else "no   ") + text)
