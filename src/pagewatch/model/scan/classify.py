"""What a page-table entry is called: the one place that turns entries into categories.

Nothing here acts on anything; whoever protects, splits or skips decides by these answers. Category values
are plain ints in this room, for speed: those of :class:`~pagewatch.vocab.categories.Category`.
"""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import (
    CARRIES_FRAME,
    LEAF,
    MARKER,
    MARKER_GUARD,
    SOFT_DIRTY,
    UFFD_WP,
    EntryFormat,
)
from pagewatch.model.vma import VM_SOFTDIRTY
from pagewatch.vocab.categories import Category

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.vma import Vma

WPALLOWED = int(Category.WPALLOWED)
WRITTEN = int(Category.WRITTEN)
FILE = int(Category.FILE)
PRESENT = int(Category.PRESENT)
SWAPPED = int(Category.SWAPPED)
PFNZERO = int(Category.PFNZERO)
HUGE = int(Category.HUGE)
SOFT = int(Category.SOFT_DIRTY)
GUARD = int(Category.GUARD)


def wp_allowed(vma: "Vma") -> bool:
    """Whether a scan may protect the area: asynchronous, and able to protect what is not populated."""
    return vma.uffd_wp and vma.wp_async and vma.wp_markers


def area_categories(machine: "Machine", vma: "Vma") -> int:
    """What every page of an area is called."""
    bits = WPALLOWED if wp_allowed(vma) else 0
    return bits | SOFT if machine.quirks.soft_dirty and vma.flags & VM_SOFTDIRTY else bits


def hole_categories(machine: "Machine", vma: "Vma") -> int:
    """What memory without a page table is called, beyond its area's own."""
    armed = machine.quirks.scan_holes_written and vma.uffd_wp and not vma.hugetlb
    return WRITTEN if armed else 0


class Classifier:
    """Categories of entries, for one scan.

    ``want_file`` says whether FILE matters: it costs a look at the folio.
    """

    __slots__ = ("_empty", "_folios", "_guard", "_memory", "_soft", "_want_file", "_zero")

    def __init__(self, machine: "Machine", *, want_file: bool) -> None:
        """:param want_file: FILE occurs in mask, anyof or returned."""
        self._memory = machine.memory
        self._folios = machine.memory.folios
        self._want_file = want_file
        self._zero = machine.memory.zero.pfn
        self._soft = SOFT if machine.quirks.soft_dirty else 0
        self._guard = GUARD if machine.quirks.guard_category else 0
        self._empty = WRITTEN if machine.quirks.scan_holes_written else 0

    def entry(self, fmt: EntryFormat, entry: int) -> int:
        """Categories of an entry; HUGE is the caller's to add. An empty one is WRITTEN, never protected."""
        if not entry:
            return self._empty
        if fmt.kind(entry) != LEAF:
            return self._absent(fmt, entry)
        flags = fmt.flags(entry)
        bits = PRESENT if flags & UFFD_WP else PRESENT | WRITTEN
        if self._soft and flags & SOFT_DIRTY:
            bits |= SOFT
        pfn = fmt.pfn(entry)
        if pfn == self._zero:
            return bits | PFNZERO
        if self._want_file and (self._folios.get(pfn) or self._memory.folio(pfn)).anon_vma is None:
            return bits | FILE
        return bits

    @staticmethod
    def written(fmt: EntryFormat, entry: int) -> int:
        """WRITTEN or 0, all the kernel's fast path looks at: whether an entry lacks protection."""
        return 0 if fmt.flags(entry) & UFFD_WP else WRITTEN

    def huge(self, fmt: EntryFormat, entry: int) -> int:
        """Categories of an entry above the PTE level (``pagemap_thp_category``)."""
        if fmt.kind(entry) != LEAF:
            return HUGE | self._absent(fmt, entry)
        bits = HUGE | self.entry(fmt, entry)
        huge_zero = self._memory.is_zero(self._memory.folio(fmt.pfn(entry)))
        return bits & ~FILE | PFNZERO if huge_zero else bits

    def _absent(self, fmt: EntryFormat, entry: int) -> int:
        """Swap, migration, device, poison and every marker."""
        kind, flags = fmt.kind(entry), fmt.flags(entry)
        bits = SWAPPED
        if kind == MARKER:
            if fmt.marker(entry) & MARKER_GUARD:
                bits |= self._guard
        elif self._want_file and kind in CARRIES_FRAME:
            folio = self._memory.find(fmt.pfn(entry))
            if folio is not None and not folio.anon:
                bits |= FILE
        if self._soft and flags & SOFT_DIRTY:
            bits |= SOFT
        return bits if flags & UFFD_WP else bits | WRITTEN
