"""The legacy interface: one 64-bit word per page, as read from /proc/PID/pagemap."""

import errno
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import CARRIES_FRAME, LEAF, MARKER_GUARD, SOFT_DIRTY, UFFD_WP
from pagewatch.model.errors import os_error
from pagewatch.model.hugetlb.entries import find
from pagewatch.model.hugetlb.locks import reading
from pagewatch.model.rmap import page_mapcount
from pagewatch.model.vma import VM_SOFTDIRTY
from pagewatch.model.walk import Spot, frame_of, seek

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma

PM_SOFT_DIRTY = 1 << 55
PM_EXCLUSIVE = 1 << 56
PM_UFFD_WP = 1 << 57
PM_GUARD = 1 << 58
PM_FILE = 1 << 61
PM_SWAP = 1 << 62
PM_PRESENT = 1 << 63

_FRAME = PM_SOFT_DIRTY - 1
_TYPE_BITS = 5  # MAX_SWAPFILES_SHIFT


def pagemap_words(mm: "Mm", position: int, count: int, *, show_frames: bool = False) -> list[int]:
    """Read ``count`` bytes at ``position`` of /proc/PID/pagemap, as words.

    :param show_frames: the reader has CAP_SYS_ADMIN; otherwise frame numbers are 0.
    :raises OSError: EINVAL unless both numbers are multiples of 8.
    """
    if position & 7 or count & 7:
        raise os_error(errno.EINVAL, "pagemap")
    if mm.dead:
        return []
    shift = mm.machine.page_shift
    first = position >> 3
    last = min(first + (count >> 3), -(-mm.top >> shift))
    with mm.mmap_lock.shared:
        return [_word(mm, page << shift, show_frames=show_frames) for page in range(first, last)]


def _word(mm: "Mm", address: int, *, show_frames: bool) -> int:
    vma = mm.vmas.at(address)
    soft = mm.machine.quirks.soft_dirty
    if vma is None:
        return 0
    word = PM_SOFT_DIRTY if soft and vma.flags & VM_SOFTDIRTY else 0
    if vma.hugetlb:
        return word | _huge_word(mm, vma, address, show_frames=show_frames)
    spot = seek(mm, address, "pagemap: walk")
    if not spot.entry:
        return word
    if soft and spot.fmt.flags(spot.entry) & SOFT_DIRTY:
        word |= PM_SOFT_DIRTY
    if spot.kind == LEAF:
        return word | _present_word(mm.machine, spot, address, show_frames=show_frames)
    return word | _absent_word(mm.machine, spot, address, show_frames=show_frames)


def _huge_word(mm: "Mm", vma: "Vma", address: int, *, show_frames: bool) -> int:
    """Of an entry that is not present only the protection shows; soft-dirty of none (``pagemap_hugetlb_range``)."""
    with reading(mm.machine, vma):
        page = find(mm, address, vma.page_bytes, "pagemap: walk")
        entry = 0 if page is None else page.read("pagemap: read")
        if page is None or not entry:
            return 0
        fmt = page.fmt
        word = PM_UFFD_WP if fmt.flags(entry) & UFFD_WP else 0
        if fmt.kind(entry) != LEAF:
            return word
        folio = mm.machine.memory.folio(fmt.pfn(entry))
        word |= PM_PRESENT | (0 if folio.anon else PM_FILE)
        if mm.machine.memory.count_maps(folio, "pagemap: count leaves") == 1 and page.table.sharers == 1:
            word |= PM_EXCLUSIVE
        inside_pages = address - page.start >> fmt.page_shift
        return word | (fmt.pfn(entry) + inside_pages if show_frames else 0)


def _present_word(machine: "Machine", spot: Spot, address: int, *, show_frames: bool) -> int:
    fmt = spot.fmt
    word = PM_PRESENT | (PM_UFFD_WP if fmt.flags(spot.entry) & UFFD_WP else 0)
    pfn = frame_of(fmt, spot.entry, address)
    if show_frames:
        word |= pfn
    folio = machine.memory.folio(pfn)
    if machine.memory.is_zero(folio):
        # The huge zero page is taken for a file's, the small one for no page at all.
        return word | PM_FILE if fmt.level else word
    if not folio.anon:
        word |= PM_FILE
    by_first = fmt.level and machine.quirks.pagemap_judges_huge_by_first_page
    page = (fmt.pfn(spot.entry) if by_first else pfn) - folio.pfn
    return word | (PM_EXCLUSIVE if page_mapcount(machine, folio, page) == 1 else 0)


def _absent_word(machine: "Machine", spot: Spot, address: int, *, show_frames: bool) -> int:
    """Where a present page has its frame there are a type and an offset: of a slot, a frame or a marker's payload."""
    fmt, entry = spot.fmt, spot.entry
    word = PM_SWAP
    if fmt.flags(entry) & UFFD_WP:
        word |= PM_UFFD_WP
    if fmt.marker(entry) & MARKER_GUARD:
        word |= PM_GUARD
    type_, offset = fmt.swap(entry)
    if spot.kind in CARRIES_FRAME:
        offset = fmt.pfn(entry)
        folio = machine.memory.find(offset)
        word |= PM_FILE if folio is not None and not folio.anon else 0
    if show_frames:
        offset += (address & (1 << fmt.shift) - 1) >> fmt.page_shift
        word |= (type_ | offset << _TYPE_BITS) & _FRAME
    return word
