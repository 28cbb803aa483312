"""Making, cutting and removing areas: mmap, munmap, mprotect (mm/vma.c, mm/mmap.c, mm/mprotect.c).

Everything here runs with the mmap lock held for writing and the touched areas locked.
"""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pagewatch.model.change import Change
from pagewatch.model.errors import os_error
from pagewatch.model.gather import Gather, Zap
from pagewatch.model.hugetlb.sharing import unshare_for_split
from pagewatch.model.hugetlb.sizes import find_gap, slice_bytes, stranger_in_slice
from pagewatch.model.hugetlb.tables import free_directories
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.protect import change_protection
from pagewatch.model.thp import split_huge
from pagewatch.model.vma import (
    VM_ACCESS,
    VM_ACCOUNT,
    VM_EXEC,
    VM_HUGETLB,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYWRITE,
    VM_READ,
    VM_SHARED,
    VM_SOFTDIRTY,
    VM_STICKY,
    VM_WRITE,
    Vma,
    can_merge,
)
from pagewatch.model.zap import free_tables, zap_entries
from pagewatch.steps import RMW, WRITE, access

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping
    from pagewatch.model.mm import Mm

PROT_TO_VM = ((1, VM_READ), (2, VM_WRITE), (4, VM_EXEC))
"""PROT_READ, PROT_WRITE, PROT_EXEC."""


def vm_access(prot: int) -> int:
    """Area flags of PROT_* bits."""
    return sum(flag for bit, flag in PROT_TO_VM if prot & bit)


def check_range(mm: "Mm", start: int, length: int, what: str, number: int = errno.EINVAL) -> int:
    """The end of a page-aligned, non-empty user range, its length rounded up to pages.

    :raises OSError: with errno ``number``.
    """
    page = mm.machine.page_bytes
    end = start + length + page - 1 & -page
    if start & page - 1 or start < 0 or length <= 0 or end > mm.top:
        raise os_error(number, what)
    return end


def map_area(
    mm: "Mm",
    n_bytes: int,
    *,
    prot: int,
    flags: int,
    file: "FileMapping | None",
    offset: int,
    at: int | None,
    name: str,
    page_bytes: int,
) -> int:
    """Map an area and return its start; ``at`` replaces what is there (MAP_FIXED).

    :raises OSError: EINVAL for misaligned numbers, ENOMEM where there is no room.
    """
    if n_bytes <= 0 or offset & page_bytes - 1 or (at is not None and at & page_bytes - 1):
        raise os_error(errno.EINVAL, "mmap")
    n_bytes = n_bytes + page_bytes - 1 & -page_bytes
    if at is None:
        pmd_bytes = mm.machine.pmd_bytes
        alignment = max(slice_bytes(mm.machine.fmt, page_bytes), pmd_bytes if n_bytes >= pmd_bytes else 0)
        at = find_gap(mm, n_bytes, page_bytes, alignment)
    elif stranger_in_slice(mm, at, at + n_bytes, page_bytes) is not None:
        raise os_error(errno.EBUSY, "mmap")
    if at is None or at < 0 or at + n_bytes > mm.top:
        raise os_error(errno.ENOMEM, "mmap")
    shift = mm.machine.page_shift
    flags |= vm_access(prot)
    with mm.write_locked():
        unmap_areas(mm, at, at + n_bytes)
        vma = Vma(
            at,
            at + n_bytes,
            flags | _account(flags) | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_SOFTDIRTY,
            number=mm.machine.new_number(),
            page_bytes=page_bytes,
            pgoff=(at if file is None else offset) >> shift,
            file=file,
            name=name,
        )
        mm.lock_vma(vma)
        link(mm, vma)
        merge_around(mm, vma)
    return at


def _account(flags: int) -> int:
    """Whether an area's memory is promised to it: private and writable, once (``accountable_mapping``)."""
    return VM_ACCOUNT if flags & VM_WRITE and not flags & (VM_SHARED | VM_HUGETLB) else 0


def link(mm: "Mm", vma: Vma) -> None:
    """Insert an area and list it with its file and its reverse-mapping root (``vma_link``)."""
    with lists_locked(vma):
        _insert(mm, vma)


def unlink(mm: "Mm", vma: Vma) -> None:
    """Take an area out of all lists.

    Whoever walks one goes on to the tables, which are freed next (``unlink_anon_vmas``).
    """
    with lists_locked(vma):
        _remove(mm, vma)


@contextmanager
def lists_locked(vma: Vma) -> Iterator[None]:
    """Keep out who comes to an area from its file or its reverse-mapping root (``vma_prepare``).

    What they go by, its extent as well as that it is listed, changes under these locks only.
    """
    with ExitStack() as held:
        if vma.file is not None:
            held.enter_context(vma.file.i_mmap_lock.exclusive)
        if vma.anon_vma is not None:
            held.enter_context(vma.anon_vma.lock.exclusive)
        yield


def _insert(mm: "Mm", vma: Vma) -> None:
    access(("areas", mm.id), WRITE, "areas: insert")
    mm.vmas.insert(vma)
    if vma.file is not None:
        vma.file.areas.append((mm, vma))
    if vma.anon_vma is not None:
        vma.anon_vma.add(mm, vma)


def _remove(mm: "Mm", vma: Vma) -> None:
    access(("areas", mm.id), WRITE, "areas: remove")
    mm.vmas.remove(vma)
    if vma.file is not None:
        vma.file.areas = [(owner, listed) for owner, listed in vma.file.areas if listed is not vma]
    if vma.anon_vma is not None:
        vma.anon_vma.remove(vma)


def split(mm: "Mm", vma: Vma, address: int) -> Vma:
    """Cut an area in two at an address (``__split_vma``); returns the upper part.

    :raises OSError: EINVAL inside a page of a hugetlb area.
    """
    if address & vma.page_bytes - 1:
        raise os_error(errno.EINVAL, "split")
    mm.lock_vma(vma)
    if vma.hugetlb:
        unshare_for_split(mm, vma, address)
    if mm.machine.thp_bytes and address & mm.machine.thp_bytes - 1:
        split_huge(mm, vma, address)  # no huge leaf belongs to two areas (vma_adjust_trans_huge)
    upper = Vma(
        address,
        vma.end,
        vma.flags,
        number=mm.machine.new_number(),
        page_bytes=vma.page_bytes,
        pgoff=vma.index_of(address, mm.machine.page_shift),
        file=vma.file,
        name=vma.name,
    )
    upper.uffd = vma.uffd
    upper.anon_vma, upper.branch, upper.inherited = vma.anon_vma, vma.branch, vma.inherited
    mm.lock_vma(upper)
    with lists_locked(vma):
        access(("areas", mm.id), WRITE, "areas: split")
        mm.vmas.resize(vma, vma.start, address)
        _insert(mm, upper)
    return upper


def isolate(mm: "Mm", vma: Vma, start: int, end: int) -> Vma:
    """The part of an area that lies in [start, end), as an area of its own."""
    if vma.start < start:
        vma = split(mm, vma, start)
    if vma.end > end:
        split(mm, vma, end)
    mm.lock_vma(vma)
    return vma


def merge_around(mm: "Mm", vma: Vma) -> Vma:
    """Merge an area with its neighbours where nothing tells them apart (``vma_merge``)."""
    shift = mm.machine.page_shift
    before = mm.vmas.before(vma)
    if before is not None and can_merge(before, vma, shift):
        vma = _join(mm, before, vma)
    after = mm.vmas.after(vma)
    if after is not None and can_merge(vma, after, shift):
        vma = _join(mm, vma, after)
    return vma


def _join(mm: "Mm", left: Vma, right: Vma) -> Vma:
    mm.lock_vma(left)
    mm.lock_vma(right)
    with lists_locked(right if left.anon_vma is None else left):
        _remove(mm, right)
        mm.vmas.resize(left, left.start, right.end)
        left.flags |= right.flags & VM_STICKY
        if left.anon_vma is None and right.anon_vma is not None:
            access(("area", left.number), RMW, "areas: the root of both")
            left.anon_vma, left.branch, left.inherited = right.anon_vma, right.branch, right.inherited
            left.anon_vma.add(mm, left)
    return left


def unmap_areas(mm: "Mm", start: int, end: int) -> list[Vma]:
    """Remove every area in [start, end) with its memory and tables (``do_vmi_munmap``); returns them.

    :raises OSError: EINVAL at part of a huge page; nothing is removed then, but what was cut stays cut.
    """
    gone = [isolate(mm, vma, start, end) for vma in mm.vmas.overlapping(start, end)]
    for vma in gone:
        # One bracket per area, none around the whole: a range may span many.
        with invalidating(mm, Event.UNMAP, vma.start, vma.end):
            gather = Gather(mm)
            zap_entries(gather, vma, vma.start, vma.end, Zap.UNMAP)
            gather.finish()
        unlink(mm, vma)
    for vma in gone:
        free_directories(mm, vma)
    if gone:
        free_tables(mm, start, end)
    return gone


def exit_mm(mm: "Mm") -> None:
    """Give everything back (``exit_mmap``)."""
    with mm.write_locked(), invalidating(mm, Event.RELEASE, 0, mm.top):
        unmap_areas(mm, 0, mm.top)
    mm.machine.tables.free(mm.root)
    mm.dead = True


def protect_areas(mm: "Mm", start: int, end: int, prot: int) -> None:
    """Mprotect of [start, end): EACCES where the file does not allow it, ENOMEM at the first gap."""
    with mm.write_locked():
        position = start
        wanted = vm_access(prot)
        while position < end:
            vma = mm.vmas.at(position)
            if vma is None:
                raise os_error(errno.ENOMEM, "mprotect")
            if wanted & VM_WRITE and not vma.flags & VM_MAYWRITE:
                raise os_error(errno.EACCES, "mprotect")
            first, position = position, min(end, vma.end)
            if vma.flags & VM_ACCESS == wanted:
                continue
            part = isolate(mm, vma, first, position)
            part.flags = part.flags & ~VM_ACCESS | wanted
            part.flags |= _account(part.flags)
            if part.anonymous and part.anon_vma is None and not wanted & VM_WRITE:
                part.flags &= ~VM_ACCOUNT  # nothing was taken of what was promised
            with invalidating(mm, Event.PROTECTION_VMA, part.start, part.end):
                change_protection(mm, part, part.start, part.end, Change.ACCESS)
            merge_around(mm, part)
