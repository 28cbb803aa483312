"""PMD sharing: processes that map the same gigabyte of a hugetlb file use one page table for it.

Only a whole PUD-aligned gigabyte within a shared area can be shared, at the same place of the table, with
equal flags; never in an area watched for write-protection or minor faults, which would be watched in all.
The table's descriptor counts who uses it (``pt_share_count``).

Who finds a huge entry needs the vma lock or ``i_mmap`` to know that the table is still its own: after
unsharing, the table belongs to others, who may free it. Walkers without locks are waited for by interrupt.
"""

from typing import TYPE_CHECKING

from pagewatch.model.hugetlb.entries import HugePage, find, table_at
from pagewatch.model.hugetlb.locks import owned_file, writing
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.tables import Table
from pagewatch.model.tlb import flush_range, sync_cpus
from pagewatch.model.vma import VM_LOCKED, VM_SHARED, VM_SOFTDIRTY, VM_UFFD_MINOR, VM_UFFD_WP, Vma
from pagewatch.model.walk import populate
from pagewatch.steps import RMW, access

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm

_ARCHES = ("x86_64", "arm64", "riscv64")
"""Families of formats whose kernels share (CONFIG_HUGETLB_PMD_PAGE_TABLE_SHARING)."""
_PMD, _PUD = 1, 2


def wants_share(mm: "Mm", vma: Vma, address: int) -> bool:
    """Whether the page table of an address may be shared with others (``want_pmd_share``)."""
    if not _supported(mm, vma) or vma.huge_lock is None:
        return False
    if not vma.flags & VM_SHARED or vma.flags & (VM_UFFD_WP | VM_UFFD_MINOR):
        return False
    return _within(vma, *reach(mm, address))


def _supported(mm: "Mm", vma: Vma) -> bool:
    return mm.machine.fmt.name.startswith(_ARCHES) and vma.page_bytes == mm.machine.pmd_bytes


def reach(mm: "Mm", address: int) -> tuple[int, int]:
    """What one PMD table spans around an address: the unit of sharing, bytes."""
    shift = mm.machine.fmt.at[_PUD].shift
    return address >> shift << shift, (address >> shift) + 1 << shift


def share(mm: "Mm", vma: Vma, address: int) -> None:
    """Use the page table that somebody has for the same gigabyte, or make one (``huge_pmd_share``).

    The lookup and the making happen under ``i_mmap``: the next who looks finds what was made.
    """
    with owned_file(vma).i_mmap_lock.shared:
        table = _adopt(mm, vma, address)
        if table is not None:
            spot = populate(mm, address, "share: find the directory", _PUD)
            with spot.table.lock:
                if spot.table.read(spot.slot, "share: look again") == 0:
                    entry = spot.fmt.table(table.address)
                    spot.table.write(spot.slot, entry, "share: hook in")
                else:
                    count(table, -1)
        populate(mm, address, "share: make a table", _PMD)


def _adopt(mm: "Mm", vma: Vma, address: int) -> Table | None:
    """A table of the same gigabyte, counted as used once more."""
    shift = mm.machine.page_shift
    index = vma.index_of(address, shift)
    for other_mm, other in owned_file(vma).areas:
        theirs = other.address_of(index, shift)
        if other is vma or not _alike(mm, vma, other, address, theirs):
            continue
        page = find(other_mm, theirs, vma.page_bytes, "share: find")
        if page is not None:
            count(page.table, 1)
            return page.table
    return None


def _alike(mm: "Mm", vma: Vma, other: Vma, address: int, theirs: int) -> bool:
    """``page_table_shareable``: same place in the table, same flags but for locking, and room around."""
    pmd = mm.machine.fmt.at[_PMD]
    ignored = VM_LOCKED if mm.machine.quirks.soft_dirty else VM_LOCKED | VM_SOFTDIRTY
    return (
        other.huge_lock is not None
        and pmd.index(address) == pmd.index(theirs)
        and (vma.flags ^ other.flags) & ~ignored == 0
        and _within(other, *reach(mm, theirs))
    )


def _within(vma: Vma, start: int, end: int) -> bool:
    return vma.start <= start and end <= vma.end


def count(table: Table, change: int) -> None:
    """Count users of a page table."""
    access(("sharers", table.address), RMW, "share: count")
    table.sharers += change


def unshare(mm: "Mm", page: HugePage) -> bool:
    """Let go of the page's table if others use it, too; says whether it did (``huge_pmd_unshare``).

    The caller holds ``i_mmap`` and the vma lock for writing and the page's lock, and flushes what the
    table spans before it drops ``i_mmap``. The entries stay, for the others.
    """
    table = page.table
    if table.fmt.level != _PMD or table.sharers == 1:
        return False
    above = table_at(mm, page.start, _PUD, "unshare: find")
    if above is None:
        return False
    above.write(above.fmt.index(page.start), 0, "unshare: unhook")
    if mm.machine.quirks.hugetlb_unshare_syncs:
        # Others may free the table, or use it for anything, as soon as it is not counted here.
        sync_cpus(mm)
    count(table, -1)
    return True


def unshare_range(mm: "Mm", vma: Vma, start: int, end: int) -> None:
    """Let go of every shared table within [start, end) (``hugetlb_unshare_pmds``)."""
    if not _supported(mm, vma):
        return
    step = 1 << mm.machine.fmt.at[_PUD].shift
    start, end = start + step - 1 & -step, end & -step
    if start >= end:
        return
    with (
        invalidating(mm, Event.CLEAR, start, end),
        writing(mm.machine, vma),
        owned_file(vma).i_mmap_lock.exclusive,
    ):
        for address in range(start, end, step):
            page = find(mm, address, vma.page_bytes, "unshare: walk")
            if page is not None:
                with page.lock:
                    unshare(mm, page)
        flush_range(mm, start, end)


def unshare_for_split(mm: "Mm", vma: Vma, address: int) -> None:
    """An area is about to be cut: a gigabyte cut in two cannot be shared (``hugetlb_split``)."""
    if not _supported(mm, vma):
        return
    start, end = reach(mm, address)
    if start != address and _within(vma, start, end):
        unshare_range(mm, vma, start, end)


def widened(mm: "Mm", vma: Vma, start: int, end: int) -> tuple[int, int]:
    """What a change of [start, end) may affect: all of a table that may be shared.

    ``adjust_range_if_pmd_sharing_possible``: notifiers are told of, and flushes cover, the whole of it.
    """
    if wants_share(mm, vma, start):
        start = reach(mm, start)[0]
    if start < end and wants_share(mm, vma, end - 1):
        end = reach(mm, end - 1)[1]
    return start, end
