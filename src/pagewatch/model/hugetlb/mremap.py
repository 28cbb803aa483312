"""Moving hugetlb memory (``move_hugetlb_page_tables``)."""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF, MARKER, MARKER_UFFD_WP, NONE, UFFD_WP, EntryFormat
from pagewatch.model.hugetlb.entries import find
from pagewatch.model.hugetlb.locks import owned_file, writing
from pagewatch.model.hugetlb.sharing import reach, unshare, widened
from pagewatch.model.hugetlb.tables import make
from pagewatch.model.tlb import flush_range

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def move_huge(mm: "Mm", vma: "Vma", copy: "Vma", old: int, n_bytes: int, *, lift: bool) -> None:
    """Carry the huge pages of [old, old + n_bytes) over to the start of ``copy``.

    A shared table is let go of, not carried: the file has the pages, and they fault in again.

    :param lift: nobody watches on, so protection goes.
    """
    address, end = old, old + n_bytes
    with writing(mm.machine, vma), owned_file(vma).i_mmap_lock.exclusive:
        while address < end:
            source = find(mm, address, vma.page_bytes, "mremap: walk")
            if source is None or source.fmt.kind(source.read("mremap: read")) == NONE:
                address += vma.page_bytes
            elif unshare(mm, source):
                address = reach(mm, address)[1]
            else:
                target = make(mm, copy, copy.start + address - old)
                entry = _moved(source.fmt, source.take("mremap: take"), lift=lift)
                target.write(entry, "mremap: put")
                address += vma.page_bytes
        flush_range(mm, *widened(mm, vma, old, end))


def _moved(fmt: EntryFormat, entry: int, *, lift: bool) -> int:
    if not lift:
        return entry
    if fmt.kind(entry) == MARKER:
        payload = fmt.marker(entry) & ~MARKER_UFFD_WP
        return fmt.marker_entry(payload) if payload else 0
    if not fmt.flags(entry) & UFFD_WP:
        return entry
    return fmt.clear_uffd_wp(entry) if fmt.kind(entry) == LEAF else fmt.swp_clear_uffd_wp(entry)
