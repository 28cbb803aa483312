"""Taking page tables from mappings whose file has become huge there (``retract_page_tables``).

Nobody's mmap lock is held: that of each mapping would be needed, and they may be many. What protects is
the lock of the new folio, which faults wait for, so the tables should stay empty. Two kinds of entries do
not come from the page cache, though: private copies, and the markers of userfaultfd and guards. Areas that
can have those are left out, and that is looked at *again* under the table's lock: an area may be registered
after the first look, and its markers would go with the table.
"""

from typing import TYPE_CHECKING

from pagewatch.model.collapse.find import find_directory
from pagewatch.model.collapse.result import Result
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.rmap import root_of
from pagewatch.model.thp import huge_start
from pagewatch.model.tlb import flush_range
from pagewatch.model.vma import VM_MAYBE_GUARD
from pagewatch.model.walk import seek

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping
    from pagewatch.model.machine import Machine
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table
    from pagewatch.model.vma import Vma


def retract_page_tables(file: "FileMapping", first: int) -> None:
    """Free the table of every mapping of the page offsets from ``first`` on that can spare it."""
    shift = file.machine.page_shift
    with file.i_mmap_lock.shared:
        for mm, vma in tuple(file.areas):
            start = vma.address_of(first, shift)
            if huge_start(mm, vma, start) == start and _is_retractable(vma, "retract: look at the area"):
                _retract(mm, vma, start)


def _is_retractable(vma: "Vma", label: str) -> bool:
    """Whether all of an area's entries are the page cache's (``file_backed_vma_is_retractable``)."""
    return root_of(vma, label) is None and not vma.uffd_wp and not vma.flags & VM_MAYBE_GUARD


def _retract(mm: "Mm", vma: "Vma", start: int) -> None:
    machine, end = mm.machine, start + mm.machine.thp_bytes
    if find_directory(mm, start)[1] is not Result.SUCCEED:
        return
    with invalidating(mm, Event.CLEAR, start, end):
        spot = seek(mm, start, "retract: find")
        parent = spot.parent
        if spot.level or parent is None:
            return
        with parent.table.lock, spot.table.lock:
            directory = parent.table.read(parent.slot, "retract: recheck the directory entry")
            stands = directory == parent.entry
            if not machine.quirks.retract_skips_recheck:
                stands = stands and _is_retractable(vma, "retract: recheck the area")
            if not stands:
                return
            parent.table.exchange(parent.slot, 0, "retract: clear the directory entry")
            flush_range(mm, start, end)
    free_deferred(machine, spot.table)


def free_deferred(machine: "Machine", table: "Table") -> None:
    """Free a table when nobody without a lock can be in it any more (``pte_free_defer``)."""
    if machine.quirks.retract_frees_at_once:
        machine.tables.free(table)
    else:
        machine.rcu.call(lambda: machine.tables.free(table))
