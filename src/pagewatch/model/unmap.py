"""Unmapping one folio wherever it is mapped (``try_to_unmap``): found from below, through the reverse mapping."""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF
from pagewatch.model.gather import Zap
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at, keep_dirty, unmap
from pagewatch.model.rmap import mappings_of
from pagewatch.model.thp import split_huge
from pagewatch.model.tlb import flush_range
from pagewatch.model.walk import Span, locked_spans
from pagewatch.model.zap import leave_marker

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def unmap_file_folio(file: "FileMapping", folio: "Folio") -> None:
    """Take a page-cache folio out of every area; where it was protected a marker stays.

    The caller holds the folio's lock and a reference.
    """
    shift = file.machine.page_shift
    with file.i_mmap_lock.shared:
        for mm, vma, address in mappings_of(file.machine, folio):
            start, end = max(vma.start, address), min(vma.end, address + (folio.n_pages << shift))
            split_huge(mm, vma, start)
            with invalidating(mm, Event.CLEAR, start, end):
                for span in locked_spans(mm, start, end, "unmap: walk"):
                    if span.spot.level == 0:
                        _unmap_span(mm, vma, span, folio)


def _unmap_span(mm: "Mm", vma: "Vma", span: Span, folio: "Folio") -> None:
    table, fmt = span.spot.table, span.spot.table.fmt
    found = False
    for index in span.indexes:
        entry = table.read(index, "unmap: look")
        if fmt.kind(entry) != LEAF or folio_at(mm.machine, fmt, entry) is not folio:
            continue
        entry = table.exchange(index, 0, "unmap: clear")
        keep_dirty(folio, fmt, entry)
        leave_marker(vma, table, index, entry, Zap.DONTNEED)
        unmap(folio)
        mm.machine.memory.put(folio, "unmap: one leaf fewer")
        found = True
    if found:
        flush_range(mm, span.start, span.end)
