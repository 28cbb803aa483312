"""Faults on present but not writable entries (``do_wp_page``): protection, reuse, copy-on-write."""

from pagewatch.model.arch.format import SOFT_DIRTY, UFFD_WP
from pagewatch.model.fault.notify import notify
from pagewatch.model.fault.state import Access, Fault, Outcome, announcing_write, has_root, leaf_flags, maybe_mkwrite
from pagewatch.model.folioflags import is_exclusive, set_dirty, set_exclusive
from pagewatch.model.memory import Folio
from pagewatch.model.notifier import Event, change_secondary, invalidating
from pagewatch.model.pages import folio_at, keep_dirty, map_anon, unmap
from pagewatch.model.tlb import flush_range
from pagewatch.model.uffd.context import Reason
from pagewatch.model.vma import VM_MAYWRITE, VM_SHARED
from pagewatch.steps import READ, access


def write_protect_fault(fault: Fault) -> Outcome:
    """A write (or unshare) hit a present entry without write permission.

    Called with the table's lock held and the entry equal to ``fault.spot.entry``; returns with it dropped.
    """
    mm, vma, fmt, lock = fault.mm, fault.vma, fault.fmt, fault.table.lock
    if fault.writing and vma.uffd_wp:
        if fmt.flags(fault.spot.entry) & UFFD_WP:
            if not vma.wp_async:
                lock.release()
                return notify(fault, Reason.WP)
            # Nothing to flush: the entry stays read-only, in the table as in every TLB.
            fault.set_entry(fmt.clear_uffd_wp(fault.spot.entry), "fault: resolve write-protection")
        # A protection whose flush is still pending must not let a stale writable
        # translation write into the page while it is being copied.
        access(("pending flushes", mm.id), READ, "fault: a flush pending?")
        if mm.pending_flushes:
            flush_range(mm, fault.address, fault.address + mm.machine.page_bytes)
    folio = folio_at(mm.machine, fmt, fault.spot.entry)
    if vma.flags & (VM_SHARED | VM_MAYWRITE) == VM_SHARED | VM_MAYWRITE:
        return _write_shared(fault, folio)
    if folio is not None and folio.anon and _may_reuse(fault, folio):
        if fault.access is not Access.UNSHARE:
            _reuse(fault)
        lock.release()
        return Outcome.DONE
    return _copy(fault, folio)


def _write_shared(fault: Fault, folio: Folio | None) -> Outcome:
    """A shared page: tell the file system, then make it writable (``wp_page_shared``)."""
    lock, file = fault.table.lock, fault.vma.file
    if fault.access is Access.UNSHARE:
        lock.release()
        return Outcome.DONE
    if file is None or file.mkwrite is None:
        _reuse_shared(fault, folio)
        lock.release()
        return Outcome.DONE
    lock.release()  # the hook may wait
    with announcing_write(fault), lock:
        if fault.unchanged():
            _reuse_shared(fault, folio)
    return Outcome.DONE


def _reuse_shared(fault: Fault, folio: Folio | None) -> None:
    if folio is not None:
        set_dirty(folio, "fault: dirty shared page")
    _reuse(fault)


def _may_reuse(fault: Fault, folio: Folio) -> bool:
    """Whether nobody else can see the anonymous page (``wp_can_reuse_anon_folio``); it is exclusive then."""
    page = fault.fmt.pfn(fault.spot.entry) - folio.pfn
    if is_exclusive(folio, page, "fault: exclusive?"):
        return True
    # A swap cache that still holds the folio serves another entry, so its reference says "shared".
    if folio.order or fault.mm.machine.memory.count(folio, "fault: count references") > 1:
        return False
    set_exclusive(folio, page, "fault: exclusive now")
    return True


def _reuse(fault: Fault) -> None:
    """Make the entry writable in place (``wp_page_reuse``)."""
    fmt = fault.fmt
    entry = maybe_mkwrite(fmt, fmt.mkdirty(fmt.mkyoung(fault.spot.entry)), fault.vma)
    fault.set_entry(entry, "fault: make writable")


def _copy(fault: Fault, old: Folio | None) -> Outcome:
    """Give the area a copy of its own (``wp_page_copy``); drops the lock, copies, and looks again."""
    mm, vma, fmt = fault.mm, fault.vma, fault.fmt
    machine = mm.machine
    memory, entry = machine.memory, fault.spot.entry
    if old is not None:
        memory.get(old, "copy: hold the old page")
    fault.table.lock.release()
    if not has_root(fault):
        if old is not None:
            memory.put(old, "copy: retry")
        return Outcome.RETRY
    new = memory.alloc()
    if old is not None:
        memory.copy_page(new, 0, old, fmt.pfn(entry) - old.pfn, "copy: page")
    start, end = fault.address, fault.address + machine.page_bytes
    with invalidating(mm, Event.CLEAR, start, end), fault.table.lock:
        replaced = fault.unchanged()
        if replaced:
            # Clear and flush before the new page is mapped: no CPU may read the old
            # page after another has written the new one.
            cleared = fault.table.exchange(fault.spot.slot, 0, "copy: clear the old entry")
            flush_range(mm, start, end)
            map_anon(mm, vma, new, fault.address)
            fault.set_entry(_entry_of_copy(fault, new, cleared), "copy: map the new page")
            if machine.quirks.notifier_change_pte:
                change_secondary(mm, fault.address, new.pfn)
            if old is not None:
                keep_dirty(None if old.anon else old, fmt, cleared)
                unmap(old)
    if old is not None:
        memory.put(old, "copy: release the old page", 1 + replaced)
    if not replaced:
        memory.put(new, "copy: lost the race")
    return Outcome.DONE


def _entry_of_copy(fault: Fault, new: Folio, old_entry: int) -> int:
    """Writable and dirty without the protection bit; for unshare read-only with the old tracking bits."""
    fmt = fault.fmt
    entry = fmt.leaf(new.pfn, leaf_flags(fault.mm.machine, fault.vma))
    if fault.access is not Access.UNSHARE:
        return maybe_mkwrite(fmt, fmt.mkdirty(entry), fault.vma)
    flags = fmt.flags(old_entry)
    if flags & SOFT_DIRTY:
        entry = fmt.mksoft_dirty(entry)
    return fmt.mkuffd_wp(entry) if flags & UFFD_WP else entry
