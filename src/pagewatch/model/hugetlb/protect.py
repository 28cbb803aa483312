"""Changing the protection of huge pages (``hugetlb_change_protection``)."""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import (
    EXCLUSIVE,
    LEAF,
    MARKER,
    MARKER_POISON,
    MARKER_UFFD_WP,
    MIGRATION,
    NONE,
    UFFD_WP,
    WRITE,
    EntryFormat,
)
from pagewatch.model.change import Change
from pagewatch.model.fault.state import leaf_flags
from pagewatch.model.hugetlb.entries import HugePage, find
from pagewatch.model.hugetlb.locks import owned_file, writing
from pagewatch.model.hugetlb.sharing import reach, unshare, widened
from pagewatch.model.hugetlb.tables import make
from pagewatch.model.tlb import flush_range

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def change_huge_protection(mm: "Mm", vma: "Vma", start: int, end: int, change: Change) -> int:
    """Apply a change to the huge pages of [start, end) of an area; returns how many entries changed.

    The flush comes before ``i_mmap`` is dropped: until then nobody can free what was unshared.
    """
    changed, address = 0, start
    with writing(mm.machine, vma), owned_file(vma).i_mmap_lock.exclusive:
        while address < end:
            page = find(mm, address, vma.page_bytes, "protect: walk")
            if page is None and change is Change.WP:
                page = make(mm, vma, address)
            address += vma.page_bytes
            if page is None:
                continue
            with page.lock:
                if unshare(mm, page):
                    changed += 1
                    address = reach(mm, page.start)[1]
                else:
                    changed += change_huge_page(mm, vma, page, change)
        flush_range(mm, *widened(mm, vma, start, end))
    return changed


def change_huge_page(mm: "Mm", vma: "Vma", page: HugePage, change: Change) -> bool:
    """Change one page, whose lock is held; says whether anything changed."""
    fmt, entry = page.fmt, page.read("protect: read")
    kind = fmt.kind(entry)
    if kind == LEAF:
        entry = page.take("protect: take out")
        page.write(_changed_leaf(mm, vma, page, entry, change), "protect: put back")
        return True
    new = entry
    if kind == NONE and change is Change.WP:
        new = fmt.marker_entry(MARKER_UFFD_WP)
    elif kind == MARKER and change is Change.RESOLVE and not fmt.marker(entry) & MARKER_POISON:
        new = 0
    elif kind == MIGRATION:
        new = _changed_migration(fmt, entry, change)
    if new != entry:
        page.write(new, "protect: change")
    return new != entry


def _changed_leaf(mm: "Mm", vma: "Vma", page: HugePage, entry: int, change: Change) -> int:
    fmt = page.fmt
    new = fmt.modify(entry, leaf_flags(mm.machine, vma))
    if change is Change.RESOLVE and fmt.flags(new) & UFFD_WP:
        return fmt.clear_uffd_wp(new)
    return fmt.mkuffd_wp(new) if change is Change.WP or fmt.flags(new) & UFFD_WP else new


def _changed_migration(fmt: EntryFormat, entry: int, change: Change) -> int:
    flags = fmt.flags(entry)
    if flags & WRITE:
        entry = fmt.pfn_entry(MIGRATION, fmt.pfn(entry), flags & ~WRITE | EXCLUSIVE)
    if change is Change.WP:
        return fmt.swp_mkuffd_wp(entry)
    return fmt.swp_clear_uffd_wp(entry) if change is Change.RESOLVE and flags & UFFD_WP else entry
