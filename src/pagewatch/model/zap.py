"""Taking memory out of an address space (``zap_page_range_single``, ``unmap_page_range``).

Entries go under their table's lock; the flush follows; only then are the folios released, so no CPU can
reach a folio that is somebody else's already. Shared dirty file pages are flushed before the lock is
dropped: writeback may clean the page as soon as the entry is gone.
"""

from functools import partial
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import (
    CARRIES_FRAME,
    DEVICE,
    DIRTY,
    HWPOISON,
    LEAF,
    MARKER,
    MARKER_GUARD,
    MARKER_POISON,
    MARKER_UFFD_WP,
    SWAP,
    EntryFormat,
)
from pagewatch.model.fault.state import entry_is_wp
from pagewatch.model.gather import Gather, Zap
from pagewatch.model.hugetlb.sharing import widened
from pagewatch.model.hugetlb.zap import zap_huge
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at, keep_dirty, unmap
from pagewatch.model.tables import Table
from pagewatch.model.thp import whole_spans
from pagewatch.model.tlb import flush_range
from pagewatch.model.walk import Span, Spot, seek

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def zap_range(mm: "Mm", vma: "Vma", start: int, end: int, how: Zap) -> None:
    """Take out [start, end) of one area (bytes, page aligned), inside one notifier bracket."""
    event = Event.UNMAP if how is Zap.UNMAP else Event.CLEAR
    low, high = widened(mm, vma, start, end) if vma.hugetlb else (start, end)
    with invalidating(mm, event, low, high):
        gather = Gather(mm)
        zap_entries(gather, vma, start, end, how)
        gather.finish()


def zap_entries(gather: Gather, vma: "Vma", start: int, end: int, how: Zap) -> None:
    """Take out [start, end) of one area; the caller brackets and finishes the gather."""
    if vma.hugetlb:
        zap_huge(gather, vma, start, end, how)
        return
    mm = gather.mm
    emptied = []
    for span in whole_spans(mm, vma, start, end, "zap: walk"):
        if _zap_span(gather, vma, span, how):
            gather.flush()
        if len(span.indexes) == 1 << span.spot.fmt.index_bits and not span.spot.table.entries:
            emptied.append(span)
    if how is Zap.DONTNEED and mm.machine.quirks.zap_frees_tables:
        for span in emptied:
            free_table(gather, span)


def _zap_span(gather: Gather, vma: "Vma", span: Span, how: Zap) -> bool:
    """Zap the entries of one table; says whether the flush cannot wait for the lock to be dropped."""
    machine = gather.mm.machine
    table, fmt = span.spot.table, span.spot.table.fmt
    must_flush = False
    for index in span.indexes:
        entry = table.read(index, "zap: read")
        if not entry:
            continue
        address = span.start + (index - span.spot.slot << fmt.shift)
        if fmt.kind(entry) != LEAF:
            _zap_absent(gather, vma, Spot(table, index, entry, None), how)
            continue
        folio = folio_at(machine, fmt, entry)
        if how is Zap.HOLE and folio is not None and folio.anon:
            continue
        entry = table.exchange(index, 0, "zap: clear")
        if folio is not None and not folio.anon:
            keep_dirty(folio, fmt, entry)
            must_flush |= bool(fmt.flags(entry) & DIRTY)
        leave_marker(vma, table, index, entry, how)
        gather.add(address, 1 << fmt.shift, folio)
        if folio is not None:
            unmap(folio)
    return must_flush


def _zap_absent(gather: Gather, vma: "Vma", spot: Spot, how: Zap) -> None:
    table, index, entry = spot.table, spot.slot, spot.entry
    fmt, machine = table.fmt, gather.mm.machine
    kind = spot.kind
    if how is Zap.HOLE and _is_private_copy(machine, fmt, entry):
        return
    if kind == MARKER:
        payload = fmt.marker(entry)
        if (payload & MARKER_GUARD and how is not Zap.UNMAP) or (payload & MARKER_POISON and how is Zap.HOLE):
            return
        if payload & MARKER_UFFD_WP and not vma.anonymous and how is not Zap.UNMAP:
            return
    table.write(index, 0, "zap: clear absent")
    if kind == SWAP:
        machine.swap.release(machine.memory, fmt.swap(entry)[1])
    elif kind == DEVICE:
        folio = machine.memory.folio(fmt.pfn(entry))
        unmap(folio)
        machine.memory.put(folio, "zap: release device page")
    leave_marker(vma, table, index, entry, how)


def _is_private_copy(machine: "Machine", fmt: EntryFormat, entry: int) -> bool:
    """Whether what an entry stands for is no page of the file (``should_zap_cows``, ``should_zap_folio``)."""
    kind = fmt.kind(entry)
    if kind in CARRIES_FRAME and kind != HWPOISON:
        return machine.memory.folio(fmt.pfn(entry)).anon
    return kind in (SWAP, HWPOISON)


def leave_marker(vma: "Vma", table: Table, index: int, entry: int, how: Zap) -> None:
    """File memory stays protected when its entry goes (``zap_install_uffd_wp_if_needed``)."""
    if how is Zap.UNMAP or vma.anonymous or not vma.uffd_wp or table.fmt.level:
        return  # a huge leaf leaves nothing behind: there is no table to keep markers in
    if entry_is_wp(table.fmt, entry):
        table.write(index, table.fmt.marker_entry(MARKER_UFFD_WP), "zap: leave marker")


def free_table(gather: Gather, span: Span) -> None:
    """Unhook an empty table, flush, and free it once no lockless walker can be inside (``try_to_free_pte``).

    :param span: the whole reach of the table; TLBs cache the way to it, too.
    """
    machine = gather.mm.machine
    table, parent = span.spot.table, span.spot.parent
    if parent is None:
        return
    with parent.table.lock, table.lock:
        if parent.table.read(parent.slot, "free table: recheck") != parent.entry or table.entries:
            return
        parent.table.write(parent.slot, 0, "free table: unhook")
    flush_range(gather.mm, span.start, span.end)
    machine.rcu.call(lambda: machine.tables.free(table))


def free_tables(mm: "Mm", start: int, end: int) -> None:
    """Free the tables that no area needs after [start, end) was unmapped (``free_pgtables``).

    A table goes when its whole reach has no area left, and is freed after the flush: until then a CPU may be on its
    way through it. The caller holds the mmap lock for writing.
    """
    unhooked: list[Table] = []
    for level, fmt in enumerate(mm.machine.fmt.at[:-1]):
        reach = fmt.shift + fmt.index_bits
        address = start >> reach << reach
        while address < end:
            spot = seek(mm, address, "free tables: find")
            if spot.level == level and not mm.vmas.overlapping(address, address + (1 << reach)):
                unhooked += _unhook(spot)
            # Where tables are missing higher up, so are all below.
            step = max(reach, spot.fmt.shift if spot.level > level else 0)
            address = (address >> step) + 1 << step
    if unhooked:
        flush_range(mm, start, end)
    for table in unhooked:
        mm.machine.rcu.call(partial(mm.machine.tables.free, table))


def _unhook(spot: Spot) -> list[Table]:
    """Take the table that an entry stands in out of the tree; none where that is the root."""
    if spot.parent is None:
        return []
    spot.parent.table.write(spot.parent.slot, 0, "free tables: unhook")
    return [spot.table]
