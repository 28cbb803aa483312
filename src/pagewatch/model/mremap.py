"""mremap: growing, shrinking and moving areas (mm/mremap.c)."""

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import (
    LEAF,
    MARKER,
    MARKER_UFFD_WP,
    SOFT_DIRTY,
    UFFD_WP,
    EntryFormat,
)
from pagewatch.model.areas import link, merge_around, unmap_areas
from pagewatch.model.errors import os_error
from pagewatch.model.hugetlb.mremap import move_huge
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.thp import split_locked, whole_spans
from pagewatch.model.tlb import flush_range
from pagewatch.model.uffd.context import Context, Feature, Message
from pagewatch.model.uffd.events import deliver, moved, unmapped
from pagewatch.model.vma import VM_DONTEXPAND, VM_PFNMAP, VM_UFFD, Vma
from pagewatch.model.walk import populate, seek_level

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table

MREMAP_MAYMOVE = 1
MREMAP_FIXED = 2
MREMAP_DONTUNMAP = 4


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of one call, lengths rounded up to pages."""

    old: int
    old_bytes: int
    new_bytes: int
    flags: int
    target: int

    @property
    def fixed(self) -> bool:
        """Whether ``target`` is where to go."""
        return bool(self.flags & MREMAP_FIXED)


def mremap(mm: "Mm", old: int, old_bytes: int, new_bytes: int, *, flags: int = 0, target: int = 0) -> int:
    """Resize or move [old, old + old_bytes); returns the new address. Lengths are rounded up to pages.

    :raises OSError: EINVAL for bad flags or numbers, EFAULT where no single area holds the range, ENOMEM
        where it cannot grow in place and may not move.
    """
    page = mm.machine.page_bytes
    wanted = Request(old, old_bytes + page - 1 & -page, new_bytes + page - 1 & -page, flags, target)
    _check(mm, wanted)
    events: list[Message | None] = []
    with mm.write_locked():
        vma = mm.vmas.at(old)
        if vma is None:
            raise os_error(errno.EFAULT, "mremap")
        if vma.hugetlb:
            wanted = _check_huge(vma, wanted)
        if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
            result = _move(mm, vma, wanted, events)
        elif wanted.new_bytes <= wanted.old_bytes:
            _unmap(mm, old + wanted.new_bytes, old + wanted.old_bytes, events)
            result = old
        else:
            result = _grow(mm, vma, wanted, events)
    deliver(events)
    return result


def _check(mm: "Mm", wanted: Request) -> None:
    page, flags, old, target = mm.machine.page_bytes, wanted.flags, wanted.old, wanted.target
    bad = (
        flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)
        or (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) and not flags & MREMAP_MAYMOVE)
        or (flags & MREMAP_DONTUNMAP and wanted.old_bytes != wanted.new_bytes)
        or old & page - 1
        or not wanted.new_bytes
        or wanted.new_bytes > mm.top
    )
    if not bad and wanted.fixed:
        overlap = target < old + wanted.old_bytes and old < target + wanted.new_bytes
        bad = target & page - 1 or target + wanted.new_bytes > mm.top or overlap
    if bad:
        raise os_error(errno.EINVAL, "mremap")


def _check_huge(vma: Vma, wanted: Request) -> Request:
    """Whole huge pages only, and never more than there were: nothing was reserved for more."""
    huge = vma.page_bytes
    old_bytes, new_bytes = (n_bytes + huge - 1 & -huge for n_bytes in (wanted.old_bytes, wanted.new_bytes))
    misaligned = wanted.old & huge - 1 or (wanted.fixed and wanted.target & huge - 1)
    if misaligned or new_bytes > old_bytes or wanted.flags & MREMAP_DONTUNMAP:
        raise os_error(errno.EINVAL, "mremap")
    return Request(wanted.old, old_bytes, new_bytes, wanted.flags, wanted.target)


def _unmap(mm: "Mm", start: int, end: int, events: list[Message | None]) -> None:
    if start < end:
        events += unmapped(unmap_areas(mm, start, end), start, end)


def _grow(mm: "Mm", vma: Vma, wanted: Request, events: list[Message | None]) -> int:
    """In place if the area ends here and there is room behind it, else by moving."""
    old = wanted.old
    if old + wanted.old_bytes > vma.end or vma.flags & (VM_DONTEXPAND | VM_PFNMAP):
        raise os_error(errno.EFAULT, "mremap")
    follower = mm.vmas.after(vma)
    room = (follower.start if follower else mm.top) - old
    if old + wanted.old_bytes == vma.end and room >= wanted.new_bytes:
        mm.lock_vma(vma)
        mm.vmas.resize(vma, vma.start, old + wanted.new_bytes)
        merge_around(mm, vma)
        return old
    if not wanted.flags & MREMAP_MAYMOVE:
        raise os_error(errno.ENOMEM, "mremap")
    return _move(mm, vma, wanted, events)


def _move(mm: "Mm", vma: Vma, wanted: Request, events: list[Message | None]) -> int:
    """Make an area elsewhere, carry the entries over, and unmap the old one (``move_vma``)."""
    old, n_bytes = wanted.old, min(wanted.old_bytes, wanted.new_bytes)
    if old + wanted.old_bytes > vma.end:
        raise os_error(errno.EFAULT, "mremap")
    target = _make_room(mm, vma, wanted, events)
    _unmap(mm, old + n_bytes, old + wanted.old_bytes, events)
    mm.lock_vma(vma)
    copy = _area_at(mm, vma, old, target, wanted.new_bytes)
    mm.lock_vma(copy)
    link(mm, copy)
    with invalidating(mm, Event.UNMAP, old, old + n_bytes):
        _move_entries(mm, vma, copy, old, n_bytes)
    events.append(moved(copy.uffd, old, target, n_bytes))
    merge_around(mm, copy)
    if not wanted.flags & MREMAP_DONTUNMAP:
        _unmap(mm, old, old + n_bytes, events)
    return target


def _make_room(mm: "Mm", vma: Vma, wanted: Request, events: list[Message | None]) -> int:
    """Where to move to: the fixed target, emptied, or any gap."""
    if wanted.fixed:
        _unmap(mm, wanted.target, wanted.target + wanted.new_bytes, events)
        return wanted.target
    found = mm.vmas.gap_below(mm.top, wanted.new_bytes, vma.page_bytes)
    if found is None:
        raise os_error(errno.ENOMEM, "mremap")
    return found


def _area_at(mm: "Mm", vma: Vma, old: int, target: int, n_bytes: int) -> Vma:
    """The moved area: watched on only by a userfaultfd that is told about moves."""
    copy = Vma(
        target,
        target + n_bytes,
        vma.flags,
        number=mm.machine.new_number(),
        page_bytes=vma.page_bytes,
        pgoff=vma.index_of(old, mm.machine.page_shift),
        file=vma.file,
        name=vma.name,
    )
    copy.anon_vma = vma.anon_vma
    if vma.anonymous and vma.anon_vma is None:
        copy.pgoff = target >> mm.machine.page_shift
    if _keeps_watch(vma.uffd):
        copy.uffd = vma.uffd
    else:
        copy.flags &= ~VM_UFFD
    return copy


def _keeps_watch(context: Context | None) -> bool:
    return context is not None and bool(context.features & Feature.EVENT_REMAP)


def _move_entries(mm: "Mm", vma: Vma, copy: Vma, old: int, n_bytes: int) -> None:
    """Carry every entry to its new table, under both tables' locks (``move_page_tables``)."""
    shift = mm.machine.page_shift
    lift = vma.uffd is not None and not _keeps_watch(vma.uffd)
    if vma.hugetlb:
        move_huge(mm, vma, copy, old, n_bytes, lift=lift)
        return
    for span in whole_spans(mm, vma, old, old + n_bytes, "mremap: walk"):
        table, address, level = span.spot.table, span.start, span.spot.level
        if level and not _has_room(mm, copy.start + address - old, level):
            split_locked(mm, vma, span.spot, span.start)
            continue
        changed = False
        for index in span.indexes:
            if table.read(index, "mremap: read"):
                target = populate(mm, copy.start + address - old, "mremap: make tables", level)
                # Both tables may be one and the same.
                if target.table is not table:
                    target.table.lock.acquire()
                _move_entry(table, index, target.table, target.slot, lift=lift)
                if target.table is not table:
                    target.table.lock.release()
                changed = True
            address += 1 << shift
        # Before the lock is dropped: a stale translation must not write to a page that
        # somebody has found, and freed, at its new address.
        if changed:
            flush_range(mm, span.start, span.end)


def _has_room(mm: "Mm", target: int, level: int) -> bool:
    """Whether a leaf of that level can stand at an address: it is aligned, and nothing is there."""
    if target & (1 << mm.machine.fmt.at[level].shift) - 1:
        return False
    spot = seek_level(mm, target, level, "mremap: look")
    return spot.entry == 0


def _move_entry(table: "Table", index: int, target: "Table", slot: int, *, lift: bool) -> None:
    entry = table.exchange(index, 0, "mremap: take")
    entry = _moved(table.fmt, entry, lift=lift)
    if entry:
        target.write(slot, entry, "mremap: put")


def _moved(fmt: EntryFormat, entry: int, *, lift: bool) -> int:
    """The entry at its new place: soft-dirty, and without protection where nobody watches on."""
    kind = fmt.kind(entry)
    if kind == LEAF:
        if fmt.supported & SOFT_DIRTY:
            entry = fmt.mksoft_dirty(entry)
        return fmt.clear_uffd_wp(entry) if lift and fmt.flags(entry) & UFFD_WP else entry
    if kind == MARKER:
        payload = fmt.marker(entry) & ~(MARKER_UFFD_WP if lift else 0)
        return fmt.marker_entry(payload) if payload else 0
    if fmt.supported & SOFT_DIRTY:
        entry = fmt.swp_mksoft_dirty(entry)
    return fmt.swp_clear_uffd_wp(entry) if lift and fmt.flags(entry) & UFFD_WP else entry
