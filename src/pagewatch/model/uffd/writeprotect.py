"""UFFDIO_WRITEPROTECT: protect a range, or resolve its protection and wake the sleepers."""

import errno
from typing import TYPE_CHECKING

from pagewatch.model.change import Change
from pagewatch.model.errors import os_error
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.protect import change_protection
from pagewatch.model.uffd.context import Context
from pagewatch.model.uffd.register import exact_range

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma

_WHAT = "UFFDIO_WRITEPROTECT"


def protect_range(context: Context, start: int, n_bytes: int) -> None:
    """Protect every page of a range (bytes), populated or not where the areas use markers.

    Any userfaultfd of the address space may do it: the kernel does not ask which one owns an area.

    :raises OSError: ENOENT without an area, or at one that is not watched for writes (areas before it are
        protected already); EINVAL for a bad range; EAGAIN while an event is pending; ESRCH after exit.
    """
    _change_range(context, start, n_bytes, Change.WP)


def resolve_range(context: Context, start: int, n_bytes: int, *, wake: bool = True) -> None:
    """Lift protection from a range (bytes) and, unless told otherwise, wake who waits for it.

    :raises OSError: as :func:`protect_range`.
    """
    end = _change_range(context, start, n_bytes, Change.RESOLVE)
    if wake:
        context.wake(start, end)


def _change_range(context: Context, start: int, n_bytes: int, change: Change) -> int:
    mm = context.mm
    end = exact_range(mm, start, n_bytes, _WHAT)
    mm.check_alive(_WHAT, errno.ESRCH)
    with mm.mmap_lock.shared:
        if context.mmap_changing:
            raise os_error(errno.EAGAIN, _WHAT)
        areas = mm.vmas.overlapping(start, end)
        if not areas:
            raise os_error(errno.ENOENT, _WHAT)
        for vma in areas:
            if not vma.uffd_wp:
                raise os_error(errno.ENOENT, _WHAT)
            if (start | n_bytes) & vma.page_bytes - 1:
                raise os_error(errno.EINVAL, _WHAT)
            change_part(mm, vma, max(start, vma.start), min(end, vma.end), change)
    return end


def change_part(mm: "Mm", vma: "Vma", start: int, end: int, change: Change) -> None:
    """Change the protection of part of one area (``uffd_wp_range``)."""
    with invalidating(mm, Event.PROTECTION_VMA, start, end):
        change_protection(mm, vma, start, end, change)
