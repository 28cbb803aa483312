"""Taking pages away from a file: truncation and hole punching (mm/truncate.c, ``unmap_mapping_range``)."""

from typing import TYPE_CHECKING

from pagewatch.model.file import FileMapping
from pagewatch.model.memory import store_bytes
from pagewatch.model.zap import Zap, zap_range

if TYPE_CHECKING:
    from pagewatch.model.memory import Folio


def truncate(file: FileMapping, n_bytes: int) -> None:
    """Set a file's size; what lies beyond goes, from private copies too. Protection stays, as markers."""
    page = file.machine.page_bytes
    old_pages, file.n_bytes = file.n_pages, n_bytes
    if n_bytes & page - 1:
        _zero(file, n_bytes, page - (n_bytes & page - 1))
    unmap_pages(file, file.n_pages, old_pages, Zap.TRUNCATE)
    _drop_pages(file, file.n_pages, old_pages)


def punch_hole(file: FileMapping, offset: int, n_bytes: int) -> None:
    """Zero a byte range; whole pages leave the page cache. Private copies stay."""
    page = file.machine.page_bytes
    end = min(offset + n_bytes, file.n_pages * page)
    first, last = -(-offset // page), end // page
    if first > last:
        _zero(file, offset, end - offset)
        return
    _zero(file, offset, first * page - offset)
    _zero(file, last * page, end - last * page)
    unmap_pages(file, first, last, Zap.HOLE)
    _drop_pages(file, first, last)


def unmap_pages(file: FileMapping, first: int, last: int, how: Zap) -> None:
    """Zap page offsets [first, last) from every area that maps them."""
    shift = file.machine.page_shift
    with file.i_mmap_lock.shared:
        for mm, vma in tuple(file.areas):
            start = max(vma.start, vma.address_of(first, shift))
            end = min(vma.end, vma.address_of(last, shift))
            if start < end:
                zap_range(mm, vma, start, end, how)


def _drop_pages(file: FileMapping, first: int, last: int) -> None:
    machine = file.machine
    dropped: dict[int, Folio] = {f.pfn: f for i, f in file.folios.items() if first <= i < last}
    for folio in dropped.values():
        file.remove(folio, "truncate: page cache")
    for index in [i for i in file.swapped if first <= i < last]:
        machine.swap.release(machine.memory, file.swapped.pop(index))
    for index in [i for i in file.disk if first <= i < last]:
        del file.disk[index]


def _zero(file: FileMapping, offset: int, n_bytes: int) -> None:
    """Zero bytes within one page, if the page exists anywhere."""
    index, inside = divmod(offset, file.machine.page_bytes)
    if n_bytes <= 0 or not (index in file.folios or index in file.swapped or index in file.disk):
        return
    folio = file.bring_in(index)
    store_bytes(folio, index - folio.index, inside, bytes(n_bytes), "truncate: zero")
    folio.dirty = True
    file.machine.memory.put(folio, "truncate: put")
