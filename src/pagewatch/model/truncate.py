"""Taking pages away from a file: truncation and hole punching (mm/truncate.c, ``unmap_mapping_range``)."""

import errno
from typing import TYPE_CHECKING

from pagewatch.model.errors import os_error
from pagewatch.model.file import FileKind, FileMapping
from pagewatch.model.foliosplit import try_split_folio
from pagewatch.model.gather import Zap
from pagewatch.model.hugetlb.truncate import remove_huge_pages
from pagewatch.model.zap import zap_range

if TYPE_CHECKING:
    from pagewatch.model.memory import Folio

_END = 1 << 52
"""Page offset behind all others."""


def truncate(file: FileMapping, n_bytes: int) -> None:
    """Set a file's size; what lies beyond goes, from private copies too. Protection stays, as markers.

    :raises OSError: EINVAL for part of a huge page.
    """
    page = file.machine.page_bytes
    if n_bytes % file.page_bytes and file.kind is FileKind.HUGETLB:
        raise os_error(errno.EINVAL, "ftruncate")
    if n_bytes > file.n_bytes:
        file.extend(n_bytes)
        return
    old_pages, file.n_bytes = file.n_pages, n_bytes
    if n_bytes & page - 1:
        _zero(file, n_bytes, page - (n_bytes & page - 1))
    if file.n_pages < old_pages:
        unmap_pages(file, file.n_pages, _END, Zap.TRUNCATE)
    # A huge page may have reached beyond the end, even if that is where it was.
    _split_edges(file, n_bytes, _END << file.machine.page_shift)
    _drop_pages(file, file.n_pages, _END)


def punch_hole(file: FileMapping, offset: int, n_bytes: int) -> None:
    """Zero a byte range; whole pages leave the page cache. Private copies stay."""
    page = file.page_bytes
    end = offset + n_bytes
    if file.kind is FileKind.DISK:
        end = min(end, file.n_pages << file.machine.page_shift)
    first, last = -(-offset // page), end // page
    if first > last:
        _zero(file, offset, end - offset)
        return
    _zero(file, offset, first * page - offset)
    _zero(file, last * page, end - last * page)
    step = page // file.machine.page_bytes
    unmap_pages(file, first * step, last * step, Zap.HOLE)
    _split_edges(file, first * page, last * page)
    _drop_pages(file, first * step, last * step)


def unmap_pages(file: FileMapping, first: int, last: int, how: Zap) -> None:
    """Zap page offsets [first, last) from every area that maps them."""
    if file.kind is FileKind.HUGETLB:
        remove_huge_pages(file, first, last, how)
        return
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
        if first <= folio.index and folio.index + folio.n_pages <= last:
            file.remove(folio, "truncate: page cache")
    for index in [i for i in file.swapped if first <= i < last]:
        machine.swap.release(machine.memory, file.swapped.pop(index))
    for index in [i for i in file.disk if first <= i < last]:
        del file.disk[index]


def _split_edges(file: FileMapping, start: int, end: int) -> None:
    """Split large folios that only partly go, in halves around where the part begins and where it ends (bytes).

    In those that cannot be split the part is zeroed (``truncate_inode_partial_folio``).
    """
    shift = file.machine.page_shift
    for offset in (start, end - 1):
        folio = file.folios.get(offset >> shift)
        if folio is None or start >= end:
            continue
        low, high = folio.index << shift, folio.index + folio.n_pages << shift
        first, last = max(start, low), min(end, high)
        if (first, last) == (low, high):
            continue
        if not _split_at(file, first >> shift):
            _zero(file, first, last - first)
        elif last < high:
            _split_at(file, last >> shift)


def _split_at(file: FileMapping, index: int) -> bool:
    """Split the folio of a page offset so that the page is alone, the rest in halves or alone, too; whether it is."""
    folio = file.folios[index]
    at = index - folio.index if file.machine.quirks.files_keep_halves else None
    return not folio.order or try_split_folio(file.machine, folio, at=at)


def _zero(file: FileMapping, offset: int, n_bytes: int) -> None:
    """Zero bytes within one page of the file, if the page exists anywhere."""
    page = file.machine.page_bytes
    while n_bytes > 0:
        n_part = min(n_bytes, page - offset % page)
        if file.cached(offset // page) or offset // page in file.swapped or offset // page in file.disk:
            file.zero_part(offset, n_part)
        offset, n_bytes = offset + n_part, n_bytes - n_part
