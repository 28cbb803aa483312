"""MADV_FREE: pages whose contents may be dropped until they are written again."""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import DIRTY, LEAF, MARKER, MARKER_POISON, SWAP, YOUNG
from pagewatch.model.folioflags import clear_dirty, set_lazy_free
from pagewatch.model.foliosplit import split_large_folios
from pagewatch.model.pages import folio_at
from pagewatch.model.tlb import flush_range
from pagewatch.model.walk import locked_spans

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table


def mark_lazy_free(mm: "Mm", start: int, end: int) -> None:
    """Make anonymous leaves clean, so that reclaim may drop them; swapped pages are dropped at once."""
    split_large_folios(mm, start, end, whole=False)
    for span in locked_spans(mm, start, end, "lazy free: walk"):
        if span.hole or span.partial:
            continue  # a huge page that could not be split
        changed = [_mark(mm, span.spot.table, index) for index in span.indexes]
        if any(changed):
            flush_range(mm, span.start, span.end)


def _mark(mm: "Mm", table: "Table", index: int) -> bool:
    fmt, machine = table.fmt, mm.machine
    entry = table.read(index, "lazy free: look")
    kind = fmt.kind(entry)
    if kind == SWAP:
        table.write(index, 0, "lazy free: drop")
        machine.swap.release(machine.memory, fmt.swap(entry)[1])
    elif kind == MARKER and fmt.marker(entry) & MARKER_POISON:
        table.write(index, 0, "lazy free: drop")
    if kind != LEAF:
        return False
    folio = folio_at(machine, fmt, entry)
    if folio is None or not folio.anon:
        return False
    if machine.memory.count_maps(folio, "lazy free: count leaves") != (1 if fmt.level else folio.n_pages):
        return False
    clear_dirty(folio, "lazy free: clean")
    set_lazy_free(folio, "lazy free: may be dropped")
    if not fmt.flags(entry) & (DIRTY | YOUNG):
        return False
    table.forget(index, DIRTY | YOUNG, "lazy free")
    return True
