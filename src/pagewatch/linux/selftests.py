"""Self-tests for kernel bugs that lose writes: each shows the effect on scratch memory of this process."""

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.linux.thp import huge_page_size
from pagewatch.linux.userfaultfd import UserfaultFd, open_userfaultfd
from pagewatch.vocab.addresses import page_ceil
from pagewatch.vocab.blindspots import BlindReason
from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query

_WRITTEN = Query(mask=Category.WRITTEN, returned=Category.WRITTEN)


@cache
def known_losses() -> tuple[BlindReason, ...]:
    """What the running kernel loses for every armed range; takes some milliseconds once.

    :raises FeatureMissing: no asynchronous write-protection, or no PAGEMAP_SCAN.
    """
    return () if reports_dropped_huge_pages() else (BlindReason.ZAP_UNSEEN,)


def reports_dropped_huge_pages() -> bool:
    """Whether a whole huge page dropped by MADV_DONTNEED reads as written.

    Kernels without the fix of July 2026 ("fs/proc/task_mmu: report unpopulated ..."; in 6.12.107, 6.18.44 and 7.2.13)
    report nothing where no page table is left, so that a copy of the memory keeps the old bytes.
    """
    size = huge_page_size()
    if not size:
        return True
    with _scratch(3 * size) as (memory, base):
        start = page_ceil(base, size)
        memory.madvise(mmap.MADV_HUGEPAGE)
        ctypes.memset(start, 1, size)
        with _armed(start, start + size) as scanner:
            memory.madvise(mmap.MADV_DONTNEED, start - base, size)
            return scanner.scan(start, start + size, _WRITTEN).regions.nbytes == size


def reports_unpopulated_pages() -> bool:
    """Whether a page dropped beside others that are still there reads as written."""
    page = mmap.PAGESIZE
    with _scratch(2 * page) as (memory, base):
        ctypes.memset(base, 1, 2 * page)
        with _armed(base, base + 2 * page) as scanner:
            memory.madvise(mmap.MADV_DONTNEED, page, page)
            return [r[:2] for r in scanner.scan(base, base + 2 * page, _WRITTEN).regions] == [
                (base + page, base + 2 * page)
            ]


@contextmanager
def _scratch(n_bytes: int) -> Iterator[tuple[mmap.mmap, int]]:
    memory = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view = ctypes.c_char.from_buffer(memory)
    try:
        yield memory, ctypes.addressof(view)
    finally:
        del view
        memory.close()


@contextmanager
def _armed(start: int, end: int) -> Iterator[PagemapScanner]:
    with UserfaultFd(open_userfaultfd(), 0) as protection, PagemapScanner() as scanner:
        protection.register(start, end)
        protection.protect(start, end)
        yield scanner
        protection.unregister(start, end)
