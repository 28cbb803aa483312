"""Collapse of shared memory: one huge folio takes the place of small ones in the page cache (``collapse_file``).

The small folios are locked and unmapped everywhere; protection stays behind as markers. Who looks them up
meanwhile waits for their locks, and then finds them gone. Holes are filled with zeros, so where a
userfaultfd was promised to hear of missing pages, everything is rolled back.
"""

from typing import TYPE_CHECKING

from pagewatch.model.collapse.result import Result
from pagewatch.model.collapse.retract import retract_page_tables
from pagewatch.model.thp import Purpose, huge_order
from pagewatch.model.unmap import unmap_file_folio
from pagewatch.model.vma import VM_UFFD_MISSING

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping
    from pagewatch.model.memory import Folio


def collapse_file(file: "FileMapping", first: int, purpose: Purpose) -> Result:
    """Collapse page offsets from ``first`` on; the caller holds no lock (``hpage_collapse_scan_file``)."""
    order = huge_order(file.machine)
    cached = [file.cached(index) for index in range(first, first + (1 << order))]
    if any(folio is not None and folio.order == order for folio in cached):
        return Result.PTE_MAPPED_HUGEPAGE
    if not any(cached) and not any(index in file.swapped for index in range(first, first + len(cached))):
        return Result.TRUNCATED
    new = file.machine.memory.alloc(order)
    new.lock.acquire()
    taken: list[Folio] = []
    result = _take(file, first, len(cached), taken)
    if result is Result.SUCCEED:
        result = _fill(file, first, new, taken)
    if result is Result.SUCCEED:
        retract_page_tables(file, first)
        if purpose is Purpose.COLLAPSE:
            result = Result.PTE_MAPPED_HUGEPAGE
    else:
        file.machine.memory.put(new, "collapse: not needed")
    for folio in taken:
        folio.lock.release()
        file.machine.memory.put(folio, "collapse: release the small page")
    new.lock.release()
    return result


def _take(file: "FileMapping", first: int, n_pages: int, taken: "list[Folio]") -> Result:
    """Lock, hold and unmap every folio of the range; make sure that nobody else holds one."""
    memory = file.machine.memory
    for index in range(first, first + n_pages):
        if index in file.swapped:
            memory.put(file.bring_in(index), "collapse: read in")
        folio = file.cached(index)
        if folio is None or folio in taken:
            continue
        if not folio.lock.try_acquire():
            return Result.PAGE_LOCK
        if folio.mapping is not file:
            folio.lock.release()
            return Result.PAGE_LOCK
        memory.get(folio, "collapse: hold")
        taken.append(folio)
        unmap_file_folio(file, folio)
        if memory.count(folio, "collapse: count references") != 2:  # the page cache's and ours
            return Result.PAGE_COUNT
    return Result.SUCCEED


def _fill(file: "FileMapping", first: int, new: "Folio", taken: "list[Folio]") -> Result:
    """Copy, and put the huge folio into the cache in one step, as under the lock of the cache's tree."""
    memory = file.machine.memory
    for folio in taken:
        for page in range(folio.n_pages):
            memory.copy_page(new, folio.index - first + page, folio, page, "collapse: copy")
    indexes = range(first, first + new.n_pages)
    with file.i_mmap_lock.shared:
        file.announce_replacement("collapse: replace in the page cache")
        n_cached = len({found.pfn for index in indexes if (found := file.folios.get(index)) is not None})
        if n_cached != len(taken):
            return Result.PAGE_FILLED
        has_holes = any(index not in file.folios for index in indexes)
        if has_holes and _missing_is_watched(file, first, new.n_pages):
            return Result.EXCEED_NONE_PTE
        for folio in taken:
            folio.mapping = None
        new.raw_dirty = True
        file.insert(first, new)
        for folio in taken:
            memory.put(folio, "collapse: out of the page cache")  # ours is left
    return Result.SUCCEED


def _missing_is_watched(file: "FileMapping", first: int, n_pages: int) -> bool:
    """Also where only the page behind is watched: the kernel gives its interval tree the end for the last page."""
    shift = file.machine.page_shift
    return any(
        vma.flags & VM_UFFD_MISSING
        and vma.address_of(first, shift) < vma.end
        and vma.start <= vma.address_of(first + n_pages, shift)
        for _, vma in file.areas
    )
