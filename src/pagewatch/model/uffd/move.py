"""UFFDIO_MOVE: pages change their place within one address space, and nothing is copied (``move_pages``).

What moves is the folio itself, so nobody else may have it: what is shared with a forked child or pinned stays
(EBUSY). A page arrives as if it had been written there: without protection, and soft-dirty. Pages in swap move
as entries, protection and all; markers, device pages and failed memory do not (EFAULT).
"""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import DIRTY, EXCLUSIVE, LEAF, MIGRATION, NONE, SOFT_DIRTY, SWAP
from pagewatch.model.errors import os_error
from pagewatch.model.fault.state import leaf_flags, maybe_mkwrite
from pagewatch.model.folioflags import is_exclusive
from pagewatch.model.foliosplit import try_split_folio
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at, zero_leaf
from pagewatch.model.rmap import prepare_anon_vma
from pagewatch.model.thp import split_huge
from pagewatch.model.tlb import flush_range
from pagewatch.model.uffd.context import Context
from pagewatch.model.uffd.register import exact_range
from pagewatch.model.vma import VM_ACCESS, VM_HUGETLB, VM_IO, VM_LOCKED, VM_MIXEDMAP, VM_PFNMAP, VM_SHARED, VM_WRITE
from pagewatch.model.walk import Spot, in_place, populate, seek, seek_level

if TYPE_CHECKING:
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma

_WHAT = "UFFDIO_MOVE"
_IMMOVABLE = VM_PFNMAP | VM_IO | VM_HUGETLB | VM_MIXEDMAP


def move(context: Context, to: int, start: int, n_bytes: int, *, holes: bool = False, wake: bool = True) -> int:
    """Move the pages of [start, start + n_bytes) to ``to``; returns how many bytes are done, holes included.

    :param holes: where nothing is mapped, leave nothing mapped there; otherwise that is ENOENT.
    :raises OSError: nothing was moved: EEXIST where something is at ``to``, EBUSY for what others have, EFAULT
        for what cannot move, EINVAL for areas that do not fit each other or are not watched, ENOENT, EAGAIN, ESRCH.
    """
    mm = context.mm
    if context.mmap_changing:
        raise os_error(errno.EAGAIN, _WHAT)
    exact_range(mm, to, n_bytes, _WHAT)
    end = exact_range(mm, start, n_bytes, _WHAT)
    mm.check_alive(_WHAT, errno.ESRCH)
    done = start
    with mm.mmap_lock.shared:
        source, target = _areas(context, to, start, n_bytes)
        try:
            while done < end:
                done += _move_at(mm, source, target, done, end, to + done - start, holes=holes)
        except OSError:
            if done == start:
                raise
    if wake:
        context.wake(to, to + done - start)
    return done - start


def _areas(context: Context, to: int, start: int, n_bytes: int) -> tuple["Vma", "Vma"]:
    """The areas to move from and to, each of which holds its whole range (``validate_move_areas``)."""
    vmas = context.mm.vmas
    source, target = vmas.at(start), vmas.at(to)
    if target is not None and not target.flags & VM_SHARED:
        prepare_anon_vma(context.mm, target)  # before any check
    if source is None or target is None:
        raise os_error(errno.ENOENT, _WHAT)
    if (
        (source.flags | target.flags) & (VM_SHARED | _IMMOVABLE)
        or (source.flags ^ target.flags) & (VM_ACCESS | VM_LOCKED)
        or not source.flags & VM_WRITE
        or not (source.anonymous and target.anonymous)
        or target.uffd is not context
        or start + n_bytes > source.end
        or to + n_bytes > target.end
    ):
        raise os_error(errno.EINVAL, _WHAT)
    return source, target


def _move_at(mm: "Mm", source: "Vma", target: "Vma", at: int, end: int, to: int, *, holes: bool) -> int:
    """Move what is at an address; returns its bytes, 0 to look again."""
    spot, there = seek(mm, at, "move: find"), seek_level(mm, to, 1, "move: look")
    if there.level == 1 and there.kind == LEAF:
        raise os_error(errno.EEXIST, _WHAT)
    if spot.level and spot.kind == LEAF:
        n_bytes = 1 << spot.fmt.shift
        if (at | to) & n_bytes - 1 or at + n_bytes > end or (there.level == 1 and there.entry):
            _check_owned(mm, spot)
            split_huge(mm, source, at)
            return 0
        there = populate(mm, to, "move: make tables", level=spot.level)
        return n_bytes if _move_leaf(mm, spot, there, target, at, to) else 0
    if spot.level and spot.kind == NONE:
        if not holes:
            raise os_error(errno.ENOENT, _WHAT)
        spot = populate(mm, at, "move: make tables")
    there = populate(mm, to, "move: make tables")
    if spot.level or there.level:
        return 0  # a huge page came meanwhile
    return _move_small(mm, spot, there, target, at, to, holes=holes)


def _move_small(mm: "Mm", spot: Spot, there: Spot, target: "Vma", at: int, to: int, *, holes: bool) -> int:
    """Move one page below all huge leaves (``move_pages_ptes``)."""
    n_bytes, fmt = mm.machine.page_bytes, spot.fmt
    if there.table.read(there.slot, "move: look at the target"):
        raise os_error(errno.EEXIST, _WHAT)
    spot = spot._replace(entry=spot.table.read(spot.slot, "move: look at the source"))
    if not spot.entry:
        if not holes:
            raise os_error(errno.ENOENT, _WHAT)
        return n_bytes
    if spot.kind == SWAP:
        if not fmt.flags(spot.entry) & EXCLUSIVE:
            raise os_error(errno.EBUSY, _WHAT)
    elif spot.kind != LEAF:
        # Who waits for a migration begins again; all else stays where it is.
        raise os_error(errno.EAGAIN if spot.kind == MIGRATION else errno.EFAULT, _WHAT)
    else:
        folio = _check_owned(mm, spot)
        if folio is not None and folio.order:
            if not try_split_folio(mm.machine, folio):
                raise os_error(errno.EBUSY, _WHAT)
            return 0
    return n_bytes if _move_leaf(mm, spot, there, target, at, to) else 0


def _check_owned(mm: "Mm", spot: Spot) -> "Folio | None":
    """The folio of a leaf, None for a zero page; it must be this address space's alone."""
    memory, fmt = mm.machine.memory, spot.fmt
    folio = folio_at(mm.machine, fmt, spot.entry)
    if folio is None or memory.is_zero(folio):
        return None
    if not is_exclusive(folio, fmt.pfn(spot.entry) - folio.pfn, "move: exclusive?"):
        raise os_error(errno.EBUSY, _WHAT)
    return folio


def _move_leaf(mm: "Mm", spot: Spot, there: Spot, target: "Vma", at: int, to: int) -> bool:
    """Take the entry out, flush, and put it in its new place; False if either has changed meanwhile."""
    memory, table, slot = mm.machine.memory, spot.table, spot.slot
    n_bytes = 1 << spot.fmt.shift
    with invalidating(mm, Event.CLEAR, at, at + n_bytes), _both_locked(spot, there):
        unchanged = table.read(slot, "move: recheck") == spot.entry and not there.table.read(there.slot, "move: room?")
        if not unchanged or not in_place(spot) or not in_place(there):
            return False
        folio = _check_owned(mm, spot) if spot.kind == LEAF else None
        entry = table.exchange(slot, 0, "move: take")
        flush_range(mm, at, at + n_bytes)
        if folio is not None and memory.look_for_pins(folio, "move: pinned?"):
            table.write(slot, entry, "move: pinned, put back")
            raise os_error(errno.EBUSY, _WHAT)
        there.table.write(there.slot, _moved(mm, there, target, entry, folio), "move: put")
        if folio is not None:
            folio.anon_vma = target.anon_vma  # prepared with the look at the areas
            folio.index = target.index_of(to, mm.machine.page_shift)
    return True


def _moved(mm: "Mm", there: Spot, target: "Vma", entry: int, folio: "Folio | None") -> int:
    """The entry at its new place."""
    fmt, machine = there.fmt, mm.machine
    tracks = fmt.supported & SOFT_DIRTY
    if fmt.kind(entry) != LEAF:
        return fmt.swp_mksoft_dirty(entry) if tracks else entry
    flags = leaf_flags(machine, target)
    if folio is None:
        return fmt.leaf(fmt.pfn(entry), flags) if fmt.level else zero_leaf(machine, fmt, flags)
    moved = fmt.leaf(fmt.pfn(entry), flags)
    if fmt.flags(entry) & DIRTY or fmt.level:
        moved = fmt.mkdirty(moved)
    return maybe_mkwrite(fmt, fmt.mksoft_dirty(moved) if tracks else moved, target)


@contextmanager
def _both_locked(spot: Spot, there: Spot) -> Iterator[None]:
    """Hold the locks of both tables, in the order of their addresses (``double_pt_lock``)."""
    with ExitStack() as held:
        for table in sorted({spot.table, there.table}, key=lambda table: table.address):
            held.enter_context(table.lock)
        yield
