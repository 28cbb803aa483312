"""MADV_COLLAPSE: collapse a range now, whatever the settings say (``madvise_collapse``)."""

from typing import TYPE_CHECKING

from pagewatch.model.collapse.anon import collapse_anon
from pagewatch.model.collapse.file import collapse_file
from pagewatch.model.collapse.find import revalidate
from pagewatch.model.collapse.ptemapped import collapse_pte_mapped
from pagewatch.model.collapse.result import Result
from pagewatch.model.errors import os_error
from pagewatch.model.thp import Purpose, huge_start, may_have_huge

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def collapse_range(mm: "Mm", vma: "Vma", start: int, end: int) -> None:
    """Collapse every whole huge page in [start, end) of an area (bytes).

    :raises OSError: not all of it is huge now. EINVAL where it cannot be, EBUSY for memory that is missing
        from a watched area, EAGAIN where somebody was in the way. What could be collapsed is.
    """
    if not has_room(mm, vma) or not may_have_huge(mm, vma, Purpose.COLLAPSE):
        raise os_error(Result.VMA_CHECK.errno, "madvise")
    n_bytes = mm.machine.thp_bytes
    first, last = start + n_bytes - 1 & -n_bytes, end & -n_bytes
    failed: Result | None = Result.FAIL if last < first else None
    for address in range(first, last, n_bytes):
        result = collapse_one(mm, address, Purpose.COLLAPSE)
        if not result.done:
            failed = result
        if not result.goes_on:
            break
    if failed is not None:
        raise os_error(failed.errno, "madvise")


def collapse_one(mm: "Mm", start: int, purpose: Purpose) -> Result:
    """Collapse the range of one huge page; the caller holds no lock."""
    with mm.mmap_lock.shared:
        vma = revalidate(mm, start, purpose)
    if vma is None:
        return Result.VMA_CHECK
    if vma.file is None:
        return collapse_anon(mm, start, purpose)
    result = collapse_file(vma.file, vma.index_of(start, mm.machine.page_shift), purpose)
    if result is Result.PTE_MAPPED_HUGEPAGE:
        with mm.mmap_lock.shared:
            result = collapse_pte_mapped(mm, start)
    return result


def has_room(mm: "Mm", vma: "Vma") -> bool:
    """Whether an aligned huge page fits into the area anywhere, by address and by page offset of its file."""
    n_bytes = mm.machine.thp_bytes
    return n_bytes > 0 and huge_start(mm, vma, vma.end - n_bytes) is not None
