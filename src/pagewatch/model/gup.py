"""Reaching the pages behind user addresses, the slow way (mm/gup.c, ``__get_user_pages``).

Page by page under the mmap lock: look at the entry, and where it does not serve, fault and look again. A
write needs a writable entry, so the fault has broken copy-on-write before the page is taken. A read pin
through a read-only entry needs the page to be exclusive; otherwise a fault *unshares* it.
"""

import errno
from enum import Enum
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF, PROTNONE, SOFT_DIRTY, UFFD_WP, WRITE
from pagewatch.model.errors import os_error
from pagewatch.model.fault.handle import handle
from pagewatch.model.fault.notify import sleep
from pagewatch.model.fault.state import Access, Fault, Outcome, is_cow
from pagewatch.model.file import FileKind
from pagewatch.model.folioflags import is_exclusive
from pagewatch.model.gup_fast import gup_fast
from pagewatch.model.pins import Page, Want, grab, must_unshare
from pagewatch.model.populate import EHWPOISON
from pagewatch.model.vma import VM_IO, VM_MAYREAD, VM_MAYWRITE, VM_PFNMAP, VM_READ, VM_SHARED, VM_SOFTDIRTY, VM_WRITE
from pagewatch.model.walk import frame_of, locked, seek

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.tlb import Cpu
    from pagewatch.model.vma import Vma


class _Miss(Enum):
    """Why the entry does not serve, and what fault would help."""

    FAULT = "not mapped so"
    UNSHARE = "the page is not exclusive (EMLINK)"


def pin_pages(mm: "Mm", cpu: "Cpu", start: int, n_pages: int, want: Want) -> list[Page]:
    """Grab pages from ``start`` on (bytes): without a lock as far as that goes, the rest with it.

    ``pin_user_pages_fast``. Returns fewer than asked for if a page in the middle cannot be had.

    :raises OSError: the first page cannot be had; as :func:`get_user_pages`.
    """
    pages = gup_fast(mm, cpu, start, n_pages, want)
    if len(pages) == n_pages:
        return pages
    try:
        rest = get_user_pages(mm, start + len(pages) * mm.machine.page_bytes, n_pages - len(pages), want)
    except OSError:
        if not pages:
            raise
        return pages
    return pages + rest


def get_user_pages(mm: "Mm", start: int, n_pages: int, want: Want) -> list[Page]:
    """Grab pages from ``start`` on (bytes), faulting in what is not there.

    Returns fewer than asked for if a page in the middle cannot be had.

    :raises OSError: the first page cannot be had: EFAULT where nothing is mapped or the area does not allow
        it; EOPNOTSUPP for a long-term pin of persistent memory; EHWPOISON for failed memory with
        ``Want.HWPOISON``; ENOMEM.
    """
    pages: list[Page] = []
    for address in range(start, start + n_pages * mm.machine.page_bytes, mm.machine.page_bytes):
        try:
            pages.append(_one(mm, address, want))
        except OSError:
            if not pages:
                raise
            break
    return pages


def _one(mm: "Mm", address: int, want: Want) -> Page:
    """Look and fault until the page is there; a userfaultfd may keep us waiting without any lock."""
    unshare = mm.machine.quirks.gup_unshares
    wants_exclusive = unshare != "never"
    while True:
        with mm.mmap_lock.shared:
            vma = mm.vmas.at(address)
            if vma is None:
                raise os_error(errno.EFAULT, "get_user_pages")
            _check_area(vma, want)
            found = _follow(mm, vma, address, want, wants_exclusive=wants_exclusive)
            if isinstance(found, Page):
                return found
            if found is _Miss.UNSHARE and unshare == "once":
                wants_exclusive = False
            fault = Fault(mm, vma, address, _access_of(want, found), user=False, per_vma=False)
            outcome = handle(fault)
        if fault.message is not None:
            sleep(fault.message)
        elif outcome not in (Outcome.DONE, Outcome.RETRY):
            raise os_error(_errno_of(outcome, want), "get_user_pages")


def _check_area(vma: "Vma", want: Want) -> None:
    """Refuse areas that the wish does not fit (``check_vma_flags``)."""
    kind = None if vma.file is None else vma.file.kind
    if vma.flags & (VM_IO | VM_PFNMAP):
        raise os_error(errno.EFAULT, "get_user_pages")
    if Want.LONGTERM in want and kind is FileKind.DAX:
        raise os_error(errno.EOPNOTSUPP, "get_user_pages")
    if kind is FileKind.SECRET or not _access_allowed(vma, want):
        raise os_error(errno.EFAULT, "get_user_pages")


def _access_allowed(vma: "Vma", want: Want) -> bool:
    if Want.WRITE not in want:
        return bool(vma.flags & VM_READ) or (Want.FORCE in want and bool(vma.flags & VM_MAYREAD))
    # A long-term writer would dirty the page when its file system has long forgotten about it.
    tracked = vma.file is not None and vma.file.tracks_dirty and vma.flags & VM_SHARED
    if tracked and Want.PIN in want and Want.LONGTERM in want:
        return False
    return bool(vma.flags & VM_WRITE) or (Want.FORCE in want and is_cow(vma))


def _follow(mm: "Mm", vma: "Vma", address: int, want: Want, *, wants_exclusive: bool) -> Page | _Miss:
    """Grab the page if its entry serves, under the table's lock (``follow_page_mask``)."""
    spot = seek(mm, address, "gup: walk")
    if spot.kind != LEAF:
        return _Miss.FAULT
    memory, fmt = mm.machine.memory, spot.fmt
    with locked(spot) as stands:
        entry = spot.table.read(spot.slot, "gup: look") if stands else 0
        if fmt.kind(entry) != LEAF or (fmt.flags(entry) & PROTNONE and Want.FORCE not in want):
            return _Miss.FAULT
        pfn = frame_of(fmt, entry, address)
        folio = memory.folio(pfn)
        page = pfn - folio.pfn
        if Want.WRITE in want and not _may_write(mm, vma, fmt.flags(entry), Page(folio, page), want):
            return _Miss.FAULT
        if wants_exclusive and not fmt.flags(entry) & WRITE and must_unshare(folio, page, want, vma):
            return _Miss.UNSHARE
        grab(memory, folio, want)
    return Page(folio, page)


def _may_write(mm: "Mm", vma: "Vma", flags: int, page: Page, want: Want) -> bool:
    """A writable entry, or a debugger's way past a read-only area (``can_follow_write_pte``).

    Copy-on-write must have been broken for it, and nobody may wait for a fault to be told of the write.
    """
    if flags & WRITE:
        return True
    if Want.FORCE not in want or vma.flags & (VM_SHARED | VM_WRITE) or not vma.flags & VM_MAYWRITE:
        return False
    if mm.machine.quirks.soft_dirty and not flags & SOFT_DIRTY and not vma.flags & VM_SOFTDIRTY:
        return False
    return is_exclusive(page.folio, page.number, "gup: exclusive?") and not (vma.uffd_wp and flags & UFFD_WP)


def _access_of(want: Want, miss: _Miss) -> Access:
    if miss is _Miss.UNSHARE:
        return Access.UNSHARE
    return Access.WRITE if Want.WRITE in want else Access.READ


def _errno_of(outcome: Outcome, want: Want) -> int:
    """``vm_fault_to_errno``."""
    if outcome is Outcome.HWPOISON and Want.HWPOISON in want:
        return EHWPOISON
    return errno.ENOMEM if outcome is Outcome.OOM else errno.EFAULT
