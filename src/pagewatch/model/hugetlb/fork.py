"""fork of hugetlb memory (``copy_hugetlb_page_range``)."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import (
    EXCLUSIVE,
    LEAF,
    MARKER,
    MARKER_UFFD_WP,
    MIGRATION,
    NONE,
    UFFD_WP,
    WRITE,
    EntryFormat,
)
from pagewatch.model.fault.state import is_cow
from pagewatch.model.folioflags import clear_exclusive, is_exclusive
from pagewatch.model.hugetlb.entries import HugePage, find
from pagewatch.model.hugetlb.fault import leaf_of, new_folio
from pagewatch.model.hugetlb.locks import reading
from pagewatch.model.hugetlb.tables import make
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import map_again, map_anon

if TYPE_CHECKING:
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def copy_huge(parent: "Mm", child: "Mm", vma: "Vma", copy: "Vma") -> None:
    """Give the child's area what the parent's maps; private pages become read-only in both.

    A page table that parent and child share by now needs no copying.
    """
    guard: AbstractContextManager[None] = reading(parent.machine, vma)
    if is_cow(vma):
        guard = invalidating(parent, Event.CLEAR, vma.start, vma.end)
    with guard:
        for address in range(vma.start, vma.end, vma.page_bytes):
            source = find(parent, address, vma.page_bytes, "fork: walk")
            if source is None:
                continue
            target = make(child, copy, address)
            if target.table.sharers > 1:
                continue
            with target.lock, source.lock:
                _copy_page(child, copy, source, target)


def _copy_page(child: "Mm", copy: "Vma", source: HugePage, target: HugePage) -> None:
    fmt, entry = source.fmt, source.read("fork: read")
    kind = fmt.kind(entry)
    if kind == NONE:
        return
    if kind == MARKER:
        payload = fmt.marker(entry) & ~(0 if copy.uffd_wp else MARKER_UFFD_WP)
        entry = fmt.marker_entry(payload) if payload else 0
    elif kind == LEAF:
        entry = _copied_leaf(child, copy, source, target, entry)
    else:
        entry = _copied_absent(child, copy, source, entry)
    if entry:
        target.write(entry, "fork: set")


def _copied_leaf(child: "Mm", copy: "Vma", source: HugePage, target: HugePage, entry: int) -> int:
    """Share a page, or copy it where it is pinned (``hugetlb_try_dup_anon_rmap``)."""
    fmt, memory = source.fmt, child.machine.memory
    folio = memory.folio(fmt.pfn(entry))
    exclusive = is_exclusive(folio, 0, "fork: exclusive?")
    if exclusive and memory.look_for_pins(folio, "fork: look for pins"):
        return _copied_pinned(child, copy, target, folio)
    memory.get(folio, "fork: share")
    map_again(folio)
    if exclusive:
        clear_exclusive(folio, 0, "fork: not exclusive any more")
    if is_cow(copy):
        entry = fmt.wrprotect(source.take("fork: take out"))
        source.write(entry, "fork: write-protect")
    return _unwatched(fmt, entry, copy)


def _copied_pinned(child: "Mm", copy: "Vma", target: HugePage, folio: "Folio") -> int:
    memory = child.machine.memory
    new = new_folio(copy)
    for number in sorted(folio.words):
        memory.copy_page(new, number, folio, number, "fork: copy pinned page")
    map_anon(child, copy, new, target.start)
    return leaf_of(copy, target, new, writable=True)


def _copied_absent(child: "Mm", copy: "Vma", source: HugePage, entry: int) -> int:
    """Migration entries gain a user, and are nobody's exclusively; poison is inherited."""
    fmt = source.fmt
    if fmt.kind(entry) == MIGRATION:
        flags = fmt.flags(entry)
        if is_cow(copy) and flags & (WRITE | EXCLUSIVE):
            entry = fmt.pfn_entry(MIGRATION, fmt.pfn(entry), flags & ~(WRITE | EXCLUSIVE))
            source.write(entry, "fork: share migration entry")
        folio = child.machine.memory.folio(fmt.pfn(entry))
        child.machine.memory.get(folio, "fork: share")
        map_again(folio)
    if fmt.flags(entry) & UFFD_WP and not copy.uffd_wp:
        entry = fmt.swp_clear_uffd_wp(entry)
    return entry


def _unwatched(fmt: EntryFormat, entry: int, copy: "Vma") -> int:
    return fmt.clear_uffd_wp(entry) if fmt.flags(entry) & UFFD_WP and not copy.uffd_wp else entry
