"""MADV_POPULATE_READ and MADV_POPULATE_WRITE: fault a range in before it is used."""

import errno
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF, WRITE
from pagewatch.model.errors import os_error
from pagewatch.model.fault.handle import fault_outcome
from pagewatch.model.fault.state import Access, Outcome, allows
from pagewatch.model.walk import seek

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm

EHWPOISON = 133
"""Memory page has hardware error; the errno module does not know it."""

_ERRNO = {Outcome.HWPOISON: EHWPOISON, Outcome.OOM: errno.ENOMEM}


def populate_range(mm: "Mm", start: int, end: int, *, writing: bool) -> None:
    """Make every page of [start, end) present, and writable if ``writing``.

    :raises OSError: ENOMEM at a gap, EINVAL where the area does not allow it, EHWPOISON, EFAULT.
    """
    access = Access.WRITE if writing else Access.READ
    for address in range(start, end, mm.machine.page_bytes):
        vma = mm.vmas.at(address)
        if vma is None:
            raise os_error(errno.ENOMEM, "madvise")
        if not allows(vma, access):
            raise os_error(errno.EINVAL, "madvise")
        _fault_in(mm, address, access)


def _fault_in(mm: "Mm", address: int, access: Access) -> None:
    while True:
        spot = seek(mm, address, "populate: look")
        if spot.kind == LEAF and (access is Access.READ or spot.fmt.flags(spot.entry) & WRITE):
            return
        outcome = fault_outcome(mm, address, access)
        if outcome is not Outcome.DONE:
            raise os_error(_ERRNO.get(outcome, errno.EFAULT), "madvise")
