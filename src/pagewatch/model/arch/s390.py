"""s390 with four levels: page, segment, region third and second tables (arch/s390/include/asm/pgtable.h).

* Accessed and dirty are kept by faults. The hardware knows only "invalid" and "protect"; software keeps
  young, dirty, read and write, and derives from them: invalid unless readable and young, protect
  unless writable and dirty.
* An empty entry is not 0 but has the invalid bit, and above the PTE the type of its table.
* Leaves and swap entries in segment and region tables have a layout of their own; this is the one with a
  present bit (older kernels had none there, and no swap entries either).
* Every user mapping lives in an address space of its own, so there is no user bit. No uffd-wp.
"""

from pagewatch.model.arch.entries import Entries
from pagewatch.model.arch.format import (
    DIRTY,
    EXEC,
    PROTNONE,
    SOFT_DIRTY,
    SPECIAL,
    WRITE,
    YOUNG,
    PageTableFormat,
)
from pagewatch.model.arch.layout import Geometry, LeafBits, SwapBits, bits
from pagewatch.model.arch.levels import link

PRESENT = 0x001
"""In a PTE, a leaf of a segment or region third table, and in every directory entry."""
PROTECT = 0x200
NOEXEC = 0x100

PAGE_INVALID = 0x400
PAGE_SOFT_DIRTY = 0x002
PAGE_YOUNG = 0x004
PAGE_DIRTY = 0x008
PAGE_READ = 0x010
PAGE_WRITE = 0x020
PAGE_SPECIAL = 0x040
PAGE_SWP_EXCLUSIVE = 0x800

RSTE_SOFT_DIRTY = 0x0002
RSTE_COMM = 0x0010
RSTE_INVALID = 0x0020
RSTE_LARGE = 0x0400
RSTE_YOUNG = 0x1000
RSTE_DIRTY = 0x2000
RSTE_READ = 0x4000
RSTE_WRITE = 0x8000
"""Bits of region and segment table entries that are leaves."""

REGION_LENGTH = 0x03
"""All four quarters of the lower table exist."""
TYPE_OF_LEVEL = (0x0, 0x0, 0x4, 0x8)
"""``_REGION_ENTRY_TYPE_*`` of the segment, region third and region second tables."""


class S390Entries(Entries):
    """One level; the software's bits stand elsewhere in PTEs than in the tables above."""

    def __init__(self, geometry: Geometry, leaf: LeafBits, swap: SwapBits) -> None:
        """:param leaf: without the hardware's bits, which follow from the software's."""
        super().__init__(geometry, leaf, swap, extra=PROTNONE)
        self._type = TYPE_OF_LEVEL[geometry.level]
        self._invalid = RSTE_INVALID if geometry.level else PAGE_INVALID
        self._read = RSTE_READ if geometry.level else PAGE_READ
        self.table_align_bytes = 1 << (11 if geometry.level == 1 else 12)

    def _derive(self, entry: int) -> int:
        """Set the hardware's bits by the software's."""
        entry |= PROTECT | self._invalid
        readable_and_young, writable_and_dirty = self._read | self._young, self._write | self._dirty
        if entry & readable_and_young == readable_and_young:
            entry &= ~self._invalid
        if entry & writable_and_dirty == writable_and_dirty:
            entry &= ~PROTECT
        return entry

    def _encode(self, flags: int) -> int:
        entry = super()._encode(flags)
        return self._derive(entry if flags & PROTNONE else entry | self._read)

    def _decode(self, attributes: int) -> int:
        flags = super()._decode(attributes)
        return flags if attributes & self._read else flags | PROTNONE

    def _points_to_table(self, entry: int) -> bool:
        return not entry & RSTE_LARGE

    def _encode_table(self, address: int, size_bytes: int) -> int:  # noqa: ARG002 - no special directories
        return address | self._type | (PRESENT if self.level == 1 else REGION_LENGTH)

    def table_address(self, entry: int) -> int:
        """Physical address of the lower table (``_SEGMENT_ENTRY_ORIGIN``, ``_REGION_ENTRY_ORIGIN``)."""
        return entry & -self.table_align_bytes

    def mkwrite(self, entry: int) -> int:
        """Allow stores; the hardware may let them through once the leaf is dirty."""
        return self._derive(entry | self._write)

    def wrprotect(self, entry: int) -> int:
        """Forbid stores; dirtiness is kept."""
        return (entry | PROTECT) & ~self._write

    def mkdirty(self, entry: int) -> int:
        """Record a write, also in soft-dirty; a writable leaf is no longer protected."""
        return self._derive(entry | self._dirty | self._soft_dirty)

    def mkclean(self, entry: int) -> int:
        """Forget writes: the next store faults."""
        return (entry | PROTECT) & ~self._dirty

    def mkyoung(self, entry: int) -> int:
        """Record an access; a readable leaf becomes valid."""
        return self._derive(entry | self._young)

    def mkold(self, entry: int) -> int:
        """Forget accesses: the next one faults."""
        return (entry | self._invalid) & ~self._young

    def after_load(self, entry: int) -> int | None:
        """The hardware records nothing in the entry."""
        return None if entry & self._invalid else entry

    def after_store(self, entry: int) -> int | None:
        """The hardware records nothing in the entry."""
        return None if entry & (self._invalid | PROTECT) else entry


def s390() -> PageTableFormat:
    """Four levels, 53 bits: leaves of 4K, 1M and 2G."""
    return link("s390", [_page_level(), _rste_level(1, "PMD"), _rste_level(2, "PUD"), _rste_level(3, "PGD")])


def _page_level() -> S390Entries:
    masks = {
        WRITE: PAGE_WRITE,
        YOUNG: PAGE_YOUNG,
        DIRTY: PAGE_DIRTY,
        SOFT_DIRTY: PAGE_SOFT_DIRTY,
        SPECIAL: PAGE_SPECIAL,
    }
    return S390Entries(
        Geometry(
            arch="s390",
            name="PTE",
            level=0,
            page_shift=12,
            shift=12,
            index_bits=8,
            pfn_mask=bits(63, 12),
            pfn_shift=12,
            empty=PAGE_INVALID,
            leaf_sizes=(1 << 12,),
        ),
        LeafBits(present=PRESENT, base=PRESENT, set_by=masks, cleared_by={EXEC: NOEXEC}),
        SwapBits(
            base=PAGE_INVALID | PROTECT,
            type_shift=2,
            offset_shift=12,
            offset_bits=52,
            pfn_bits=46 - 12,
            exclusive=PAGE_SWP_EXCLUSIVE,
            soft_dirty=PAGE_SOFT_DIRTY,
        ),
    )


def _rste_level(level: int, name: str) -> S390Entries:
    shift = 20 + 11 * (level - 1)
    type_bits = TYPE_OF_LEVEL[level]
    masks = {WRITE: RSTE_WRITE, YOUNG: RSTE_YOUNG, DIRTY: RSTE_DIRTY, SOFT_DIRTY: RSTE_SOFT_DIRTY}
    return S390Entries(
        Geometry(
            arch="s390",
            name=name,
            level=level,
            page_shift=12,
            shift=shift,
            index_bits=11,
            pfn_mask=bits(63, shift),
            pfn_shift=12,
            empty=RSTE_INVALID | type_bits,
            leaf_sizes=(1 << shift,) if level < 3 else (),
        ),
        LeafBits(
            present=PRESENT,
            base=PRESENT | RSTE_LARGE | type_bits,
            set_by=masks,
            cleared_by={EXEC: NOEXEC},
        ),
        SwapBits(
            base=RSTE_INVALID | RSTE_COMM | type_bits,
            type_shift=6,
            offset_shift=12,
            offset_bits=52,
            pfn_bits=46 - 12,
            soft_dirty=RSTE_SOFT_DIRTY,
        ),
    )
