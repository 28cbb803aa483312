"""Taking huge pages out of an address space (``__unmap_hugepage_range``)."""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF, MARKER_UFFD_WP, NONE
from pagewatch.model.fault.state import entry_is_wp
from pagewatch.model.gather import Gather, Zap
from pagewatch.model.hugetlb.entries import HugePage, find
from pagewatch.model.hugetlb.locks import owned_file, writing
from pagewatch.model.hugetlb.sharing import reach, unshare
from pagewatch.model.pages import keep_dirty, unmap

if TYPE_CHECKING:
    from pagewatch.model.vma import Vma


def zap_huge(gather: Gather, vma: "Vma", start: int, end: int, how: Zap) -> None:
    """Take out the huge pages of [start, end) of an area; both are multiples of its page size.

    A table that others share is let go of as a whole. The last unmapping of an area takes its vma lock
    away, so that nobody finds the tables, which are about to be freed, and shares them.
    """
    with writing(gather.mm.machine, vma), owned_file(vma).i_mmap_lock.exclusive:
        address = start
        while address < end:
            address = _zap_at(gather, vma, address, how)
        gather.flush()
        if how is Zap.UNMAP and (start, end) == (vma.start, vma.end):
            vma.huge_lock = None


def _zap_at(gather: Gather, vma: "Vma", address: int, how: Zap) -> int:
    """Take out one page, or let go of a table; returns where to go on."""
    mm = gather.mm
    page = find(mm, address, vma.page_bytes, "zap: walk")
    if page is None:
        return address + vma.page_bytes
    with page.lock:
        if unshare(mm, page):
            low, high = reach(mm, address)
            if mm.machine.quirks.hugetlb_unshare_flushes:
                gather.add(low, high - low, None)
            return high
        _zap_page(gather, page, how)
    return address + vma.page_bytes


def _zap_page(gather: Gather, page: HugePage, how: Zap) -> None:
    fmt, entry = page.fmt, page.read("zap: read")
    if fmt.kind(entry) == NONE:
        return
    if fmt.kind(entry) == LEAF:
        entry = page.take("zap: clear")
        folio = gather.mm.machine.memory.folio(fmt.pfn(entry))
        keep_dirty(None if folio.anon else folio, fmt, entry)
        unmap(folio)
        gather.add(page.start, page.n_bytes, folio)
    # Truncation drops protection here, unlike elsewhere: both it and unmapping pass ZAP_FLAG_DROP_MARKER.
    keep = how not in (Zap.UNMAP, Zap.TRUNCATE) and entry_is_wp(fmt, entry)
    page.write(fmt.marker_entry(MARKER_UFFD_WP) if keep else 0, "zap: leave marker" if keep else "zap: clear absent")
