"""Mapping a huge page of the page cache by one entry where a table of small ones stands.

``collapse_pte_mapped_thp``. The folio's lock keeps faults from mapping more of it. It does not keep
UFFDIO_COPY from putting a page of its own into a private area: that asks no page cache. So where that can
be, the directory's lock is held from the second look at the entries until the table is gone; otherwise
the table's lock is dropped in between, and a page put there is lost with the table.
"""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF
from pagewatch.model.collapse.find import find_directory, revalidate
from pagewatch.model.collapse.result import Result
from pagewatch.model.collapse.retract import free_deferred
from pagewatch.model.fault.state import leaf_flags
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at, keep_dirty, map_again, unmap
from pagewatch.model.thp import Purpose, huge_order
from pagewatch.model.tlb import flush_mm, flush_range
from pagewatch.model.vma import VM_SHARED, VM_UFFD
from pagewatch.model.walk import Spot, in_place, populate, seek

if TYPE_CHECKING:
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def collapse_pte_mapped(mm: "Mm", start: int) -> Result:
    """Map the huge page that the file of an area has at ``start``; the caller holds the mmap lock."""
    if find_directory(mm, start)[1] is Result.PMD_MAPPED:
        return Result.PMD_MAPPED
    vma = revalidate(mm, start, Purpose.COLLAPSE)
    if vma is None or vma.file is None:
        return Result.VMA_CHECK
    if vma.uffd_wp:
        return Result.PTE_UFFD_WP  # markers would go with the table
    folio = vma.file.lock_cached(vma.index_of(start, mm.machine.page_shift))
    if folio is None:
        return Result.PAGE_NULL
    try:
        return _locked(mm, vma, start, folio) if folio.order == huge_order(mm.machine) else Result.FAIL
    finally:
        folio.lock.release()
        mm.machine.memory.put(folio, "collapse: put the huge page")


def _locked(mm: "Mm", vma: "Vma", start: int, folio: "Folio") -> Result:
    """With the folio locked: check, clear, free the table, map."""
    _, result = find_directory(mm, start)
    if result is Result.SUCCEED:
        spot = seek(mm, start, "collapse: find the table")
        if spot.level or spot.parent is None:
            return Result.FAIL
        result = _check(mm, spot, folio)
        if result is Result.SUCCEED:
            with invalidating(mm, Event.CLEAR, start, start + mm.machine.thp_bytes):
                result = _clear(mm, vma, spot, spot.parent, folio)
    makes_tables = result is Result.NO_DIRECTORY and mm.machine.quirks.collapse_makes_upper_tables
    if result not in (Result.SUCCEED, Result.NO_TABLE) and not makes_tables:
        return result
    return _map(mm, vma, start, folio)


def _check(mm: "Mm", spot: Spot, folio: "Folio") -> Result:
    """Step 1: every entry is empty, or maps its own page of the folio."""
    with spot.table.lock:
        if not in_place(spot):
            return Result.FAIL
        for index in range(1 << spot.fmt.index_bits):
            result = _check_entry(mm, spot, index, folio)
            if result is not Result.SUCCEED:
                return result
    return Result.SUCCEED


def _check_entry(mm: "Mm", spot: Spot, index: int, folio: "Folio") -> Result:
    fmt = spot.fmt
    entry = spot.table.read(index, "collapse: check entry")
    if not entry:
        return Result.SUCCEED
    if fmt.kind(entry) != LEAF:
        return Result.PTE_NON_PRESENT
    mapped = folio_at(mm.machine, fmt, entry)
    return Result.SUCCEED if mapped is folio and fmt.pfn(entry) == folio.pfn + index else Result.FAIL


def _clear(mm: "Mm", vma: "Vma", spot: Spot, parent: Spot, folio: "Folio") -> Result:
    """Steps 2 to 4: clear the entries, and take the table away."""
    machine = mm.machine
    start = vma.address_of(folio.index, machine.page_shift)
    fills = bool(vma.flags & VM_UFFD) and not vma.flags & VM_SHARED
    hold = fills and not machine.quirks.collapse_drops_lock_before_copies
    if hold:
        with parent.table.lock, spot.table.lock:
            result = _clear_entries(mm, spot, folio)
            if result is Result.SUCCEED:
                _unhook(mm, start, parent)
    else:
        with spot.table.lock:
            result = _clear_entries(mm, spot, folio)
        if result is Result.SUCCEED:
            with parent.table.lock, spot.table.lock:
                result = Result.SUCCEED if in_place(spot) else Result.FAIL
                if result is Result.SUCCEED:
                    _unhook(mm, start, parent)
    if result is Result.SUCCEED:
        free_deferred(machine, spot.table)
    else:
        flush_mm(mm)
    return result


def _unhook(mm: "Mm", start: int, parent: Spot) -> None:
    """Take the table out of its directory (``pmdp_collapse_flush``), both locks held."""
    parent.table.exchange(parent.slot, 0, "collapse: clear the directory entry")
    flush_range(mm, start, start + (1 << parent.fmt.shift))


def _clear_entries(mm: "Mm", spot: Spot, folio: "Folio") -> Result:
    """Look again: the table's lock was dropped, and a write may have made a private copy meanwhile."""
    if not in_place(spot):
        return Result.FAIL
    for index in range(1 << spot.fmt.index_bits):
        result = _check_entry(mm, spot, index, folio)
        if result is not Result.SUCCEED:
            return result
        if index in spot.table.entries:
            entry = spot.table.exchange(index, 0, "collapse: clear entry")
            keep_dirty(folio, spot.fmt, entry)
            unmap(folio)
            mm.machine.memory.put(folio, "collapse: one leaf fewer")
    return Result.SUCCEED


def _map(mm: "Mm", vma: "Vma", start: int, folio: "Folio") -> Result:
    """Step 5: one entry for all of it (``set_huge_pmd``)."""
    spot = populate(mm, start, "collapse: find", level=1)
    if spot.level != 1:
        return Result.FAIL
    with spot.table.lock:
        if spot.table.read(spot.slot, "collapse: recheck"):
            return Result.FAIL
        mm.machine.memory.get(folio, "collapse: map")
        map_again(folio)
        spot.table.write(
            spot.slot, spot.fmt.leaf(folio.pfn, leaf_flags(mm.machine, vma)), "collapse: map huge file page"
        )
    return Result.SUCCEED
