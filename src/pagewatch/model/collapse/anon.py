"""Collapse of anonymous memory: copy small pages into a huge one, and map that (``collapse_huge_page``).

The order is everything. With the mmap lock held for writing, nobody faults; with the reverse-mapping root
locked, nobody finds the pages from below. What is left are CPUs that store, and walkers without locks:

1. The directory entry is cleared and the range flushed. No CPU stores any more, and none can come back.
2. An interrupt goes to all CPUs: walkers with interrupts off that saw the old entry are through now.
3. Only then are the pages' counts compared with what maps them: a pin taken before is seen, and a walker
   that comes later sees the cleared directory entry.

Where fast GUP looks at the directory entry again, 2 is not needed for it: it gives the page back. The hash
MMU of powerpc needs it still: its translations are inserted by software with interrupts off, and one that
was under way would let a CPU store into the old page while it is copied.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF, WRITE
from pagewatch.model.collapse.find import find_directory, revalidate
from pagewatch.model.collapse.result import Result
from pagewatch.model.fault.handle import handle
from pagewatch.model.fault.state import Access, Fault, Outcome, entry_is_wp, leaf_flags, maybe_mkwrite
from pagewatch.model.folioflags import is_exclusive
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at, map_anon, unmap
from pagewatch.model.rmap import prepare_anon_vma
from pagewatch.model.thp import Purpose, huge_order
from pagewatch.model.tlb import flush_range, sync_cpus
from pagewatch.model.vma import VM_UFFD
from pagewatch.model.walk import Spot, locked, seek

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table
    from pagewatch.model.vma import Vma

MAX_SWAP_DIVISOR = 8
"""The daemon reads in at most an eighth of the pages (``max_ptes_swap``)."""
MAX_SHARED_DIVISOR = 2
"""The daemon copies at most half of them from pages that others map, too (``max_ptes_shared``)."""


@dataclass(slots=True)
class _Found:
    """What a table holds."""

    result: Result = Result.SUCCEED
    sources: dict[int, "Folio"] = field(default_factory=dict)
    """Index -> folio of every entry that maps memory."""
    absent: list[int] = field(default_factory=list)
    """Indexes of entries that are neither empty nor present."""
    empty: int = 0
    shared: int = 0
    writable: int = 0


def collapse_anon(mm: "Mm", start: int, purpose: Purpose) -> Result:
    """Collapse the range of one huge page; takes the locks itself (``hpage_collapse_scan_pmd``)."""
    with mm.mmap_lock.shared:
        vma = revalidate(mm, start, purpose)
        if vma is None or not vma.anonymous:
            return Result.VMA_CHECK
        found = _look(mm, vma, start, purpose)
        if found.result is Result.SUCCEED:
            found.result = _bring_in(mm, vma, start, found.absent)
    if found.result is not Result.SUCCEED:
        return found.result
    folio = mm.machine.memory.alloc(huge_order(mm.machine))
    with mm.write_locked():
        vma = revalidate(mm, start, purpose)
        result = Result.VMA_CHECK if vma is None or not vma.anonymous else _replace(mm, vma, start, folio)
    if result is not Result.SUCCEED:
        mm.machine.memory.put(folio, "collapse: not needed")
    return result


def _look(mm: "Mm", vma: "Vma", start: int, purpose: Purpose) -> _Found:
    """Whether it is worth the effort; nothing is changed, and all is checked again later."""
    _, result = find_directory(mm, start)
    if result is not Result.SUCCEED:
        return _Found(result)
    spot = seek(mm, start, "collapse: look")
    if spot.level:
        return _Found(Result.FAIL)
    with locked(spot) as stands:
        found = _survey(mm, vma, spot.table) if stands else _Found(Result.FAIL)
    n_pages = 1 << huge_order(mm.machine)
    if purpose is Purpose.KHUGEPAGED and found.result is Result.SUCCEED:
        if len(found.absent) > n_pages // MAX_SWAP_DIVISOR:
            found.result = Result.EXCEED_SWAP_PTE
        elif found.shared > n_pages // MAX_SHARED_DIVISOR:
            found.result = Result.EXCEED_SHARED_PTE
        elif found.empty == n_pages:
            found.result = Result.EXCEED_NONE_PTE
    return found


def _survey(mm: "Mm", vma: "Vma", table: "Table") -> _Found:
    """Look at every entry, the table's lock held; stops at the first that forbids a collapse."""
    machine, fmt = mm.machine, table.fmt
    found = _Found()
    for index in range(1 << fmt.index_bits):
        entry = table.read(index, "collapse: look at entry")
        if not entry or (fmt.kind(entry) == LEAF and fmt.pfn(entry) == machine.memory.zero.pfn):
            # Whoever watches the area was promised to be told of what is missing.
            found.empty += 1
            if vma.flags & VM_UFFD:
                found.result = Result.EXCEED_NONE_PTE
        elif entry_is_wp(fmt, entry):
            found.result = Result.PTE_UFFD_WP
        elif fmt.kind(entry) != LEAF:
            found.absent.append(index)
        else:
            folio = folio_at(machine, fmt, entry)
            found.result = _check_source(machine, folio)
            if folio is not None:
                found.sources[index] = folio
                found.shared += not is_exclusive(folio, fmt.pfn(entry) - folio.pfn, "collapse: exclusive?")
                found.writable += bool(fmt.flags(entry) & WRITE)
        if found.result is not Result.SUCCEED:
            return found
    if machine.quirks.collapse_needs_writable_page and not found.writable:
        found.result = Result.PAGE_RO
    return found


def _check_source(machine: "Machine", folio: "Folio | None") -> Result:
    """Whether a page may be replaced by a copy: nobody holds it but who maps it (``is_refcount_suitable``)."""
    if folio is None:
        return Result.PAGE_NULL
    if not folio.anon:
        return Result.PAGE_ANON
    memory = machine.memory
    cached = machine.swap.holds(folio, "collapse: in the swap cache?")
    expected = memory.count_maps(folio, "collapse: count leaves") + cached
    held = memory.count(folio, "collapse: count references")
    return Result.SUCCEED if held == expected else Result.PAGE_COUNT


def _bring_in(mm: "Mm", vma: "Vma", start: int, indexes: list[int]) -> Result:
    """Read swapped pages in, by faults (``__collapse_huge_page_swapin``); markers end it."""
    for index in indexes:
        address = start + (index << mm.machine.page_shift)
        fault = Fault(mm, vma, address, Access.READ, user=False, per_vma=False)
        if handle(fault) is not Outcome.DONE:
            return Result.FAIL
    return Result.SUCCEED


def _replace(mm: "Mm", vma: "Vma", start: int, folio: "Folio") -> Result:
    """Put the huge page in place of the table, the mmap lock held for writing."""
    machine, end = mm.machine, start + mm.machine.thp_bytes
    spot, result = find_directory(mm, start)
    if result is not Result.SUCCEED:
        return result
    mm.lock_vma(vma)
    with prepare_anon_vma(mm, vma).lock.exclusive:
        with invalidating(mm, Event.CLEAR, start, end), spot.table.lock:
            directory = _clear_and_flush(mm, spot, start)
        if not machine.quirks.collapse_sends_no_interrupt:
            sync_cpus(mm)
        table = machine.tables.below(spot.table, directory)
        found = _isolate(mm, vma, table)
        if found.result is not Result.SUCCEED:
            with spot.table.lock:
                spot.table.write(spot.slot, directory, "collapse: put the table back")
            return found.result
    _copy(mm, table, found, folio)
    with spot.table.lock:
        fmt = spot.fmt
        entry = maybe_mkwrite(fmt, fmt.mkdirty(fmt.leaf(folio.pfn, leaf_flags(machine, vma))), vma)
        map_anon(mm, vma, folio, start, n_pages=folio.n_pages)
        spot.table.write(spot.slot, entry, "collapse: map huge")
    machine.rcu.call(lambda: machine.tables.free(table))
    return Result.SUCCEED


def _clear_and_flush(mm: "Mm", spot: Spot, start: int) -> int:
    """Clear the directory entry, and let no CPU translate by it any more (``pmdp_collapse_flush``)."""
    machine = mm.machine
    directory = spot.table.exchange(spot.slot, 0, "collapse: clear the directory entry")
    if machine.hashed and not machine.quirks.collapse_sends_no_interrupt:
        # serialize_against_pte_lookup(): a hash fault under way may yet insert a translation.
        sync_cpus(mm)
    flush_range(mm, start, start + machine.thp_bytes)
    return directory


def _isolate(mm: "Mm", vma: "Vma", table: "Table") -> _Found:
    """Lock every page, and make sure that nobody else holds it (``__collapse_huge_page_isolate``)."""
    with table.lock:
        found = _survey(mm, vma, table)
        if found.absent and found.result is Result.SUCCEED:
            found.result = Result.PTE_NON_PRESENT
        if found.result is not Result.SUCCEED:
            return found
        taken: list[Folio] = []
        for folio in dict.fromkeys(found.sources.values()):
            if not folio.lock.try_acquire():
                found.result = Result.PAGE_LOCK
                break
            taken.append(folio)
        if found.result is not Result.SUCCEED:
            for folio in taken:
                folio.lock.release()
    return found


def _copy(mm: "Mm", table: "Table", found: _Found, target: "Folio") -> None:
    """Copy what is there and let go of it; what is not there is zeros (``__collapse_huge_page_copy``)."""
    memory, fmt = mm.machine.memory, table.fmt
    for index, folio in found.sources.items():
        page = fmt.pfn(table.read(index, "collapse: source")) - folio.pfn
        memory.copy_page(target, index, folio, page, "collapse: copy")
    for folio in dict.fromkeys(found.sources.values()):
        folio.lock.release()
    for index in list(table.entries):
        with table.lock:
            table.write(index, 0, "collapse: clear entry")
        source = found.sources.get(index)
        if source is not None:
            unmap(source)
            memory.put(source, "collapse: release the small page")
