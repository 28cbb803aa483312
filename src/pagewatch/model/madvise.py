"""madvise: what the advice does to page tables (mm/madvise.c)."""

import errno
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING

from pagewatch.model.areas import isolate, merge_around
from pagewatch.model.collapse.call import collapse_range
from pagewatch.model.errors import os_error
from pagewatch.model.gather import Zap
from pagewatch.model.guard import install_guards, remove_guards
from pagewatch.model.lazyfree import mark_lazy_free
from pagewatch.model.populate import populate_range
from pagewatch.model.reclaim import page_out
from pagewatch.model.truncate import punch_hole
from pagewatch.model.uffd.events import deliver, removing
from pagewatch.model.vma import (
    VM_DONTCOPY,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_LOCKED,
    VM_MAYWRITE,
    VM_NOHUGEPAGE,
    VM_PFNMAP,
    VM_SHARED,
    VM_SPECIAL,
    VM_WIPEONFORK,
    Vma,
)
from pagewatch.model.zap import zap_range

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm


class Advice(IntEnum):
    """``MADV_*``, the kernel's values."""

    DONTNEED = 4
    FREE = 8
    REMOVE = 9
    DONTFORK = 10
    DOFORK = 11
    HUGEPAGE = 14
    NOHUGEPAGE = 15
    WIPEONFORK = 18
    KEEPONFORK = 19
    PAGEOUT = 21
    POPULATE_READ = 22
    POPULATE_WRITE = 23
    COLLAPSE = 25
    GUARD_INSTALL = 102
    GUARD_REMOVE = 103


_FLAG_CHANGES: dict[Advice, tuple[int, int]] = {
    Advice.DONTFORK: (VM_DONTCOPY, 0),
    Advice.DOFORK: (0, VM_DONTCOPY),
    Advice.WIPEONFORK: (VM_WIPEONFORK, 0),
    Advice.KEEPONFORK: (0, VM_WIPEONFORK),
    Advice.HUGEPAGE: (VM_HUGEPAGE, VM_NOHUGEPAGE),
    Advice.NOHUGEPAGE: (VM_NOHUGEPAGE, VM_HUGEPAGE),
}
"""Advice that only sets and clears flags of areas."""


def madvise(mm: "Mm", start: int, length: int, advice: int) -> None:
    """Advise about a range (bytes).

    :raises OSError: EINVAL for unknown advice, a misaligned start, or an area that cannot take it; ENOMEM
        at gaps (the rest is done); EACCES, EFAULT, EHWPOISON as the advice has it.
    """
    page = mm.machine.page_bytes
    end = start + length + page - 1 & -page
    if start & page - 1 or length < 0 or not _is_known(mm, advice):
        raise os_error(errno.EINVAL, "madvise")
    if start == end:
        return
    wanted = Advice(advice)
    if wanted in (Advice.POPULATE_READ, Advice.POPULATE_WRITE):
        populate_range(mm, start, end, writing=wanted is Advice.POPULATE_WRITE)
        return
    position, gap = start, False
    while position < end:
        # Looked up afresh: what was done so far may have split and merged areas.
        vma = mm.vmas.find(position)
        if vma is None or vma.start >= end:
            gap = True
            break
        gap |= vma.start > position
        first, position = max(position, vma.start), min(end, vma.end)
        if wanted in _FLAG_CHANGES:
            _change_flags(mm, vma, first, position, wanted)
        else:
            _ACTIONS[wanted](mm, vma, first, position)
    if gap:
        raise os_error(errno.ENOMEM, "madvise")


def _is_known(mm: "Mm", advice: int) -> bool:
    """Whether the kernel has this advice (``madvise_behavior_valid``)."""
    guards = (Advice.GUARD_INSTALL, Advice.GUARD_REMOVE)
    return advice in Advice.__members__.values() and (mm.machine.quirks.guards or advice not in guards)


def _dont_need(mm: "Mm", vma: Vma, start: int, end: int) -> None:
    """Contents go; private memory reads as zeros or as the file again (``madvise_dontneed_single_vma``)."""
    if vma.flags & (VM_LOCKED | VM_PFNMAP):
        raise os_error(errno.EINVAL, "madvise")
    if vma.flags & VM_HUGETLB:
        if start & vma.page_bytes - 1:
            raise os_error(errno.EINVAL, "madvise")
        end &= -vma.page_bytes
    deliver([removing(vma, start, end)])
    if start < end:
        with mm.mmap_lock.shared:
            zap_range(mm, vma, start, end, Zap.DONTNEED)


def _free(mm: "Mm", vma: Vma, start: int, end: int) -> None:
    if not vma.anonymous or vma.flags & (VM_LOCKED | VM_HUGETLB | VM_PFNMAP):
        raise os_error(errno.EINVAL, "madvise")
    deliver([removing(vma, start, end)])
    with mm.mmap_lock.shared:
        mark_lazy_free(mm, start, end)


def _remove(mm: "Mm", vma: Vma, start: int, end: int) -> None:
    if vma.file is None or vma.flags & VM_LOCKED:
        raise os_error(errno.EINVAL, "madvise")
    if vma.flags & (VM_SHARED | VM_MAYWRITE) != VM_SHARED | VM_MAYWRITE:
        raise os_error(errno.EACCES, "madvise")
    deliver([removing(vma, start, end)])
    shift = mm.machine.page_shift
    punch_hole(vma.file, vma.index_of(start, shift) << shift, end - start)


def _page_out(mm: "Mm", vma: Vma, start: int, end: int) -> None:
    if vma.flags & (VM_LOCKED | VM_HUGETLB | VM_PFNMAP):
        raise os_error(errno.EINVAL, "madvise")
    with mm.mmap_lock.shared:
        page_out(mm, vma, start, end)


def _install_guards(mm: "Mm", vma: Vma, start: int, end: int) -> None:
    if vma.flags & (VM_LOCKED | VM_HUGETLB | VM_SPECIAL) or not vma.flags & VM_MAYWRITE or _lacks_guards(mm, vma):
        raise os_error(errno.EINVAL, "madvise")
    with mm.mmap_lock.shared:
        install_guards(mm, vma, start, end)


def _remove_guards(mm: "Mm", vma: Vma, start: int, end: int) -> None:
    if vma.flags & (VM_HUGETLB | VM_SPECIAL) or _lacks_guards(mm, vma):
        raise os_error(errno.EINVAL, "madvise")
    with mm.mmap_lock.shared:
        remove_guards(mm, start, end)


def _lacks_guards(mm: "Mm", vma: Vma) -> bool:
    return not vma.anonymous and not mm.machine.quirks.guards_in_files


def _change_flags(mm: "Mm", vma: Vma, start: int, end: int, advice: Advice) -> None:
    if advice is Advice.WIPEONFORK and (not vma.anonymous or vma.flags & VM_SHARED):
        raise os_error(errno.EINVAL, "madvise")
    added, removed = _FLAG_CHANGES[advice]
    if vma.flags == vma.flags & ~removed | added:
        return  # not even a merge
    with mm.write_locked():
        part = isolate(mm, vma, start, end)
        part.flags = part.flags & ~removed | added
        merge_around(mm, part)


_ACTIONS: dict[Advice, Callable[["Mm", Vma, int, int], None]] = {
    Advice.DONTNEED: _dont_need,
    Advice.FREE: _free,
    Advice.REMOVE: _remove,
    Advice.PAGEOUT: _page_out,
    Advice.COLLAPSE: collapse_range,
    Advice.GUARD_INSTALL: _install_guards,
    Advice.GUARD_REMOVE: _remove_guards,
}
