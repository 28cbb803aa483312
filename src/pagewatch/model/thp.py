"""Transparent huge pages: where they may stand, and how a huge leaf becomes a table of small ones.

Some facts about splitting
--------------------------
* The huge leaf of an anonymous area becomes a table whose entries inherit everything: access, young,
  dirty, soft-dirty, uffd-wp, and that the pages are exclusive. The folio stays one folio.
* The huge leaf of a file is cleared, its dirty bit goes to the folio, and nothing is inherited: the page
  cache still knows the pages, so faults find them again. What is lost is the protection.
* The kernel keeps a table in deposit for each huge leaf, so that a split cannot run out of memory. Here
  allocation cannot fail, and there is no deposit.

What this means for who changes part of a range: :func:`whole_spans` splits what is only partly inside,
and then huge leaves are entries like any other.
"""

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF, SPECIAL, UFFD_WP
from pagewatch.model.fault.state import leaf_flags
from pagewatch.model.file import FileKind
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at, keep_dirty, unmap, zero_leaf
from pagewatch.model.tlb import flush_range
from pagewatch.model.vma import VM_HUGEPAGE, VM_HUGETLB, VM_NOHUGEPAGE, VM_SPECIAL
from pagewatch.model.walk import Span, Spot, locked_spans, seek
from pagewatch.steps import RMW, access

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


class Purpose(Enum):
    """Why a huge page is wanted (``enum tva_type``)."""

    FAULT = "a page fault: where the settings allow it"
    KHUGEPAGED = "the daemon: where the settings allow it"
    COLLAPSE = "MADV_COLLAPSE: whatever the settings say"


def huge_order(machine: "Machine") -> int:
    """log2 of the pages of a huge page (``HPAGE_PMD_ORDER``); for machines that have them."""
    return machine.fmt.at[1].shift - machine.page_shift


def may_have_huge(mm: "Mm", vma: "Vma", purpose: Purpose) -> bool:
    """Whether an area may have huge pages at all (``thp_vma_allowable_order``)."""
    if not mm.machine.thp_bytes or vma.flags & (VM_NOHUGEPAGE | VM_HUGETLB | VM_SPECIAL):
        return False
    if vma.file is not None and vma.file.kind is not FileKind.SHMEM:
        return False
    if purpose is Purpose.COLLAPSE:
        return vma.file is not None or vma.anon_vma is not None
    enabled = mm.machine.quirks.thp_enabled
    return enabled == "always" or (enabled == "madvise" and bool(vma.flags & VM_HUGEPAGE))


def huge_start(mm: "Mm", vma: "Vma", address: int) -> int | None:
    """The start of the huge page around an address, if the area has room for it there.

    Page offsets of a file have to be as aligned as the addresses (``thp_vma_suitable_order``).
    """
    n_bytes, shift = mm.machine.thp_bytes, mm.machine.page_shift
    start = address & -n_bytes
    if start < vma.start or vma.end < start + n_bytes:
        return None
    if vma.file is not None and ((vma.start >> shift) - vma.pgoff) & (n_bytes >> shift) - 1:
        return None
    return start


def whole_spans(mm: "Mm", vma: "Vma", start: int, end: int, label: str = "walk") -> Iterator[Span]:
    """The mapped pieces of part of an area, each locked; a huge leaf that sticks out is split first."""
    for span in locked_spans(mm, start, end, label):
        if span.partial:
            split_locked(mm, vma, span.spot, span.start)
        elif not span.hole:
            yield span


def split_huge(mm: "Mm", vma: "Vma", address: int) -> None:
    """Split the huge leaf at an address, if there is one (``__split_huge_pmd``)."""
    if not mm.machine.thp_bytes:
        return
    spot = seek(mm, address, "split: find")
    if spot.level != 1 or spot.kind != LEAF:
        return
    start = address & -mm.machine.thp_bytes
    with invalidating(mm, Event.CLEAR, start, start + mm.machine.thp_bytes), spot.table.lock:
        entry = spot.table.read(spot.slot, "split: recheck")
        if spot.fmt.kind(entry) == LEAF:
            split_locked(mm, vma, spot._replace(entry=entry), address)


def split_locked(mm: "Mm", vma: "Vma", spot: Spot, address: int) -> None:
    """Split a huge leaf, its table's lock held (``split_huge_pmd_locked``).

    :param address: any that the leaf maps.
    """
    start = address & -(1 << spot.fmt.shift)
    if vma.anonymous:
        _split_anonymous(mm, vma, spot, start)
    else:
        _clear_file_leaf(mm, spot, start)


def _split_anonymous(mm: "Mm", vma: "Vma", spot: Spot, start: int) -> None:
    """Invalidate, flush, and put a filled table where the leaf was (``__split_huge_pmd_locked``)."""
    machine, fmt = mm.machine, spot.fmt
    # Invalid before the table stands: a TLB must never hold a huge and a small translation of one address.
    entry = spot.table.take_out(spot.slot, "split: invalidate")
    if machine.quirks.split_loses_late_dirty:
        entry = spot.entry
    flush_range(mm, start, start + (1 << fmt.shift))
    below = machine.tables.alloc(fmt.below(0))
    below.place(mm, start)
    folio = folio_at(machine, fmt, entry)
    small = below.fmt
    if folio is None:
        zero = zero_leaf(machine, small, leaf_flags(machine, vma) | fmt.flags(entry) & UFFD_WP)
        below.fill(dict.fromkeys(range(1 << small.index_bits), zero))
    else:
        flags = fmt.flags(entry) & small.supported & ~SPECIAL
        first = fmt.pfn(entry)
        below.fill({page: small.leaf(first + page, flags) for page in range(folio.n_pages)})
        access(("refs", folio.pfn), RMW, "split: a reference for each leaf")
        folio.raw_references += folio.n_pages - 1
        access(("mapcount", folio.pfn), RMW, "split: a map count for each leaf")
        folio.raw_mapcount += folio.n_pages - 1
    spot.table.write(spot.slot, fmt.table(below.address), "split: install the table")


def _clear_file_leaf(mm: "Mm", spot: Spot, start: int) -> None:
    """Clear the leaf; the next fault asks the page cache again."""
    machine, fmt = mm.machine, spot.fmt
    entry = spot.table.exchange(spot.slot, 0, "split: clear the file's leaf")
    flush_range(mm, start, start + (1 << fmt.shift))
    folio = folio_at(machine, fmt, entry)
    if folio is not None:
        keep_dirty(folio, fmt, entry)
        unmap(folio)
        machine.memory.put(folio, "split: release")
