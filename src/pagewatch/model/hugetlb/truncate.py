"""Taking huge pages away from a file (fs/hugetlbfs/inode.c): truncation and hole punching, whole pages only.

A private copy goes as well as the file's own page: hugetlbfs does not tell them apart.
"""

from typing import TYPE_CHECKING

from pagewatch.model.gather import Zap
from pagewatch.model.hugetlb.locks import fault_mutex
from pagewatch.model.zap import zap_range

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping


def remove_huge_pages(file: "FileMapping", first: int, last: int, how: Zap) -> None:
    """Unmap and drop the huge pages at page offsets [first, last), multiples of the huge page's size.

    A fault may map a page again between the two; so each is unmapped once more under its fault mutex,
    which keeps faults out (``remove_inode_hugepages``).
    """
    _unmap(file, first, last, how)
    step = file.page_bytes >> file.machine.page_shift
    for index in [i for i in file.folios if first <= i < last]:
        with fault_mutex(file, index):
            folio = file.folios.get(index)
            if folio is not None:
                if file.machine.memory.count_maps(folio, "truncate: count leaves"):
                    _unmap(file, index, index + step, how)
                file.remove(folio, "truncate: page cache")


def _unmap(file: "FileMapping", first: int, last: int, how: Zap) -> None:
    """Zap page offsets from every area (``hugetlb_vmdelete_list``)."""
    shift = file.machine.page_shift
    for mm, vma in tuple(file.areas):
        start = max(vma.start, vma.address_of(first, shift))
        end = min(vma.end, vma.address_of(last, shift))
        if start < end:
            zap_range(mm, vma, start, end, how)
