"""Faults on entries that are neither empty nor present (``do_swap_page``)."""

from collections.abc import Callable

from pagewatch.model.arch.format import (
    DEVICE,
    EXCLUSIVE,
    HWPOISON,
    MARKER,
    MARKER_GUARD,
    MARKER_POISON,
    MIGRATION,
    SOFT_DIRTY,
    SWAP,
    UFFD_WP,
)
from pagewatch.model.fault.state import Fault, Outcome, leaf_flags
from pagewatch.model.folioflags import set_exclusive
from pagewatch.model.memory import Folio
from pagewatch.model.migrate import Place, migrate_area
from pagewatch.model.pages import map_again
from pagewatch.model.vma import VM_WRITE
from pagewatch.steps import WAIT, wait


def nonpresent_fault(fault: Fault, missing: Callable[[Fault], Outcome]) -> Outcome:
    """Answer by the kind of entry; ``missing`` handles a marker of memory that is not populated."""
    kind = fault.spot.kind
    if kind == MARKER:
        return _marker_fault(fault, missing)
    if kind == HWPOISON:
        return Outcome.HWPOISON
    if kind == MIGRATION:
        wait_for_migration(fault)
        return Outcome.DONE
    if kind == SWAP:
        # Reading in may take long; it is not done under the area's lock alone.
        return Outcome.RETRY if fault.per_vma else _swap_in(fault)
    if kind == DEVICE:
        return Outcome.RETRY if fault.per_vma else _back_to_ram(fault)
    return Outcome.SIGBUS


def _marker_fault(fault: Fault, missing: Callable[[Fault], Outcome]) -> Outcome:
    """Poison first, then guard, then write-protection (``handle_pte_marker``)."""
    payload = fault.fmt.marker(fault.spot.entry)
    if payload & MARKER_POISON:
        return Outcome.HWPOISON
    if payload & MARKER_GUARD:
        return Outcome.SIGSEGV
    if fault.vma.uffd_wp:
        return missing(fault)
    # A leftover of a registration that is gone: erase it and run the access again.
    with fault.table.lock:
        if fault.unchanged():
            fault.set_entry(0, "fault: erase a leftover marker")
    return Outcome.DONE


def wait_for_migration(fault: Fault) -> None:
    """Sleep until the migration has put a leaf back (``migration_entry_wait``)."""
    table, index, entry = fault.table, fault.spot.slot, fault.spot.entry
    wait((table.address, index), WAIT, "fault: wait for migration", lambda: table.entries.get(index, 0) != entry)


def _back_to_ram(fault: Fault) -> Outcome:
    """A CPU needs what a device holds: the driver moves the page back (``dev_pagemap_ops.migrate_to_ram``).

    Who finds it locked sleeps until it is not (``softleaf_entry_wait_on_locked``). Kernels 6.15 to 7.0 tried again
    at once, and could keep the holder of the lock from ever running.
    """
    machine = fault.mm.machine
    moved = migrate_area(fault.mm, fault.address, fault.address + machine.page_bytes, Place.RAM)
    if not moved:
        with fault.table.lock:
            folio = machine.memory.folio(fault.fmt.pfn(fault.spot.entry)) if fault.unchanged() else None
        if folio is not None:
            wait(folio.lock.key, WAIT, "fault: wait for a page on a device", folio.lock.is_free)
    return Outcome.DONE


def _swap_in(fault: Fault) -> Outcome:
    """Read the page in and map it with the tracking bits that its entry kept."""
    mm, vma, fmt = fault.mm, fault.vma, fault.fmt
    machine = mm.machine
    offset = fmt.swap(fault.spot.entry)[1]
    folio = machine.swap.read_in(machine.memory, offset)
    if folio is None:
        # Somebody else was faster: the entry has changed, or will have when he drops the table's lock.
        with fault.table.lock:
            return Outcome.DONE
    with fault.table.lock:
        if not fault.unchanged():
            machine.memory.put(folio, "swap in: lost the race")
            return Outcome.DONE
        flags = fmt.flags(fault.spot.entry)
        last_user = not machine.swap.release(machine.memory, offset)
        exclusive = bool(flags & EXCLUSIVE) or (
            last_user and machine.memory.count(folio, "swap in: count references") == 1
        )
        folio.anon_vma = vma.anon_vma  # it has one: the page was its own before it was swapped out
        folio.index = vma.index_of(fault.address, machine.page_shift)
        if exclusive:
            set_exclusive(folio, 0, "swap in: exclusive")
        map_again(folio)
        fault.set_entry(_entry_of(fault, folio, flags, exclusive=exclusive), "swap in: map")
    # A write that still finds the entry read-only faults again, through the copy-on-write path.
    return Outcome.DONE


def _entry_of(fault: Fault, folio: Folio, flags: int, *, exclusive: bool) -> int:
    fmt, vma = fault.fmt, fault.vma
    entry = fmt.leaf(folio.pfn, leaf_flags(fault.mm.machine, vma))
    if flags & SOFT_DIRTY:
        entry = fmt.mksoft_dirty(entry)
    protected = bool(flags & UFFD_WP)
    if protected:
        entry = fmt.mkuffd_wp(entry)
    needs_soft_dirty = fault.mm.machine.quirks.soft_dirty and not flags & SOFT_DIRTY
    if exclusive and vma.flags & VM_WRITE and not (protected and vma.uffd_wp) and not needs_soft_dirty:
        entry = fmt.mkwrite(entry)
        if fault.writing:
            entry = fmt.mkdirty(entry)
    return entry
