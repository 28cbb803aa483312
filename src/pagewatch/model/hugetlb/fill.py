"""Ioctls that put huge pages in place (``mfill_atomic_hugetlb``): COPY, CONTINUE and POISON.

There is no huge zero page for every size, so ZEROPAGE is refused.
"""

import errno
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import MARKER, MARKER_POISON
from pagewatch.model.errors import os_error
from pagewatch.model.hugetlb.fault import cached_page, leaf_of, new_folio
from pagewatch.model.hugetlb.locks import fault_mutex, owned_file, reading
from pagewatch.model.hugetlb.tables import make
from pagewatch.model.memory import store_bytes
from pagewatch.model.pages import map_again, map_anon
from pagewatch.model.vma import VM_SHARED

if TYPE_CHECKING:
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def copy_huge_page(mm: "Mm", vma: "Vma", address: int, data: bytes, *, protect: bool) -> None:
    """Fill one huge page with given bytes.

    :raises OSError: EEXIST where a page is, mapped or in the page cache; EFAULT beyond the file.
    """
    file, machine = owned_file(vma), mm.machine
    index = vma.index_of(address, machine.page_shift)
    with fault_mutex(file, index), reading(machine, vma):
        shared = bool(vma.flags & VM_SHARED)
        if shared and file.cached(index) is not None:
            raise os_error(errno.EEXIST, "UFFDIO_COPY")
        if shared and index >= file.n_pages:
            raise os_error(errno.EFAULT, "UFFDIO_COPY")
        folio = new_folio(vma)
        for number in range(len(data) >> machine.page_shift):
            part = data[number << machine.page_shift : number + 1 << machine.page_shift]
            if any(part):
                store_bytes(folio, number, 0, part, "copy: from user")
        if shared:
            machine.memory.get(folio, "copy: page cache")
            folio.raw_dirty = True
            file.insert(index, folio)
        _install(mm, vma, address, folio, protect=protect, writable=True)


def continue_huge_page(mm: "Mm", vma: "Vma", address: int, *, protect: bool) -> None:
    """Map what the page cache holds.

    :raises OSError: EFAULT where it holds nothing; EEXIST where a page is.
    """
    file = owned_file(vma)
    with fault_mutex(file, vma.index_of(address, mm.machine.page_shift)), reading(mm.machine, vma):
        folio = cached_page(file, vma, address)
        if folio is None:
            raise os_error(errno.EFAULT, "UFFDIO_CONTINUE")
        mm.machine.memory.get(folio, "continue: get")
        _install(mm, vma, address, folio, protect=protect, writable=bool(vma.flags & VM_SHARED))


def poison_huge_page(mm: "Mm", vma: "Vma", address: int) -> None:
    """Make every access to one huge page fail.

    :raises OSError: EEXIST where anything is, markers included.
    """
    with (
        fault_mutex(owned_file(vma), vma.index_of(address, mm.machine.page_shift)),
        reading(mm.machine, vma),
    ):
        page = make(mm, vma, address)
        with page.lock:
            if page.read("poison: look"):
                raise os_error(errno.EEXIST, "UFFDIO_POISON")
            page.write(page.fmt.marker_entry(MARKER_POISON), "poison: install marker")


def _install(mm: "Mm", vma: "Vma", address: int, folio: "Folio", *, protect: bool, writable: bool) -> None:
    """Over nothing, or over a marker; takes over a reference (``hugetlb_mfill_atomic_pte``)."""
    page = make(mm, vma, address)
    fmt = page.fmt
    with page.lock:
        old = page.read("fill: look")
        if old and fmt.kind(old) != MARKER:
            if folio.mapping is not None and mm.machine.memory.count_maps(folio, "fill: count leaves") == 0:
                folio.mapping.remove(folio, "fill: occupied")
            mm.machine.memory.put(folio, "fill: occupied")
            raise os_error(errno.EEXIST, "userfaultfd")
        entry = fmt.mkdirty(leaf_of(vma, page, folio, writable=writable and not protect))
        if protect:
            entry = fmt.mkuffd_wp(entry)
        if folio.mapping is None:
            map_anon(mm, vma, folio, address)
        else:
            map_again(folio)
        page.write(entry, "fill: map")
