"""Changing the protection of populated memory (``change_protection``): for mprotect and for userfaultfd.

Entries change under their table's lock; one flush of the changed range follows after all locks of tables
are dropped, with the address space's pending-flush counter raised meanwhile. mprotect holds the mmap lock
for writing over all of it. UFFDIO_WRITEPROTECT holds it for reading, so a write fault may run between
change and flush: it looks at the counter before it copies a page.
"""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import (
    DEVICE,
    DIRTY,
    EXCLUSIVE,
    LEAF,
    MARKER,
    MARKER_GUARD,
    MARKER_POISON,
    MARKER_UFFD_WP,
    MIGRATION,
    SOFT_DIRTY,
    UFFD_WP,
    WRITE,
    EntryFormat,
)
from pagewatch.model.change import Change
from pagewatch.model.fault.state import leaf_flags
from pagewatch.model.folioflags import is_exclusive
from pagewatch.model.hugetlb.protect import change_huge_protection
from pagewatch.model.pages import folio_at
from pagewatch.model.tables import Table
from pagewatch.model.thp import split_locked
from pagewatch.model.tlb import flush_range
from pagewatch.model.vma import VM_SHARED, VM_WRITE
from pagewatch.model.walk import locked_spans, populate
from pagewatch.steps import RMW, access

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def change_protection(mm: "Mm", vma: "Vma", start: int, end: int, change: Change) -> int:
    """Apply a change to the part [start, end) of an area (bytes); returns how many pages changed."""
    if vma.hugetlb:
        return change_huge_protection(mm, vma, start, end, change)
    access(("pending flushes", mm.id), RMW, "protect: flush pending")
    mm.pending_flushes += 1
    changed = _change_entries(mm, vma, start, end, change)
    if changed:
        flush_range(mm, changed[0][0], changed[-1][1])
    access(("pending flushes", mm.id), RMW, "protect: flushed")
    mm.pending_flushes -= 1
    return sum(last - first for first, last in changed) >> mm.machine.page_shift


def _change_entries(mm: "Mm", vma: "Vma", start: int, end: int, change: Change) -> list[tuple[int, int]]:
    """Change entry by entry; the ranges of those that changed (``change_pmd_range``)."""
    changed = []
    for span in locked_spans(mm, start, end, "protect: walk"):
        if span.hole:
            if change is Change.WP and vma.wp_markers:
                # Markers need tables to stand in.
                _make_tables(mm, span.start, span.end)
                changed += _change_entries(mm, vma, span.start, span.end, change)
            continue
        if span.partial or (span.spot.level and change is Change.WP and not vma.anonymous):
            # userfaultfd protects file memory page by page: what is under a huge leaf, too (pgtable_split_needed).
            split_locked(mm, vma, span.spot, span.start)
            continue
        address, step = span.start, 1 << span.spot.table.fmt.shift
        for index in span.indexes:
            if _change_entry(mm, vma, span.spot.table, index, change):
                changed.append((address, address + step))
            address += step
    return changed


def _make_tables(mm: "Mm", start: int, end: int) -> None:
    """Markers need tables to stand in (``change_prepare``)."""
    fmt = mm.machine.fmt.at[0]
    step = 1 << fmt.shift + fmt.index_bits
    for address in range(start & -step, end, step):
        populate(mm, max(address, start), "protect: make tables")


def _change_entry(mm: "Mm", vma: "Vma", table: Table, index: int, change: Change) -> bool:
    fmt = table.fmt
    entry = table.read(index, "protect: read")
    kind = fmt.kind(entry)
    if kind == LEAF:
        # Hardware may set accessed and dirty at any time: take the entry out, change it, put it back.
        entry = table.take_out(index, "protect: take out")
        table.write(index, _changed_leaf(mm, vma, fmt, entry, change), "protect: put back")
        return True
    if kind == MARKER:
        return _change_marker(table, index, entry, change)
    if not entry:
        if change is not Change.WP or not vma.wp_markers:
            return False
        table.write(index, fmt.marker_entry(MARKER_UFFD_WP), "protect: install marker")
        return True
    new = _changed_absent(fmt, entry, kind, change)
    if new != entry:
        table.write(index, new, "protect: change")
    return new != entry


def _changed_leaf(mm: "Mm", vma: "Vma", fmt: EntryFormat, entry: int, change: Change) -> int:
    new = fmt.modify(entry, leaf_flags(mm.machine, vma))
    if change is Change.WP:
        new = fmt.mkuffd_wp(new)
    elif change is Change.RESOLVE and fmt.flags(new) & UFFD_WP:
        new = fmt.clear_uffd_wp(new)
    if change is not Change.WP and not fmt.flags(new) & WRITE and _may_be_writable(mm, vma, fmt, new):
        new = fmt.mkwrite(new)
    elif fmt.flags(new) & UFFD_WP:
        new = fmt.wrprotect(new)
    return new


def _may_be_writable(mm: "Mm", vma: "Vma", fmt: EntryFormat, entry: int) -> bool:
    """Whether a fault would do no more than set the write bit (``can_change_pte_writable``)."""
    flags = fmt.flags(entry)
    if not vma.flags & VM_WRITE or (vma.uffd_wp and flags & UFFD_WP):
        return False
    if mm.machine.quirks.soft_dirty and not flags & SOFT_DIRTY:
        return False
    if vma.flags & VM_SHARED:
        return bool(flags & DIRTY)
    folio = folio_at(mm.machine, fmt, entry)
    return folio is not None and is_exclusive(folio, fmt.pfn(entry) - folio.pfn, "protect: exclusive?")


def _change_marker(table: Table, index: int, entry: int, change: Change) -> bool:
    """Poison and guard markers are left alone; a write-protect marker goes when protection is lifted."""
    if table.fmt.marker(entry) & (MARKER_POISON | MARKER_GUARD) or change is not Change.RESOLVE:
        return False
    table.write(index, 0, "protect: drop marker")
    return True


def _changed_absent(fmt: EntryFormat, entry: int, kind: int, change: Change) -> int:
    """Swap and migration entries carry the bit, too; writable migration and device entries become readable."""
    flags = fmt.flags(entry)
    if kind == MIGRATION and flags & WRITE:
        entry = fmt.pfn_entry(MIGRATION, fmt.pfn(entry), flags & ~WRITE | EXCLUSIVE)
    elif kind == DEVICE and flags & WRITE:
        entry = fmt.pfn_entry(DEVICE, fmt.pfn(entry), flags & ~WRITE)
    if change is Change.WP:
        return fmt.swp_mkuffd_wp(entry)
    return fmt.swp_clear_uffd_wp(entry) if change is Change.RESOLVE and flags & UFFD_WP else entry
