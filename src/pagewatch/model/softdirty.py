"""clear_refs: forgetting that pages were written or accessed (fs/proc/task_mmu.c).

The address space is held for writing over change and flush: under the reading lock, writes were once lost.

Still lost are writes to a page that was on a device when its bit was cleared. Of an entry that is not present only
the bit goes; a writable one is restored writable when the page comes back, so its first store does not fault.
"""

import errno
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF, MARKER, NONE, SOFT_DIRTY, YOUNG
from pagewatch.model.errors import os_error
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at
from pagewatch.model.tlb import flush_mm
from pagewatch.model.vma import VM_PFNMAP, VM_SOFTDIRTY
from pagewatch.model.walk import locked_spans

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table
    from pagewatch.model.vma import Vma

CLEAR_ALL = 1
CLEAR_ANON = 2
CLEAR_FILE = 3
CLEAR_SOFT_DIRTY = 4
RESET_PEAK = 5


def clear_refs(mm: "Mm", text: str) -> None:
    """Write to /proc/PID/clear_refs.

    :raises OSError: EINVAL unless the text is a number from 1 to 5; ESRCH after exit.
    """
    try:
        kind = int(text.strip(), 10)
    except ValueError:
        raise os_error(errno.EINVAL, "clear_refs") from None
    if not CLEAR_ALL <= kind <= RESET_PEAK:
        raise os_error(errno.EINVAL, "clear_refs")
    mm.check_alive("clear_refs", errno.ESRCH)
    if kind == CLEAR_SOFT_DIRTY:
        _clear_soft_dirty(mm)
    elif kind != RESET_PEAK:
        _clear_accessed(mm, kind)


def _clear_soft_dirty(mm: "Mm") -> None:
    # Without the configuration option the call succeeds and tracks nothing.
    tracks = mm.machine.quirks.soft_dirty and bool(mm.machine.fmt.at[0].supported & SOFT_DIRTY)
    with mm.write_locked(), invalidating(mm, Event.SOFT_DIRTY, 0, mm.top):
        for vma in mm.vmas:
            if not tracks or vma.flags & VM_PFNMAP or vma.hugetlb:
                continue
            mm.lock_vma(vma)
            vma.flags &= ~VM_SOFTDIRTY
            for span in locked_spans(mm, vma.start, vma.end, "clear_refs: walk"):
                if not span.hole:
                    for index in span.indexes:
                        _clear_entry(mm, span.spot.table, index)
        flush_mm(mm)


def _clear_entry(mm: "Mm", table: "Table", index: int) -> None:
    """Write-protect and clear the bit (``clear_soft_dirty``); a pinned page stays writable and dirty."""
    fmt = table.fmt
    entry = table.read(index, "clear_refs: look")
    kind = fmt.kind(entry)
    if kind == LEAF:
        folio = folio_at(mm.machine, fmt, entry)
        anon = folio if folio is not None and folio.anon else None
        if anon is not None and mm.machine.memory.look_for_pins(anon, "clear_refs: look for pins"):
            return
        entry = table.take_out(index, "clear_refs: take out")
        table.write(index, fmt.clear_soft_dirty(fmt.wrprotect(entry)), "clear_refs: put back")
    elif kind not in (NONE, MARKER) and fmt.flags(entry) & SOFT_DIRTY:
        table.write(index, fmt.swp_clear_soft_dirty(entry), "clear_refs: clear absent")


def _clear_accessed(mm: "Mm", kind: int) -> None:
    with mm.mmap_lock.shared:
        for vma in mm.vmas:
            if _skipped(vma, kind):
                continue
            for span in locked_spans(mm, vma.start, vma.end, "clear_refs: walk"):
                if span.hole:
                    continue
                table = span.spot.table
                for index in span.indexes:
                    if table.fmt.kind(table.read(index, "clear_refs: look")) == LEAF:
                        table.forget(index, YOUNG, "clear_refs")
        flush_mm(mm)


def _skipped(vma: "Vma", kind: int) -> bool:
    return vma.hugetlb or (kind == CLEAR_ANON and vma.file is not None) or (kind == CLEAR_FILE and vma.file is None)
