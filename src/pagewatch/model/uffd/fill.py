"""Ioctls that put pages in place: COPY, ZEROPAGE, CONTINUE, POISON (``mfill_atomic``).

Each page is filled or refused on its own. An ioctl that filled some pages returns how many bytes; one
that filled none raises.
"""

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import MARKER, MARKER_POISON
from pagewatch.model.errors import os_error
from pagewatch.model.fault.state import leaf_flags
from pagewatch.model.file import FileKind
from pagewatch.model.hugetlb.fill import continue_huge_page, copy_huge_page, poison_huge_page
from pagewatch.model.hugetlb.tables import make
from pagewatch.model.memory import store_bytes
from pagewatch.model.pages import map_again, map_anon, zero_leaf
from pagewatch.model.rmap import prepare_anon_vma
from pagewatch.model.uffd.context import Context
from pagewatch.model.uffd.register import exact_range
from pagewatch.model.vma import VM_SHARED, VM_UFFD_WP, VM_WRITE
from pagewatch.model.walk import populate, populated

if TYPE_CHECKING:
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma

_CONTINUE = "UFFDIO_CONTINUE"
_Filler = Callable[["Mm", "Vma", int], None]


def copy(context: Context, start: int, data: bytes, *, protect: bool = False, wake: bool = True) -> int:
    """Fill pages with given bytes; a marker in the way is replaced, and with it its protection.

    :param protect: map them write-protected; needs an area watched for writes.
    :raises OSError: EEXIST where a page is; ENOENT outside watched areas; EINVAL; EAGAIN; ESRCH.
    """

    def fill(mm: "Mm", vma: "Vma", address: int) -> None:
        part = data[address - start : address - start + vma.page_bytes]
        if vma.hugetlb:
            copy_huge_page(mm, vma, address, part, protect=protect)
            return
        folio = mm.machine.memory.alloc()
        store_bytes(folio, 0, 0, part, "copy: from user")
        _place(mm, vma, address, folio, protect=protect)

    return _fill_range(context, start, len(data), "UFFDIO_COPY", fill, protect=protect, wake=wake)


def zeropage(context: Context, start: int, n_bytes: int, *, wake: bool = True) -> int:
    """Fill anonymous memory with the zero page; other memory with fresh zeroed pages.

    :raises OSError: as :func:`copy`; here a marker counts as a page.
    """

    def fill(mm: "Mm", vma: "Vma", address: int) -> None:
        if vma.hugetlb:
            raise os_error(errno.EINVAL, "UFFDIO_ZEROPAGE")  # no size but one has a huge zero page
        if vma.flags & VM_SHARED:
            _place(mm, vma, address, mm.machine.memory.alloc(), protect=False)
            return
        with populated(mm, address, "zeropage: find") as spot:
            if spot.table.read(spot.slot, "zeropage: look"):
                raise os_error(errno.EEXIST, "UFFDIO_ZEROPAGE")
            entry = zero_leaf(mm.machine, spot.fmt, leaf_flags(mm.machine, vma))
            spot.table.write(spot.slot, entry, "zeropage: map")

    return _fill_range(context, start, n_bytes, "UFFDIO_ZEROPAGE", fill, wake=wake)


def continue_(context: Context, start: int, n_bytes: int, *, protect: bool = False, wake: bool = True) -> int:
    """Map what the page cache holds; what is in swap is read back.

    :raises OSError: EFAULT where it holds nothing; EINVAL for memory that is not shared; as :func:`copy`.
    """

    def fill(mm: "Mm", vma: "Vma", address: int) -> None:
        if vma.file is None:
            raise AssertionError("checked before")
        if vma.hugetlb:
            continue_huge_page(mm, vma, address, protect=protect)
            return
        index = vma.index_of(address, mm.machine.page_shift)
        if vma.file.cached(index) is None and index not in vma.file.swapped:
            raise os_error(errno.EFAULT, _CONTINUE)
        folio = vma.file.bring_in(index)
        _install(mm, vma, address, folio, index - folio.index, protect=protect)

    return _fill_range(context, start, n_bytes, _CONTINUE, fill, protect=protect, wake=wake)


def poison(context: Context, start: int, n_bytes: int, *, wake: bool = True) -> int:
    """Make every access to a range fail as if its memory had.

    :raises OSError: as :func:`copy`; here a marker counts as a page.
    """

    def fill(mm: "Mm", vma: "Vma", address: int) -> None:
        if vma.hugetlb:
            poison_huge_page(mm, vma, address)
            return
        with populated(mm, address, "poison: find") as spot:
            if spot.table.read(spot.slot, "poison: look"):
                raise os_error(errno.EEXIST, "UFFDIO_POISON")
            spot.table.write(spot.slot, spot.fmt.marker_entry(MARKER_POISON), "poison: install marker")

    return _fill_range(context, start, n_bytes, "UFFDIO_POISON", fill, wake=wake)


def _fill_range(
    context: Context, start: int, n_bytes: int, what: str, fill: _Filler, *, protect: bool = False, wake: bool
) -> int:
    mm = context.mm
    end = exact_range(mm, start, n_bytes, what)
    mm.check_alive(what, errno.ESRCH)
    done = start
    try:
        while done < end:
            with mm.mmap_lock.shared:
                vma = _checked_area(context, start, end, what, protect=protect)
                if (start | n_bytes) & vma.page_bytes - 1:
                    raise os_error(errno.EINVAL, what)
                _check_page(mm, vma, done, what)
                fill(mm, vma, done)
            done += vma.page_bytes
    except OSError:
        if done == start:
            raise
    if wake and done > start:
        context.wake(start, done)
    return done - start


def _checked_area(context: Context, start: int, end: int, what: str, *, protect: bool) -> "Vma":
    """The one watched area that holds the whole range."""
    vma = context.mm.vmas.at(start)
    if vma is not None and not vma.flags & VM_SHARED:
        # Before any check: also a refused call gives fork a reason to copy the area's tables.
        prepare_anon_vma(context.mm, vma)
    if vma is None or vma.end < end or vma.uffd is None:
        raise os_error(errno.ENOENT, what)
    if context.mmap_changing:
        raise os_error(errno.EAGAIN, what)
    if (protect and not vma.flags & VM_UFFD_WP) or not _can_fill(vma, what):
        raise os_error(errno.EINVAL, what)
    return vma


def _can_fill(vma: "Vma", what: str) -> bool:
    """Whether such memory can be filled at all: no files on disk, and CONTINUE needs a page cache."""
    if vma.file is None:
        return what != _CONTINUE
    return vma.file.kind is not FileKind.DISK


def _check_page(mm: "Mm", vma: "Vma", address: int, what: str) -> None:
    """Tables are made before anything else is looked at; beyond the end of the file there is nothing to fill."""
    if vma.hugetlb:
        make(mm, vma, address)
        return
    populate(mm, address, "fill: make tables")
    if vma.file is not None and vma.index_of(address, mm.machine.page_shift) >= vma.file.n_pages:
        raise os_error(errno.EINVAL if what == _CONTINUE else errno.EFAULT, what)


def _place(mm: "Mm", vma: "Vma", address: int, folio: "Folio", *, protect: bool) -> None:
    """Put a fresh folio in place, by way of the page cache for shared memory. Takes over its reference."""
    if vma.file is None or not vma.flags & VM_SHARED:
        _install(mm, vma, address, folio, 0, protect=protect)
        return
    index = vma.index_of(address, mm.machine.page_shift)
    if vma.file.cached(index) is not None or index in vma.file.swapped:
        mm.machine.memory.put(folio, "fill: cached already")
        raise os_error(errno.EEXIST, "userfaultfd")
    mm.machine.memory.get(folio, "fill: page cache")
    folio.raw_dirty = True
    vma.file.insert(index, folio)
    _install(mm, vma, address, folio, 0, protect=protect)


def _install(mm: "Mm", vma: "Vma", address: int, folio: "Folio", page: int, *, protect: bool) -> None:
    """``mfill_atomic_install_pte``: over nothing, or over a marker."""
    anonymous = folio.mapping is None
    with populated(mm, address, "fill: find") as spot:
        fmt, table = spot.fmt, spot.table
        old = table.read(spot.slot, "fill: look")
        if old and fmt.kind(old) != MARKER:
            mm.machine.memory.put(folio, "fill: occupied")
            raise os_error(errno.EEXIST, "userfaultfd")
        entry = fmt.mkdirty(fmt.leaf(folio.pfn + page, leaf_flags(mm.machine, vma)))
        if vma.flags & VM_WRITE and (anonymous or vma.flags & VM_SHARED):
            entry = fmt.mkwrite(entry)
        if protect:
            entry = fmt.mkuffd_wp(entry)
        if anonymous:
            map_anon(mm, vma, folio, address)
        else:
            map_again(folio)
        table.write(spot.slot, entry, "fill: map")
