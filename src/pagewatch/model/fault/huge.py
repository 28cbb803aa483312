"""Faults where a huge page stands or could stand (``__handle_mm_fault`` at the PMD, mm/huge_memory.c)."""

from pagewatch.model.arch.format import LEAF, MIGRATION, UFFD_WP, WRITE
from pagewatch.model.fault.notify import notify
from pagewatch.model.fault.state import Access, Fault, Outcome, has_root, leaf_flags, maybe_mkwrite
from pagewatch.model.fault.swap import wait_for_migration
from pagewatch.model.folioflags import is_exclusive, set_dirty, set_exclusive
from pagewatch.model.memory import Folio
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at, map_again, map_anon
from pagewatch.model.thp import Purpose, huge_order, huge_start, may_have_huge, split_locked
from pagewatch.model.tlb import flush_range
from pagewatch.model.uffd.context import Reason
from pagewatch.model.vma import VM_NOHUGEPAGE, VM_SHARED, VM_UFFD_MINOR, VM_UFFD_MISSING
from pagewatch.model.walk import populate


def huge_fault(fault: Fault) -> Outcome | None:
    """Answer a fault that found no PTE table; None leaves it to the PTE level.

    ``fault.spot`` is the entry where the walk ended.
    """
    if fault.spot.entry:
        outcome = _occupied(fault)
        if outcome is not None:
            return outcome
    start = huge_start(fault.mm, fault.vma, fault.address) if fault.mm.machine.thp_bytes else None
    if start is None:
        return None
    if fault.vma.anonymous:
        return _anonymous(fault, start) if may_have_huge(fault.mm, fault.vma, Purpose.FAULT) else None
    return _map_cached(fault, start)


def _occupied(fault: Fault) -> Outcome | None:
    """Something stands above the PTE level; None where it was split."""
    if fault.spot.kind == MIGRATION:
        wait_for_migration(fault)
        return Outcome.DONE
    if fault.spot.kind != LEAF or not fault.mm.machine.thp_bytes:
        return Outcome.SIGBUS
    return _present(fault)


def _present(fault: Fault) -> Outcome | None:
    """A huge leaf is there: set its bits, make it writable, or split it; None after a split."""
    fmt, table = fault.fmt, fault.table
    with table.lock:
        if not fault.unchanged():
            return Outcome.DONE
        entry = fault.spot.entry
        if fault.access is not Access.READ and not fmt.flags(entry) & WRITE:
            protected = fault.writing and fault.vma.anonymous and fault.vma.uffd_wp and fmt.flags(entry) & UFFD_WP
            if not (protected and not fault.vma.wp_async):
                return _write_protected(fault, protected=bool(protected))
        else:
            entry = fmt.mkyoung(fmt.mkdirty(entry) if fault.writing else entry)
            if entry != fault.spot.entry:
                fault.set_entry(entry, "fault: set accessed and dirty")
            return Outcome.DONE
    return notify(fault, Reason.WP)


def _write_protected(fault: Fault, *, protected: bool) -> Outcome | None:
    """A write to a read-only huge leaf, its lock held (``wp_huge_pmd``).

    A protection that nobody is told of is resolved page by page, so the leaf is split for it. So is one
    that cannot be reused whole: a copy is made of the one page that is written.
    """
    mm, vma, fmt = fault.mm, fault.vma, fault.fmt
    if vma.anonymous and not protected:
        folio = folio_at(mm.machine, fmt, fault.spot.entry)
        if folio is None and mm.machine.quirks.thp_replaces_zero_page:
            return _replace_zero(fault)
        if folio is not None and _may_reuse(fault, folio):
            if fault.access is not Access.UNSHARE:
                set_exclusive(folio, 0, "fault: exclusive now", folio.n_pages)
                entry = maybe_mkwrite(fmt, fmt.mkdirty(fmt.mkyoung(fault.spot.entry)), vma)
                fault.set_entry(entry, "fault: make huge writable")
            return Outcome.DONE
    split_locked(mm, vma, fault.spot, fault.address)
    return None


def _may_reuse(fault: Fault, folio: Folio) -> bool:
    if is_exclusive(folio, 0, "fault: exclusive?"):
        return True
    return fault.mm.machine.memory.count(folio, "fault: count references") == 1


def _replace_zero(fault: Fault) -> Outcome:
    """Give the area a huge page for the huge zero page (``do_huge_zero_wp_pmd``)."""
    mm, machine = fault.mm, fault.mm.machine
    start = fault.address & -machine.thp_bytes
    folio = machine.memory.alloc(huge_order(machine))
    with invalidating(mm, Event.CLEAR, start, start + machine.thp_bytes):
        fault.table.exchange(fault.spot.slot, 0, "fault: clear the huge zero page")
        flush_range(mm, start, start + machine.thp_bytes)
        map_anon(mm, fault.vma, folio, start, n_pages=folio.n_pages)
        fault.set_entry(_writable_leaf(fault, folio.pfn), "fault: map huge")
    return Outcome.DONE


def _anonymous(fault: Fault, start: int) -> Outcome | None:
    """Map a huge page, or for a read the huge zero page (``do_huge_pmd_anonymous_page``)."""
    mm, vma, machine = fault.mm, fault.vma, fault.mm.machine
    if not has_root(fault):
        return Outcome.RETRY
    fault.spot = populate(mm, fault.address, "fault: find", level=1)
    if fault.spot.entry or fault.spot.level != 1:
        return None
    reading = not fault.writing and machine.quirks.thp_zero_page
    folio = machine.memory.huge_zero(huge_order(machine)) if reading else machine.memory.alloc(huge_order(machine))
    with fault.table.lock:
        changed = not fault.unchanged()
        missing = not changed and vma.flags & VM_UFFD_MISSING
        if not changed and not missing:
            if reading:
                entry = fault.fmt.leaf(folio.pfn, leaf_flags(machine, vma))
                fault.set_entry(fault.fmt.mkspecial(entry), "fault: map the huge zero page")
            else:
                map_anon(mm, vma, folio, start, n_pages=folio.n_pages)
                fault.set_entry(_writable_leaf(fault, folio.pfn), "fault: map huge")
    if (changed or missing) and not reading:
        machine.memory.put(folio, "fault: not needed")
    return notify(fault, Reason.MISSING) if missing else Outcome.DONE


def _writable_leaf(fault: Fault, pfn: int) -> int:
    fmt = fault.fmt
    return maybe_mkwrite(fmt, fmt.mkdirty(fmt.leaf(pfn, leaf_flags(fault.mm.machine, fault.vma))), fault.vma)


def _map_cached(fault: Fault, start: int) -> Outcome | None:
    """Map a huge folio of the page cache as a whole (``do_set_pmd``); None if there is none."""
    mm, vma = fault.mm, fault.vma
    machine, file = mm.machine, vma.file
    private = not vma.flags & VM_SHARED
    if file is None or vma.flags & (VM_NOHUGEPAGE | VM_UFFD_MINOR) or (private and fault.writing):
        return None
    index = vma.index_of(start, machine.page_shift)
    cached = file.cached(vma.index_of(fault.address, machine.page_shift))
    if cached is None or cached.order != huge_order(machine) or cached.index != index:
        return None
    fault.spot = populate(mm, fault.address, "fault: find", level=1)
    if fault.spot.entry or fault.spot.level != 1:
        return None
    folio = file.lock_cached(index)
    if folio is None:
        return Outcome.DONE
    with fault.table.lock:
        mapped = fault.unchanged() and folio is cached
        if mapped:
            entry = fault.fmt.leaf(folio.pfn, leaf_flags(machine, vma))
            if fault.writing:
                set_dirty(folio, "fault: dirty file page")
                entry = maybe_mkwrite(fault.fmt, fault.fmt.mkdirty(entry), vma)
            map_again(folio)
            fault.set_entry(entry, "fault: map huge file page")
    folio.lock.release()
    if not mapped:
        machine.memory.put(folio, "fault: lost the race")
    return Outcome.DONE
