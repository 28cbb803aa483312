"""Faults on anonymous memory that is not there yet (``do_anonymous_page``)."""

from pagewatch.model.fault.notify import notify
from pagewatch.model.fault.state import Fault, Outcome, has_root, leaf_flags, maybe_mkwrite
from pagewatch.model.pages import map_anon, zero_leaf
from pagewatch.model.uffd.context import Reason
from pagewatch.model.vma import VM_UFFD_MISSING


def anonymous_fault(fault: Fault) -> Outcome:
    """Map the zero page for a read, a fresh page for a write.

    If the entry was a write-protect marker, the new one is protected: a write then faults a second time.
    """
    if not fault.have_table():
        return Outcome.DONE
    mm, vma = fault.mm, fault.vma
    machine, fmt = mm.machine, fault.fmt
    flags = leaf_flags(machine, vma)
    if not fault.writing:
        folio = None
        entry = zero_leaf(machine, fmt, flags)
    else:
        if not has_root(fault):
            return Outcome.RETRY
        folio = machine.memory.alloc()
        entry = maybe_mkwrite(fmt, fmt.mkdirty(fmt.leaf(folio.pfn, flags)), vma)
    with fault.table.lock:
        changed = not fault.unchanged()
        missing = not changed and vma.flags & VM_UFFD_MISSING
        if not changed and not missing:
            if folio is not None:
                map_anon(mm, vma, folio, fault.address)
            if fault.was_wp():
                entry = fmt.mkuffd_wp(entry)
            fault.set_entry(entry, "fault: map anonymous")
    if (changed or missing) and folio is not None:
        machine.memory.put(folio, "fault: not needed")
    return notify(fault, Reason.MISSING) if missing else Outcome.DONE
