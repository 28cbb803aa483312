"""Reclaim: moving pages out of memory (``try_to_unmap``, ``shrink_folio_list``), here for MADV_PAGEOUT.

Only folios mapped once are taken, as MADV_PAGEOUT does. Tracking bits live on in the swap entry; a file
page's protection lives on as a marker.
"""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import EXCLUSIVE, LEAF, SOFT_DIRTY, UFFD_WP
from pagewatch.model.file import FileKind
from pagewatch.model.folioflags import is_dirty, is_exclusive, is_lazy_free
from pagewatch.model.foliosplit import split_large_folios
from pagewatch.model.gather import Gather, Zap
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at, keep_dirty, unmap
from pagewatch.model.swap import SWAP_TYPE
from pagewatch.model.tlb import flush_range
from pagewatch.model.walk import locked_spans
from pagewatch.model.zap import leave_marker

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table
    from pagewatch.model.vma import Vma


def page_out(mm: "Mm", vma: "Vma", start: int, end: int) -> None:
    """Reclaim what [start, end) of an area maps (bytes).

    A huge page goes to swap page by page: that is what its slots look like. Without swap it is split in vain.
    """
    split_large_folios(mm, start, end, whole=True, zero_pages=not mm.machine.swap.on)
    with invalidating(mm, Event.CLEAR, start, end):
        for span in locked_spans(mm, start, end, "page out: walk"):
            if span.spot.level:
                continue
            table, address = span.spot.table, span.start
            for index in span.indexes:
                _page_out_entry(mm, vma, table, index, address)
                address += mm.machine.page_bytes


def _can_leave(machine: "Machine", folio: "Folio") -> bool:
    """Whether a page is ours alone, not pinned, and has somewhere to go."""
    memory = machine.memory
    if folio.order or memory.count_maps(folio, "page out: count leaves") != 1:
        return False
    if memory.look_for_pins(folio, "page out: pinned already?"):
        return False
    return not folio.anon or machine.swap.on or is_lazy_free(folio, "page out: may be dropped?")


def _page_out_entry(mm: "Mm", vma: "Vma", table: "Table", index: int, address: int) -> None:
    fmt, machine = table.fmt, mm.machine
    entry = table.read(index, "page out: look")
    folio = folio_at(machine, fmt, entry) if fmt.kind(entry) == LEAF else None
    if folio is None or not _can_leave(machine, folio):
        return
    # Clear and flush first: nobody may write to the page while it is written out.
    entry = table.exchange(index, 0, "page out: clear")
    flush_range(mm, address, address + machine.page_bytes)
    if machine.memory.look_for_pins(folio, "page out: look for pins"):
        # Fast GUP may have taken it before the entry was cleared (folio_try_share_anon_rmap_pte).
        table.write(index, entry, "page out: put back")
        return
    if folio.anon:
        _page_out_anon(mm, table, index, entry, folio)
    else:
        leave_marker(vma, table, index, entry, Zap.DONTNEED)
        keep_dirty(folio, fmt, entry)
    gather = Gather(mm)
    gather.add(address, machine.page_bytes, folio)
    unmap(folio)
    gather.finish()
    # Who writes to the file holds the folio's lock, and looks whether it is still the file's.
    if not folio.anon and folio.lock.try_acquire():
        _drop_cached(folio)
        folio.lock.release()


def _page_out_anon(mm: "Mm", table: "Table", index: int, entry: int, folio: "Folio") -> None:
    fmt, swap = table.fmt, mm.machine.swap
    flags = fmt.flags(entry)
    keep_dirty(folio, fmt, entry)
    if is_lazy_free(folio, "page out: may be dropped?") and not is_dirty(folio, "page out: dirty?"):
        return  # MADV_FREE, and not written since: the contents go, and the entry stays empty
    words = folio.words.get(0, {})
    offset = folio.swap_slot[1] if folio.swap_slot is not None else 0
    if folio.swap_slot is None or not swap.write_again(offset, words):
        offset = swap.write_out(words)
    kept = flags & (SOFT_DIRTY | UFFD_WP) | (EXCLUSIVE if is_exclusive(folio, 0, "page out: exclusive?") else 0)
    table.write(index, fmt.swap_entry(SWAP_TYPE, offset, kept), "page out: swap entry")


def _drop_cached(folio: "Folio") -> None:
    """Write a file folio that nobody maps any more to where it belongs, and drop it; its lock is held."""
    file, index = folio.mapping, folio.index
    if file is None or file.machine.memory.count_maps(folio, "page out: count leaves"):
        return
    if file.machine.memory.count(folio, "page out: count references") > 1:
        return
    if file.kind is FileKind.DISK:
        if is_dirty(folio, "page out: dirty?"):
            file.write_back(index)
        file.remove(folio, "page out: page cache")
    elif file.kind is FileKind.SHMEM and not is_dirty(folio, "page out: dirty?"):
        file.remove(folio, "page out: nothing to keep")  # zeros that were only read: a hole again
    elif file.kind is FileKind.SHMEM and file.machine.swap.on:
        file.swap_out(index, file.machine.swap)
