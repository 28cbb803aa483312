"""Memory that failed (mm/memory-failure.c), and where it stays known as failed.

Failed memory is taken out of every mapping. What can be read again from a file is simply unmapped; what is
lost leaves hwpoison entries, which carry the frame, and any access ends in SIGBUS. The frame is never
given back.

A snapshot or a virtual machine that moves takes poison along by address: where :func:`poisoned_addresses`
finds it on one side, UFFDIO_POISON puts markers on the other. A marker carries no frame, for there is no
failed frame there; the fault ends in the same way, and is logged in the same way.
"""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import HWPOISON, LEAF, MARKER_POISON
from pagewatch.model.file import FileKind
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import keep_dirty, unmap
from pagewatch.model.rmap import mappings_of
from pagewatch.model.tlb import flush_range
from pagewatch.model.walk import locked, locked_spans, seek

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm


def memory_failure(machine: "Machine", pfn: int) -> None:
    """A frame has failed: take it out of use (``memory_failure``, ``hwpoison_user_mappings``).

    A frame that nobody uses, or the zero page, is only logged.
    """
    folio = machine.memory.find(pfn)
    machine.log.append(f"Memory failure: {pfn:#x}")
    if folio is None or folio.poisoned or not (folio.anon or folio.mapping):
        return
    folio.poisoned = True
    machine.memory.get(folio, "memory failure: keep for ever")
    for mm, _, address in _mapped_at(machine, folio):
        _collect_dirty(mm, folio, address)
    lost = folio.anon or folio.dirty or folio.mapping is None or folio.mapping.kind is not FileKind.DISK
    for mm, _, address in _mapped_at(machine, folio):
        _unmap_failed(mm, folio, address, lost=lost)
    if not lost and folio.mapping is not None:
        folio.mapping.remove(folio, "memory failure: drop from the page cache")


def poisoned_addresses(mm: "Mm", start: int, end: int) -> list[int]:
    """Pages of [start, end) (bytes) that are known as failed, be it for real or by a marker; ascending."""
    found = []
    for span in locked_spans(mm, start, end, "poison: walk"):
        if span.spot.level:
            continue
        fmt, table = span.spot.fmt, span.spot.table
        address = span.start
        for index in span.indexes:
            entry = table.read(index, "poison: look")
            if fmt.kind(entry) == HWPOISON or fmt.marker(entry) & MARKER_POISON:
                found.append(address)
            address += mm.machine.page_bytes
    return found


def _mapped_at(machine: "Machine", folio: "Folio") -> list[tuple["Mm", object, int]]:
    return list(mappings_of(machine, folio))


def _collect_dirty(mm: "Mm", folio: "Folio", address: int) -> None:
    """Whether the file's copy is out of date is known to the entries, too (``page_mkclean``)."""
    spot = seek(mm, address, "memory failure: look")
    if spot.kind == LEAF and spot.fmt.pfn(spot.entry) == folio.pfn:
        keep_dirty(folio, spot.fmt, spot.entry)


def _unmap_failed(mm: "Mm", folio: "Folio", address: int, *, lost: bool) -> None:
    end = address + mm.machine.page_bytes
    spot = seek(mm, address, "memory failure: reverse map")
    fmt, table = spot.fmt, spot.table
    with invalidating(mm, Event.CLEAR, address, end), locked(spot) as stands:
        entry = table.read(spot.slot, "memory failure: look") if stands else 0
        if fmt.kind(entry) != LEAF or fmt.pfn(entry) != folio.pfn:
            return
        table.exchange(spot.slot, 0, "memory failure: clear")
        flush_range(mm, address, end)
        if lost:
            table.write(spot.slot, fmt.pfn_entry(HWPOISON, folio.pfn), "memory failure: hwpoison entry")
        unmap(folio)
        mm.machine.memory.put(folio, "memory failure: unmap")
