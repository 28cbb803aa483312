"""Probes of the mechanisms themselves, on plain anonymous memory of this process."""

import errno
import os

from pagewatch.linux.abi.mman import MADV_GUARD_INSTALL
from pagewatch.linux.abi.pagemap import PROCMAP_QUERY, procmap_query
from pagewatch.linux.abi.userfaultfd import UFFD_API, UFFDIO_API, uffdio_api
from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.linux.probes.rounds import tracks_writes
from pagewatch.linux.probes.support import Support
from pagewatch.linux.proc import open_proc
from pagewatch.linux.scratch import anonymous
from pagewatch.linux.syscalls import ioctl, is_unknown_call
from pagewatch.linux.userfaultfd import open_by_first_way
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import Regions

_N_PAGES = 8


def probe_userfaultfd() -> Support:
    """Whether this user gets a userfaultfd that shakes hands, and by which way."""
    way, fd = open_by_first_way()
    try:
        ioctl(fd, UFFDIO_API, uffdio_api(api=UFFD_API))
    finally:
        os.close(fd)
    return Support.yes(f"by {way.value}")


def probe_uffd_wp_async() -> Support:
    """Whether asynchronous write-protection finds every store into anonymous memory, and can be renewed."""
    with anonymous(_N_PAGES * PAGE_SIZE) as memory:
        return tracks_writes(memory)


def probe_pagemap_scan() -> Support:
    """Whether PAGEMAP_SCAN finds the pages that are there, and no others."""
    with anonymous(_N_PAGES * PAGE_SIZE) as memory, PagemapScanner() as scanner:
        pages = [memory.start + page * PAGE_SIZE for page in (1, 2, 5)]
        for address in pages:
            memory.store(address - memory.start)
        found = scanner.scan(memory.start, memory.end, Query(mask=Category.PRESENT)).regions
    if found != Regions.from_pages(pages):
        return Support.no(f"it found {found.pages} pages of {len(pages)}, or others")
    return Support.yes()


def probe_scan_guard_category() -> Support:
    """Whether PAGEMAP_SCAN tells guard pages from others."""
    with anonymous(_N_PAGES * PAGE_SIZE) as memory, PagemapScanner() as scanner:
        memory.populate()
        try:
            memory.advise(MADV_GUARD_INSTALL, 0, PAGE_SIZE)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return Support.no("this kernel has no guard pages", "Linux 6.13 has them, 6.16 tells them in scans")
        try:
            found = scanner.scan(memory.start, memory.end, Query(mask=Category.GUARD)).regions
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return Support.no("this kernel's PAGEMAP_SCAN does not know guard pages", "Linux 6.16 or newer does")
        if found != Regions([(memory.start, memory.start + PAGE_SIZE)]):
            return Support.no(f"it found {found.pages} guard pages of 1, or others")
    return Support.yes()


def probe_procmap_query() -> Support:
    """Whether one mapping can be asked for without reading the text of them all."""
    with anonymous(_N_PAGES * PAGE_SIZE) as memory:
        query = procmap_query(size=104, query_addr=memory.start)
        fd = open_proc(os.getpid(), "maps")
        try:
            ioctl(fd, PROCMAP_QUERY, query)
        except OSError as error:
            if not is_unknown_call(error):
                raise
            return Support.no("this kernel has no PROCMAP_QUERY; smaps does, slower", "Linux 6.11 or newer has it")
        finally:
            os.close(fd)
        if not query.vma_start <= memory.start < memory.end <= query.vma_end:
            return Support.no("it names another mapping than the one that holds the address")
    return Support.yes()
