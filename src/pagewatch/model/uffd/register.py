"""UFFDIO_REGISTER and UFFDIO_UNREGISTER: attaching a userfaultfd to areas.

A refusal changes nothing: every area of the range is looked at first. Gaps are skipped.
"""

import errno
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import UFFD_WP
from pagewatch.model.areas import check_range, isolate, merge_around
from pagewatch.model.change import Change
from pagewatch.model.errors import os_error
from pagewatch.model.file import FileKind
from pagewatch.model.hugetlb.sharing import unshare_range
from pagewatch.model.protect import change_protection
from pagewatch.model.uffd.context import Context, Mode
from pagewatch.model.vma import (
    VM_DROPPABLE,
    VM_MAYWRITE,
    VM_SPECIAL,
    VM_UFFD,
    VM_UFFD_MINOR,
    VM_UFFD_MISSING,
    VM_UFFD_WP,
    Vma,
)
from pagewatch.steps import RMW, access

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm

_VM_OF_MODE = {Mode.MISSING: VM_UFFD_MISSING, Mode.WP: VM_UFFD_WP, Mode.MINOR: VM_UFFD_MINOR}


def register(context: Context, start: int, n_bytes: int, mode: Mode) -> None:
    """Watch the areas of a range (bytes).

    :raises OSError: EINVAL for a bad mode, range or area; EPERM for a file that cannot be written;
        EBUSY for an area of another userfaultfd; ENOMEM after the process exited.
    """
    mm = context.mm
    if not mode or mode & ~(Mode.MISSING | Mode.WP | Mode.MINOR):
        raise os_error(errno.EINVAL, "UFFDIO_REGISTER")
    if mode & Mode.WP and not mm.machine.fmt.at[0].supported & UFFD_WP:
        raise os_error(errno.EINVAL, "UFFDIO_REGISTER")
    end = exact_range(mm, start, n_bytes, "UFFDIO_REGISTER")
    mm.check_alive("UFFDIO_REGISTER", errno.ENOMEM)
    flags = sum((flag for bit, flag in _VM_OF_MODE.items() if mode & bit), 0)
    with mm.write_locked():
        areas = _areas(mm, start, end, "UFFDIO_REGISTER")
        for vma in areas:
            _check(context, vma, flags, end)
        for vma in areas:
            if vma.uffd is context and vma.flags & flags == flags:
                continue  # watched for that already, and perhaps for more, which then stays
            part = isolate(mm, vma, max(start, vma.start), min(end, vma.end))
            access(("area", part.number), RMW, "register: watch the area")
            part.flags = part.flags & ~VM_UFFD | flags
            part.uffd = context
            if part.hugetlb and flags & (VM_UFFD_WP | VM_UFFD_MINOR):
                # What is watched here must not be shared with who does not watch.
                unshare_range(mm, part, part.start, part.end)
            merge_around(mm, part)


def unregister(context: Context, start: int, n_bytes: int) -> None:
    """Stop watching the areas of a range (bytes), lift their protection and wake who sleeps there.

    :raises OSError: EINVAL for a bad range, for areas of another userfaultfd, and for areas that could
        never be registered; ENOMEM after the process exited.
    """
    mm = context.mm
    end = exact_range(mm, start, n_bytes, "UFFDIO_UNREGISTER")
    mm.check_alive("UFFDIO_UNREGISTER", errno.ENOMEM)
    with mm.write_locked():
        areas = _areas(mm, start, end, "UFFDIO_UNREGISTER")
        for vma in areas:
            if (vma.uffd is not None and vma.uffd is not context) or not _can_watch(context, vma, vma.flags):
                raise os_error(errno.EINVAL, "UFFDIO_UNREGISTER")
        for vma in areas:
            if vma.uffd is not None:
                detach(mm, vma, max(start, vma.start), min(end, vma.end))
    context.wake(start, end)


def detach(mm: "Mm", vma: Vma, start: int, end: int) -> None:
    """Clear bits and markers of part of an area, and its registration (``userfaultfd_clear_vma``)."""
    part = isolate(mm, vma, start, end)
    if part.uffd_wp:
        change_protection(mm, part, part.start, part.end, Change.RESOLVE)
    access(("area", part.number), RMW, "unregister: leave the area")
    part.flags &= ~VM_UFFD
    part.uffd = None
    merge_around(mm, part)


def exact_range(mm: "Mm", start: int, n_bytes: int, what: str) -> int:
    """The end of a range both ends of which must be page aligned (``validate_range``)."""
    if n_bytes & mm.machine.page_bytes - 1:
        raise os_error(errno.EINVAL, what)
    return check_range(mm, start, n_bytes, what)


def _areas(mm: "Mm", start: int, end: int, what: str) -> list[Vma]:
    """The areas of a range, whose start must not be inside a huge page."""
    areas = mm.vmas.overlapping(start, end)
    if not areas or max(start, areas[0].start) & areas[0].page_bytes - 1:
        raise os_error(errno.EINVAL, what)
    return areas


def _check(context: Context, vma: Vma, flags: int, end: int) -> None:
    if not _can_watch(context, vma, flags):
        raise os_error(errno.EINVAL, "UFFDIO_REGISTER")
    if not vma.flags & VM_MAYWRITE:
        raise os_error(errno.EPERM, "UFFDIO_REGISTER")
    if min(end, vma.end) & vma.page_bytes - 1:
        raise os_error(errno.EINVAL, "UFFDIO_REGISTER")
    if vma.uffd is not None and vma.uffd is not context:
        raise os_error(errno.EBUSY, "UFFDIO_REGISTER")


def _can_watch(context: Context, vma: Vma, flags: int) -> bool:
    """``vma_can_userfault``: asynchronous write-protection alone works on nearly any memory."""
    quirks = context.mm.machine.quirks
    if vma.flags & VM_DROPPABLE or (quirks.uffd_refuses_special and vma.flags & VM_SPECIAL and not vma.hugetlb):
        return False
    kind = None if vma.file is None else vma.file.kind
    if flags & VM_UFFD_MINOR and kind not in (FileKind.SHMEM, FileKind.HUGETLB):
        return False
    if context.wp_async and flags & VM_UFFD == VM_UFFD_WP:
        return True
    return kind in (None, FileKind.SHMEM, FileKind.HUGETLB)
