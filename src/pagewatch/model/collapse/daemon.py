"""khugepaged: collapses by itself what it finds worth it (``khugepaged_scan_mm_slot``)."""

from typing import TYPE_CHECKING

from pagewatch.model.collapse.call import collapse_one
from pagewatch.model.collapse.result import Result
from pagewatch.model.thp import Purpose, huge_start, may_have_huge

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm


def khugepaged(mm: "Mm") -> list[int]:
    """One pass over an address space; the addresses that became huge (bytes, ascending)."""
    n_bytes = mm.machine.thp_bytes
    with mm.mmap_lock.shared:
        starts = [
            address
            for vma in (mm.vmas if n_bytes else ())
            if may_have_huge(mm, vma, Purpose.KHUGEPAGED)
            for address in range(vma.start + n_bytes - 1 & -n_bytes, vma.end, n_bytes)
            if huge_start(mm, vma, address) is not None
        ]
    return [start for start in starts if collapse_one(mm, start, Purpose.KHUGEPAGED) is Result.SUCCEED]
