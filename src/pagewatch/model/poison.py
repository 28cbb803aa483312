"""Memory that failed (mm/memory-failure.c), and where it stays known as failed.

Failed memory is taken out of every mapping. What can be read again from a file is simply unmapped; what is
lost leaves hwpoison entries, which carry the frame, and any access ends in SIGBUS. The frame is never
given back.

Only the page that failed goes: a transparent huge page is split first. Where that cannot be, because a device
or somebody else holds it, it stays mapped as it is. A page of hugetlb is never split and goes as a whole.

A snapshot or a virtual machine that moves takes poison along by address: where :func:`poisoned_addresses`
finds it on one side, UFFDIO_POISON puts markers on the other. A marker carries no frame, for there is no
failed frame there; the fault ends in the same way, and is logged in the same way.
"""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import HWPOISON, LEAF, MARKER_POISON
from pagewatch.model.file import FileKind
from pagewatch.model.folioflags import is_dirty, is_poisoned, set_poisoned
from pagewatch.model.foliosplit import try_split_folio
from pagewatch.model.hugetlb.entries import HugePage, find
from pagewatch.model.hugetlb.locks import owned_file, writing
from pagewatch.model.hugetlb.sharing import reach, unshare
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import keep_dirty, unmap
from pagewatch.model.rmap import mappings_of, rmap_locked
from pagewatch.model.tlb import flush_range
from pagewatch.model.walk import locked, locked_spans, seek

if TYPE_CHECKING:
    from pagewatch.model.arch.format import EntryFormat
    from pagewatch.model.machine import Machine
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm


def memory_failure(machine: "Machine", pfn: int) -> None:
    """A frame has failed: take it out of use (``memory_failure``, ``hwpoison_user_mappings``).

    A frame that nobody uses, or the zero page, is only logged. Failures are handled one at a time.
    """
    with machine.failing:
        machine.log.append(f"Memory failure: {pfn:#x}")
        _take_out_of_use(machine, pfn)


def _take_out_of_use(machine: "Machine", pfn: int) -> None:
    folio = machine.memory.find(pfn)
    if folio is None or not (folio.anon or folio.mapping) or is_poisoned(folio, "memory failure: known already?"):
        return
    if folio.hugetlb:
        if _keep(machine, folio):
            _fail_huge_page(machine, folio)
        return
    if folio.order:
        if not try_split_folio(machine, folio):
            machine.log.append(f"Memory failure: {pfn:#x}: recovery action for unsplit thp: Failed")
            return
        folio = machine.memory.find(pfn)
        if folio is None:
            return  # it was all zeros, and the zero page has taken its place
    if _keep(machine, folio):
        # Who is about to map the page has the lock: he is through then, or finds that it failed.
        with folio.lock:
            _fail_page(machine, folio)


def _keep(machine: "Machine", folio: "Folio") -> bool:
    """Hold a failed folio for ever; False if its last user has just let go of it (``get_hwpoison_page``)."""
    if not machine.memory.try_get_folio(folio, "memory failure: keep for ever"):
        return False
    set_poisoned(folio, "memory failure: poisoned now")
    return True


def _fail_page(machine: "Machine", folio: "Folio") -> None:
    with rmap_locked(folio):
        for mm, _, address in mappings_of(machine, folio):
            _collect_dirty(mm, folio, address)
    lost = (
        folio.anon
        or is_dirty(folio, "memory failure: dirty?")
        or folio.mapping is None
        or folio.mapping.kind is not FileKind.DISK
    )
    with rmap_locked(folio):
        for mm, _, address in mappings_of(machine, folio):
            _unmap_failed(mm, folio, address, lost=lost)
    if not lost and folio.mapping is not None:
        folio.mapping.remove(folio, "memory failure: drop from the page cache")


def _fail_huge_page(machine: "Machine", folio: "Folio") -> None:
    """All of a hugetlb page is lost; a file keeps it, so that nobody is given zeros instead (``me_huge_page``)."""
    with rmap_locked(folio):
        mappings = list(mappings_of(machine, folio))
    for mm, vma, address in mappings:
        with writing(machine, vma), owned_file(vma).i_mmap_lock.exclusive:
            page = find(mm, address, vma.page_bytes, "memory failure: reverse map")
            if page is not None:
                _unmap_huge_page(mm, page, folio)


def _unmap_huge_page(mm: "Mm", page: HugePage, folio: "Folio") -> None:
    start, end = page.start, page.start + page.n_bytes
    with invalidating(mm, Event.CLEAR, start, end), page.lock:
        if unshare(mm, page):
            flush_range(mm, *reach(mm, start))  # who shared the table finds the entry in it when he faults
            return
        fmt, entry = page.fmt, page.read("memory failure: look")
        if fmt.kind(entry) != LEAF or fmt.pfn(entry) != folio.pfn:
            return
        page.take("memory failure: clear")
        flush_range(mm, start, end)
        page.write(fmt.pfn_entry(HWPOISON, folio.pfn), "memory failure: hwpoison entry")
        unmap(folio)
        mm.machine.memory.put(folio, "memory failure: unmap")


def poisoned_addresses(mm: "Mm", start: int, end: int) -> list[int]:
    """Pages of [start, end) (bytes) that are known as failed, be it for real or by a marker; ascending.

    Of a huge page each small one.
    """
    found: list[int] = []
    for span in locked_spans(mm, start, end, "poison: walk"):
        fmt, table = span.spot.fmt, span.spot.table
        if span.spot.level:
            if _is_poison(fmt, span.spot.entry):
                found += range(span.start, span.end, mm.machine.page_bytes)
            continue
        address = span.start
        for index in span.indexes:
            if _is_poison(fmt, table.read(index, "poison: look")):
                found.append(address)
            address += mm.machine.page_bytes
    return found


def _is_poison(fmt: "EntryFormat", entry: int) -> bool:
    return fmt.kind(entry) == HWPOISON or bool(fmt.marker(entry) & MARKER_POISON)


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
