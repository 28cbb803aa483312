"""Which tracking mechanisms the running kernel has, shown by their effect on one page.

It shares nothing with the package under test, so that the package's own answers in the same guest can be held
to it: `python3 kernels/probe.py --offers NAME...` fails unless the kernel has exactly these.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import mmap
import os
import platform
import select
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path

_PAGE_BYTES = mmap.PAGESIZE
_SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282}
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_WRITEPROTECT = 0xC018AA3F, 0xC020AA00, 0xC018AA06
_UFFD_FEATURE_WP, _UFFD_FEATURE_WP_ASYNC = 1 << 0, 1 << 15
_PAGEMAP_SCAN, _PAGE_IS_WRITTEN = 0xC0606610, 2
_PAGEMAP_SOFT_DIRTY = 1 << 55


class Page:
    """One private anonymous page that has been written, protected by userfaultfd if asked to."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, _PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.map.madvise(mmap.MADV_NOHUGEPAGE)
        self.store()

    def store(self) -> None:
        """Write the page, through a call that lets other threads run."""
        ctypes.CDLL(None).memset(ctypes.c_void_p(self.address), 1, 1)

    def protect(self, features: int) -> int:
        """Write-protect it; returns the userfaultfd."""
        uffd = _userfaultfd()
        fcntl.ioctl(uffd, _UFFDIO_API, struct.pack("QQQ", 0xAA, features, 0))
        fcntl.ioctl(uffd, _UFFDIO_REGISTER, struct.pack("QQQQ", self.address, _PAGE_BYTES, 2, 0))
        self.writeprotect(uffd, 1)
        return uffd

    def writeprotect(self, uffd: int, mode: int) -> None:
        """Protect (mode 1) or release it and wake who waits for it (mode 0)."""
        fcntl.ioctl(uffd, _UFFDIO_WRITEPROTECT, struct.pack("QQQ", self.address, _PAGE_BYTES, mode))

    def soft_dirty(self) -> bool:
        """Whether the page's word in pagemap has the soft-dirty bit."""
        with Path("/proc/self/pagemap").open("rb") as pagemap:
            pagemap.seek(self.address // _PAGE_BYTES * 8)
            return bool(int.from_bytes(pagemap.read(8), "little") & _PAGEMAP_SOFT_DIRTY)

    def written(self) -> bool:
        """Whether PAGEMAP_SCAN reports it as written."""
        vector = ctypes.create_string_buffer(24)
        bits = _PAGE_IS_WRITTEN
        range_and_vector = (self.address, self.address + _PAGE_BYTES, 0, ctypes.addressof(vector), 1, 0)
        with Path("/proc/self/pagemap").open("rb") as pagemap:
            arg = struct.pack("12Q", 96, 0, *range_and_vector, 0, bits, 0, bits)
            n_regions: int = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, bytearray(arg))
            return n_regions == 1


def _userfaultfd() -> int:
    fd = ctypes.CDLL(None, use_errno=True).syscall(_SYS_USERFAULTFD[platform.machine()], os.O_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    return int(fd)


def userfaultfd_opens() -> bool:
    """The system call gives a descriptor."""
    os.close(_userfaultfd())
    return True


def sync_protection_tells_of_a_store() -> bool:
    """A store into a protected page waits, is announced, and goes on when released."""
    page = Page()
    uffd = page.protect(_UFFD_FEATURE_WP)
    writer = threading.Thread(target=page.store, daemon=True)
    writer.start()
    announced = bool(select.select([uffd], [], [], 20)[0]) and len(os.read(uffd, 32)) == 32
    page.writeprotect(uffd, 0)
    writer.join(20)
    os.close(uffd)
    return announced and not writer.is_alive()


def async_protection_records_a_store() -> bool:
    """A store into a protected page goes on at once, and the page reads as written from then on."""
    page = Page()
    uffd = page.protect(_UFFD_FEATURE_WP_ASYNC)
    before = page.written()
    page.store()
    after = page.written()
    os.close(uffd)
    return after and not before


def pagemap_scan_reports() -> bool:
    """The scan finds a page that was written and never protected."""
    return Page().written()


def soft_dirty_follows_stores() -> bool:
    """The bit goes with clear_refs and comes with a store, twice in a row."""
    page = Page()
    for _ in range(2):
        Path("/proc/self/clear_refs").write_text("4")
        before = page.soft_dirty()
        page.store()
        if before or not page.soft_dirty():
            return False
    return True


MECHANISMS: dict[str, Callable[[], bool]] = {
    "userfaultfd": userfaultfd_opens,
    "uffd-wp": sync_protection_tells_of_a_store,
    "uffd-wp-async": async_protection_records_a_store,
    "pagemap-scan": pagemap_scan_reports,
    "soft-dirty": soft_dirty_follows_stores,
}


def _probe(name: str) -> bool:
    try:
        has, why = MECHANISMS[name](), "no effect"
    except OSError as error:
        has, why = False, str(error)
    print(f"{name:14} {'yes' if has else f'no: {why}'}", flush=True)
    return has


def main() -> int:
    """Print what the kernel has; 1 if that is not what was expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--offers", nargs="*", choices=[*MECHANISMS], help="what this kernel must have, and no more")
    expected = parser.parse_args().offers
    print(f"{os.uname().release} {os.uname().machine}", flush=True)
    found = {name for name in MECHANISMS if _probe(name)}
    return int(expected is not None and found != set(expected))


if __name__ == "__main__":
    sys.exit(main())
