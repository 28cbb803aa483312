"""Self-tests for kernel bugs that lose writes: each shows the effect on scratch memory of this process."""

import ctypes
import mmap
import os
from functools import cache
from pathlib import Path

from pagewatch.linux.abi.pagemap import PAGEMAP_SCAN, page_region, pm_scan_arg
from pagewatch.linux.pagemap import no_pagemap_scan
from pagewatch.linux.proc import open_proc
from pagewatch.linux.scratch import anonymous, armed
from pagewatch.linux.syscalls import ioctl, is_unknown_call
from pagewatch.linux.thp import huge_page_size
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.blindspots import BlindReason
from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import Regions

_WRITTEN = Query(mask=Category.WRITTEN)


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
    with anonymous(size, align=size) as memory:
        memory.advise(mmap.MADV_HUGEPAGE)
        memory.populate()
        with armed(memory.start, memory.end) as scanner:
            memory.advise(mmap.MADV_DONTNEED)
            return scanner.scan(memory.start, memory.end, _WRITTEN).regions.nbytes == size


def reports_dropped_pages() -> bool:
    """Whether a page dropped by MADV_DONTNEED beside others that are still there reads as written."""
    with anonymous(2 * PAGE_SIZE) as memory:
        memory.populate()
        with armed(memory.start, memory.end) as scanner:
            memory.advise(mmap.MADV_DONTNEED, PAGE_SIZE, PAGE_SIZE)
            found = scanner.scan(memory.start, memory.end, _WRITTEN).regions
            return found == Regions([(memory.start + PAGE_SIZE, memory.end)])


def reports_kernel_writes() -> bool:
    """Whether a page that read(2) fills reads as written, as one does that the program itself stores into."""
    with anonymous(2 * PAGE_SIZE) as memory:
        memory.populate()
        with armed(memory.start, memory.end) as scanner, Path("/dev/zero").open("rb", buffering=0) as zeroes:
            with memory.writable_view(PAGE_SIZE, 1) as buffer:
                zeroes.readinto(buffer)
            found = scanner.scan(memory.start, memory.end, _WRITTEN).regions
            return found == Regions([(memory.start + PAGE_SIZE, memory.end)])


def reports_exact_walk_end() -> bool:
    """Whether a raw PAGEMAP_SCAN that finishes with more than 512 regions says that it did.

    Still false in 7.2: the kernel puts results out in pieces of 512 and leaves ``walk_end`` at the last one. The
    scanner of this library knows, so this costs nothing but shows that its care is needed.

    :raises FeatureMissing: no PAGEMAP_SCAN.
    """
    n_regions = 513
    with anonymous(2 * n_regions * PAGE_SIZE) as memory:
        memory.advise(mmap.MADV_NOHUGEPAGE)
        for region in range(n_regions):
            memory.store(2 * region * PAGE_SIZE)
        vector = (page_region * (2 * n_regions))()
        arg = pm_scan_arg(size=ctypes.sizeof(pm_scan_arg), start=memory.start, end=memory.end)
        arg.vec, arg.vec_len = ctypes.addressof(vector), len(vector)
        arg.category_mask = arg.return_mask = Category.PRESENT
        fd = open_proc(os.getpid(), "pagemap")
        try:
            ioctl(fd, PAGEMAP_SCAN, arg)
        except OSError as error:
            raise (no_pagemap_scan() if is_unknown_call(error) else error) from error
        finally:
            os.close(fd)
        return bool(arg.walk_end == memory.end)
