"""What the scripts of this directory share: system calls, and a page's state in words. Standard library only."""

import ctypes
import os
import platform
import struct

PAGE = 4096
ASYNC, SIGBUS = 1 << 15, 1 << 7
MISSING, WP = 1, 2
SHARED, PRIVATE, FIXED, ANONYMOUS = 1, 2, 0x10, 0x20
_REGISTER, _UNREGISTER, _WRITEPROTECT, _API = 0xC020AA00, 0x8010AA01, 0xC018AA06, 0xC018AA3F
_SCAN = 0xC0606610
_NAMES = ("WPALLOWED", "WRITTEN", "FILE", "PRESENT", "SWAPPED", "PFNZERO", "HUGE", "SOFT_DIRTY", "GUARD")

libc = ctypes.CDLL(None, use_errno=True)
for _name in ("mmap", "mremap"):
    getattr(libc, _name).restype = ctypes.c_uint64


def checked(name: str, *arguments: int) -> int:
    """A call of the C library; raises OSError."""
    function = getattr(libc, name)
    result: int = function(*(ctypes.c_uint64(argument & (1 << 64) - 1) for argument in arguments))
    if result in (-1, (1 << 64) - 1):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def mapped(n_pages: int, flags: int = PRIVATE | ANONYMOUS, fd: int = -1, at: int = 0) -> int:
    """Fresh readable and writable memory."""
    return checked("mmap", at, n_pages * PAGE, 3, flags | (FIXED if at else 0), fd, 0)


class Watch:
    """A userfaultfd."""

    def __init__(self, features: int = ASYNC) -> None:
        number = {"x86_64": 323, "aarch64": 282}[platform.machine()]
        self.fd = checked("syscall", number, os.O_CLOEXEC | os.O_NONBLOCK)
        self._ioctl(_API, 0xAA, features, 0)

    def register(self, start: int, n_pages: int, mode: int = WP) -> None:
        """UFFDIO_REGISTER."""
        self._ioctl(_REGISTER, start, n_pages * PAGE, mode, 0)

    def protect(self, start: int, n_pages: int) -> None:
        """UFFDIO_WRITEPROTECT."""
        self._ioctl(_WRITEPROTECT, start, n_pages * PAGE, 1)

    def _ioctl(self, request: int, *words: int) -> None:
        row = (ctypes.c_uint64 * len(words))(*words)
        checked("ioctl", self.fd, request, ctypes.addressof(row))


def categories(start: int, n_pages: int = 1) -> list[str]:
    """What PAGEMAP_SCAN calls each page; unmapped pages are left out."""
    rows = (ctypes.c_uint64 * (3 * n_pages))()
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    arg = ctypes.create_string_buffer(
        struct.pack("12Q", 96, 0, start, start + n_pages * PAGE, 0, ctypes.addressof(rows), n_pages, 0, 0, 0, 0, 0x1FF)
    )
    count = checked("ioctl", fd, _SCAN, ctypes.addressof(arg))
    os.close(fd)
    found = []
    for first, last, bits in (rows[3 * i : 3 * i + 3] for i in range(count)):
        words = " ".join(name for bit, name in enumerate(_NAMES) if bits >> bit & 1) or "nothing"
        found += [words] * ((last - first) // PAGE)
    return found


def store(address: int) -> None:
    """Write a byte."""
    ctypes.memset(address, 1, 1)
