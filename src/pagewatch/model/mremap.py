"""mremap: growing, shrinking and moving areas (mm/mremap.c)."""

import errno
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import (
    LEAF,
    MARKER,
    MARKER_UFFD_WP,
    SOFT_DIRTY,
    UFFD_WP,
    EntryFormat,
)
from pagewatch.model.areas import link, lists_locked, merge_around, unmap_areas
from pagewatch.model.errors import os_error
from pagewatch.model.hugetlb.mremap import move_huge
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.thp import split_locked, whole_spans
from pagewatch.model.tlb import flush_range
from pagewatch.model.uffd.context import Context, Feature, Message
from pagewatch.model.uffd.events import deliver, moved, unmapped
from pagewatch.model.vma import VM_DONTEXPAND, VM_LOCKED, VM_PFNMAP, VM_SHARED, VM_UFFD, Vma
from pagewatch.model.walk import Span, populate, seek_level
from pagewatch.steps import RMW, access

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
    def goes_to_target(self) -> bool:
        """Whether the flags say that it moves; ``target`` is at least a hint then."""
        return bool(self.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))

    @property
    def moves_only(self) -> bool:
        """Whether it moves and keeps its size."""
        return self.goes_to_target and self.old_bytes == self.new_bytes

    @property
    def fixed(self) -> bool:
        """Whether ``target`` is where to go."""
        return bool(self.flags & MREMAP_FIXED)


def mremap(mm: "Mm", old: int, old_bytes: int, new_bytes: int, *, flags: int = 0, target: int = 0) -> int:
    """Resize or move [old, old + old_bytes); returns the new address. Lengths are rounded up to pages.

    :raises OSError: EINVAL for bad flags or numbers, EFAULT where the range is not mapped as the request
        needs it, ENOMEM where it cannot grow in place and may not move.
    """
    page = mm.machine.page_bytes
    wanted = Request(old, old_bytes + page - 1 & -page, new_bytes + page - 1 & -page, flags, target)
    _check(mm, wanted)
    if mm.machine.quirks.mremap_checks_first:
        _check_target(mm, wanted)
    events: list[Message | None] = []
    with mm.write_locked():
        if wanted.moves_only and mm.machine.quirks.mremap_moves_several:
            result = _move_several(mm, wanted, events)
        else:
            result = _carry_out(mm, mm.vmas.at(old), wanted, events)
    deliver(events)
    return result


def _check(mm: "Mm", wanted: Request) -> None:
    """Flags and source, which every kernel looks at before areas (``check_mremap_params``)."""
    flags = wanted.flags
    bad = (
        flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)
        or wanted.old & mm.machine.page_bytes - 1
        or not wanted.new_bytes
        or (wanted.goes_to_target and not flags & MREMAP_MAYMOVE)
        or (flags & MREMAP_DONTUNMAP and wanted.old_bytes != wanted.new_bytes)
    )
    if bad:
        raise os_error(errno.EINVAL, "mremap")


def _check_target(mm: "Mm", wanted: Request) -> None:
    """Whether it fits, and does not move onto itself (``check_mremap_params``; once ``mremap_to``)."""
    old, target = wanted.old, wanted.target
    bad: int | bool = wanted.new_bytes > mm.top
    if not bad and wanted.goes_to_target:
        overlap = target < old + wanted.old_bytes and old < target + wanted.new_bytes
        bad = target & mm.machine.page_bytes - 1 or target + wanted.new_bytes > mm.top or overlap
    if bad:
        raise os_error(errno.EINVAL, "mremap")


def _move_several(mm: "Mm", wanted: Request, events: list[Message | None]) -> int:
    """Move every area of the range and keep the gaps between them (``remap_move``); the target's gaps stay as is.

    Memory that a userfaultfd watches moves only alone. What moved before a refusal has moved.
    """
    end, position, target = wanted.old + wanted.old_bytes, wanted.old, wanted.target
    result = None
    while position < end:
        vma = mm.vmas.find(position)
        if vma is None or vma.start >= end:
            break
        alone = vma.uffd is not None
        if (vma.start > position and result is None) or (alone and (result is not None or vma.end < end)):
            raise os_error(errno.EFAULT, "mremap")
        gap = max(0, vma.start - position)
        start, position = max(position, vma.start), vma.end
        n_bytes = min(end, position) - start
        moved_to = _carry_out(mm, vma, Request(start, n_bytes, n_bytes, wanted.flags, target + gap), events)
        target = moved_to + n_bytes
        result = moved_to if result is None else result
    if result is None:
        raise os_error(errno.EFAULT, "mremap")
    return result


def _carry_out(mm: "Mm", vma: Vma | None, wanted: Request, events: list[Message | None]) -> int:
    """One area's part of a request."""
    if vma is None:
        raise os_error(errno.EFAULT, "mremap")
    checks_first = mm.machine.quirks.mremap_checks_first
    if vma.hugetlb:
        wanted = _check_huge(vma, wanted, checks_first=checks_first)
    if wanted.goes_to_target and not checks_first:
        _check_target(mm, wanted)
    else:
        _check_area(vma, wanted)
    if wanted.goes_to_target:
        return _move_to(mm, wanted, events)
    if wanted.new_bytes <= wanted.old_bytes:
        _unmap(mm, wanted.old + wanted.new_bytes, wanted.old + wanted.old_bytes, events)
        return wanted.old
    return _grow(mm, vma, wanted, events)


def _check_area(vma: Vma, wanted: Request) -> None:
    """Whether the area can move or grow so (``check_prep_vma``); what only shrinks may span several."""
    if not wanted.goes_to_target and wanted.new_bytes <= wanted.old_bytes:
        return
    if not wanted.old_bytes and not vma.flags & VM_SHARED:
        raise os_error(errno.EINVAL, "mremap")
    if wanted.flags & MREMAP_DONTUNMAP and vma.flags & (VM_DONTEXPAND | VM_PFNMAP):
        raise os_error(errno.EINVAL, "mremap")
    if wanted.old + min(wanted.old_bytes, wanted.new_bytes) > vma.end:
        raise os_error(errno.EFAULT, "mremap")
    if wanted.new_bytes > wanted.old_bytes and vma.flags & (VM_DONTEXPAND | VM_PFNMAP):
        raise os_error(errno.EFAULT, "mremap")


def _check_huge(vma: Vma, wanted: Request, *, checks_first: bool) -> Request:
    """Whole huge pages only, and never more than there were: nothing was reserved for more.

    :param checks_first: whether all is checked here, or the rest when the target has been emptied.
    """
    huge = vma.page_bytes
    old_bytes, new_bytes = (n_bytes + huge - 1 & -huge for n_bytes in (wanted.old_bytes, wanted.new_bytes))
    misaligned = wanted.old & huge - 1 or ((wanted.fixed or not checks_first) and wanted.target & huge - 1)
    if misaligned or new_bytes > old_bytes or (checks_first and wanted.flags & MREMAP_DONTUNMAP):
        raise os_error(errno.EINVAL, "mremap")
    return Request(wanted.old, old_bytes, new_bytes, wanted.flags, wanted.target)


def _unmap(mm: "Mm", start: int, end: int, events: list[Message | None]) -> None:
    if start < end:
        events += unmapped(unmap_areas(mm, start, end), start, end)


def _grow(mm: "Mm", vma: Vma, wanted: Request, events: list[Message | None]) -> int:
    """In place if the area ends here and there is room behind it, else by moving."""
    old = wanted.old
    follower = mm.vmas.after(vma)
    room = (follower.start if follower else mm.top) - old
    if old + wanted.old_bytes == vma.end and room >= wanted.new_bytes:
        mm.lock_vma(vma)
        with lists_locked(vma):
            mm.vmas.resize(vma, vma.start, old + wanted.new_bytes)
        merge_around(mm, vma)
        return old
    if not wanted.flags & MREMAP_MAYMOVE:
        raise os_error(errno.ENOMEM, "mremap")
    return _move(mm, wanted, events)


def _move_to(mm: "Mm", wanted: Request, events: list[Message | None]) -> int:
    """Empty the target, cut off what is not wanted any more, and move the rest (``mremap_to``)."""
    if wanted.fixed:
        _unmap(mm, wanted.target, wanted.target + wanted.new_bytes, events)
    old, n_bytes = wanted.old, min(wanted.old_bytes, wanted.new_bytes)
    _unmap(mm, old + n_bytes, old + wanted.old_bytes, events)
    wanted = replace(wanted, old_bytes=n_bytes)
    vma = mm.vmas.at(old)
    if vma is not None and not mm.machine.quirks.mremap_checks_first:
        _check_area(vma, wanted)
    return _move(mm, wanted, events)


def _move(mm: "Mm", wanted: Request, events: list[Message | None]) -> int:
    """Make an area elsewhere, carry the entries over, and unmap the old one (``move_vma``)."""
    old, n_bytes = wanted.old, wanted.old_bytes
    vma = mm.vmas.at(old)
    if vma is None:
        raise os_error(errno.EFAULT, "mremap")
    target = wanted.target if wanted.fixed else _find_room(mm, vma, wanted.new_bytes)
    mm.lock_vma(vma)
    watcher = vma.uffd
    copy = _area_at(mm, vma, old, target, wanted.new_bytes)
    mm.lock_vma(copy)
    link(mm, copy)
    copy = merge_around(mm, copy)
    with invalidating(mm, Event.UNMAP, old, old + n_bytes):
        _move_entries(mm, vma, copy, target, old, n_bytes)
    events.append(moved(watcher, old, target, n_bytes))
    if watcher is not None and not _keeps_watch(watcher):
        # The whole area that the copy is part of now, neighbours that it merged with included.
        copy.uffd = None
        copy.flags &= ~VM_UFFD
    if wanted.flags & MREMAP_DONTUNMAP:
        _leave_empty(mm, old, n_bytes, copy)
    else:
        _unmap(mm, old, old + n_bytes, events)
    return target


def _leave_empty(mm: "Mm", old: int, n_bytes: int, copy: Vma) -> None:
    """What stays behind an area that moved has no reverse-mapping root any more (``dontunmap_complete``)."""
    vma = mm.vmas.at(old)
    if vma is None:
        return
    vma.flags &= ~VM_LOCKED
    if vma is not copy and (vma.start, vma.end) == (old, old + n_bytes) and vma.anon_vma is not None:
        with lists_locked(vma):
            access(("area", vma.number), RMW, "mremap: take its root from the area")
            vma.anon_vma.remove(vma)
            vma.anon_vma = vma.branch = None
            vma.inherited = False


def _find_room(mm: "Mm", vma: Vma, n_bytes: int) -> int:
    found = mm.vmas.gap_below(mm.top, n_bytes, vma.page_bytes)
    if found is None:
        raise os_error(errno.ENOMEM, "mremap")
    return found


def _area_at(mm: "Mm", vma: Vma, old: int, target: int, n_bytes: int) -> Vma:
    """The moved area, so far with everything that tells areas apart (``copy_vma``)."""
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
    copy.anon_vma, copy.branch, copy.inherited = vma.anon_vma, vma.branch, vma.inherited
    if vma.anonymous and vma.anon_vma is None:
        copy.pgoff = target >> mm.machine.page_shift
    copy.uffd = vma.uffd
    return copy


def _keeps_watch(context: Context | None) -> bool:
    return context is not None and bool(context.features & Feature.EVENT_REMAP)


def _move_entries(mm: "Mm", vma: Vma, copy: Vma, to: int, old: int, n_bytes: int) -> None:
    """Carry every entry to ``to``, part of ``copy``, under both tables' locks (``move_page_tables``).

    Where the source has a table, so has the target then, even if nothing stands in it.
    """
    lift = vma.uffd is not None and not _keeps_watch(vma.uffd)
    if vma.hugetlb:
        move_huge(mm, vma, copy, old, n_bytes, lift=lift)
        return
    below = _room_below(mm, vma, copy, to, old, n_bytes)
    old, to, n_bytes = old - below, to - below, n_bytes + below
    for span in whole_spans(mm, vma, old, old + n_bytes, "mremap: walk"):
        level = span.spot.level
        if level == 0 and not lift and _move_table(mm, span, to + span.start - old):
            continue
        if level and not _has_room(mm, to + span.start - old, level):
            split_locked(mm, vma, span.spot, span.start)
            continue
        if _move_span(mm, span, to + span.start - old, lift=lift):
            # Before the lock is dropped: a stale translation must not write to a page that
            # somebody has found, and freed, at its new address.
            flush_range(mm, span.start, span.end)


def _room_below(mm: "Mm", vma: Vma, copy: Vma, to: int, old: int, n_bytes: int) -> int:
    """How many bytes below both places belong to nobody, so that whole tables can move (``try_realign_addr``)."""
    reach = mm.machine.pmd_bytes
    below = old & reach - 1
    if not below or below != to & reach - 1 or n_bytes < reach - below:
        return 0
    begins = vma.start == old and copy.start == to
    return below if begins and not any(mm.vmas.overlapping(at - below, at) for at in (old, to)) else 0


def _move_table(mm: "Mm", span: Span, to: int) -> bool:
    """Carry a whole table over to where none is (``move_normal_pmd``); says whether it was."""
    table, parent = span.spot.table, span.spot.parent
    if parent is None or len(span.indexes) < 1 << span.spot.fmt.index_bits or to & (1 << parent.fmt.shift) - 1:
        return False
    target = populate(mm, to, "mremap: make upper tables", parent.table.fmt.level)
    if target.entry or target.level != parent.table.fmt.level:
        return False
    # Both directory entries may be in one table.
    with parent.table.lock, nullcontext() if target.table is parent.table else target.table.lock:
        entry = parent.table.exchange(parent.slot, 0, "mremap: take the table")
        table.place(mm, to)
        target.table.write(target.slot, target.fmt.table(table.address), "mremap: put the table")
        if entry != parent.entry:
            raise AssertionError("the mmap lock is held for writing")
        flush_range(mm, span.start, span.end)
    return True


def _move_span(mm: "Mm", span: Span, to: int, *, lift: bool) -> bool:
    """Carry the entries under one table; says whether there were any."""
    table, fmt, changed = span.spot.table, span.spot.fmt, False
    target: Table | None = None
    for index in span.indexes:
        slot = fmt.index(to)
        if target is None or slot == 0:
            target = populate(mm, to, "mremap: make tables", fmt.level).table
        if table.read(index, "mremap: read"):
            # Both tables may be one and the same.
            if target is not table:
                target.lock.acquire()
            _move_entry(table, index, target, slot, lift=lift)
            if target is not table:
                target.lock.release()
            changed = True
        to += 1 << fmt.shift
    return changed


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
