"""userfaultfd (include/uapi/linux/userfaultfd.h)."""

import ctypes
from enum import IntFlag

from pagewatch.linux.abi.ioctl import IO, IOR, IOWR

u64 = ctypes.c_uint64

UFFD_API = 0xAA
UFFD_USER_MODE_ONLY = 1
"""Flag of userfaultfd(2): all an unprivileged user may ask for (since Linux 5.11)."""


class Feature(IntFlag):
    """``UFFD_FEATURE_*``: fixed for a handle's whole life by UFFDIO_API."""

    PAGEFAULT_FLAG_WP = 1 << 0
    EVENT_FORK = 1 << 1
    EVENT_REMAP = 1 << 2
    EVENT_REMOVE = 1 << 3
    MISSING_HUGETLBFS = 1 << 4
    MISSING_SHMEM = 1 << 5
    EVENT_UNMAP = 1 << 6
    SIGBUS = 1 << 7
    THREAD_ID = 1 << 8
    MINOR_HUGETLBFS = 1 << 9
    MINOR_SHMEM = 1 << 10
    EXACT_ADDRESS = 1 << 11
    WP_HUGETLBFS_SHMEM = 1 << 12
    WP_UNPOPULATED = 1 << 13
    POISON = 1 << 14
    WP_ASYNC = 1 << 15
    MOVE = 1 << 16


UFFDIO_REGISTER_MODE_WP = 1 << 1
UFFDIO_WRITEPROTECT_MODE_WP = 1 << 0


class uffdio_api(ctypes.Structure):
    """Handshake: features asked for go in, features of the kernel come out."""

    _fields_ = [("api", u64), ("features", u64), ("ioctls", u64)]


class uffdio_range(ctypes.Structure):
    """A byte range."""

    _fields_ = [("start", u64), ("len", u64)]


class uffdio_register(ctypes.Structure):
    """Registration of a range."""

    _fields_ = [("range", uffdio_range), ("mode", u64), ("ioctls", u64)]


class uffdio_writeprotect(ctypes.Structure):
    """Protection of a range, or its resolution."""

    _fields_ = [("range", uffdio_range), ("mode", u64)]


class uffd_msg(ctypes.Structure):
    """One event of 32 bytes, as read from the descriptor; these fields are those of a page fault."""

    _fields_ = [
        ("event", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 7),
        ("flags", u64),
        ("address", u64),
        ("ptid", u64),
    ]


UFFD_EVENT_PAGEFAULT = 0x12
UFFD_PAGEFAULT_FLAG_WP = 1 << 1

UFFDIO_API = IOWR("UFFDIO_API", UFFD_API, 0x3F, uffdio_api)
UFFDIO_REGISTER = IOWR("UFFDIO_REGISTER", UFFD_API, 0x00, uffdio_register)
UFFDIO_UNREGISTER = IOR("UFFDIO_UNREGISTER", UFFD_API, 0x01, uffdio_range)
UFFDIO_WRITEPROTECT = IOWR("UFFDIO_WRITEPROTECT", UFFD_API, 0x06, uffdio_writeprotect)

USERFAULTFD_IOC_NEW = IO("USERFAULTFD_IOC_NEW", 0xAA, 0x00)
"""On /dev/userfaultfd (since Linux 6.1); the argument is the flags of userfaultfd(2)."""
