"""x86-64 with four and five levels (arch/x86/include/asm/pgtable_types.h, pgtable_64.h, pgtable.h).

Three things surprise:

* Dirty is two bits. Since Linux 6.6 a read-only leaf never has the hardware bit, because read-only and
  dirty means shadow stack: write-protecting moves it to SAVED_DIRTY, making writable moves it back.
* A leaf without hardware access keeps its place: PROT_NONE clears PRESENT and sets bit 8; a huge leaf
  under invalidation clears both and is still present by its PSE bit. Either way the frame number is
  stored inverted, as in swap entries, so that speculation past PRESENT finds no cached memory (L1TF).
* Bit 7 is PSE in a directory entry and PAT in a PTE, so "leaf" is a question of the level.
"""

from pagewatch.model.arch.entries import Entries
from pagewatch.model.arch.format import (
    DIRTY,
    EXEC,
    INVALID,
    LEAF,
    NONE,
    PROTNONE,
    SOFT_DIRTY,
    SPECIAL,
    TABLE,
    UFFD_WP,
    USER,
    WRITE,
    YOUNG,
    PageTableFormat,
)
from pagewatch.model.arch.layout import Geometry, LeafBits, SwapBits, bits
from pagewatch.model.arch.levels import link
from pagewatch.model.arch.swaptypes import KIND_OF_TYPE

PRESENT = 1 << 0
RW = 1 << 1
US = 1 << 2
ACCESSED = 1 << 5
HW_DIRTY = 1 << 6
PSE = 1 << 7
GLOBAL = 1 << 8
PROTNONE_BIT = GLOBAL
SPECIAL_BIT = 1 << 9
UFFD_WP_BIT = 1 << 10
SOFT_DIRTY_BIT = 1 << 11
SAVED_DIRTY = 1 << 58
NX = 1 << 63

SWP_SOFT_DIRTY = RW
SWP_UFFD_WP = US
SWP_EXCLUSIVE = 1 << 3

TABLE_BITS = PRESENT | RW | US | ACCESSED | HW_DIRTY
"""``_PAGE_TABLE`` without encryption."""

_DIRTY_BITS = HW_DIRTY | SAVED_DIRTY
_SAVED_SHIFT = 58 - 6
_PFN_MASK = bits(51, 12)


class X86Entries(Entries):
    """One level of x86-64."""

    def __init__(self, geometry: Geometry, *, physical_bits: int, lacking: int) -> None:
        """:param physical_bits: ``MAX_PHYSMEM_BITS``.

        :param lacking: flags compiled out of the kernel (SOFT_DIRTY, UFFD_WP); their bits stay 0.
        """
        masks = {
            WRITE: RW,
            YOUNG: ACCESSED,
            DIRTY: HW_DIRTY,
            SOFT_DIRTY: SOFT_DIRTY_BIT,
            UFFD_WP: UFFD_WP_BIT,
            SPECIAL: SPECIAL_BIT,
            USER: US,
        }
        huge = PSE if geometry.level else 0
        super().__init__(
            geometry,
            LeafBits(
                present=PRESENT | PROTNONE_BIT | huge,
                base=PRESENT | huge,
                set_by={flag: bit for flag, bit in masks.items() if not flag & lacking},
                cleared_by={EXEC: NX},
            ),
            SwapBits(
                type_shift=59,
                offset_shift=9,
                offset_bits=50,
                exclusive=SWP_EXCLUSIVE,
                soft_dirty=0 if lacking & SOFT_DIRTY else SWP_SOFT_DIRTY,
                uffd_wp=0 if lacking & UFFD_WP else SWP_UFFD_WP,
                pfn_bits=physical_bits - 12,
            ),
            extra=PROTNONE | (INVALID if geometry.level else 0),
        )
        self._huge = huge
        self._live = PRESENT | huge
        """What a leaf has that the hardware uses."""

    def _encode(self, flags: int) -> int:
        entry = super()._encode(flags)
        if flags & (PROTNONE | INVALID):
            entry &= ~PRESENT
        if flags & PROTNONE:
            entry |= PROTNONE_BIT
        return _keep_dirty(entry)

    def _decode(self, attributes: int) -> int:
        flags = super()._decode(attributes)
        if attributes & SAVED_DIRTY:
            flags |= DIRTY
        if attributes & PRESENT:
            return flags
        if attributes & PROTNONE_BIT:
            return flags | PROTNONE
        return flags | INVALID

    def leaf(self, pfn: int, flags: int, size_bytes: int = 0) -> int:
        """A leaf of this level."""
        bad = self._unplaceable.get(size_bytes)
        if bad is None or pfn & bad:
            raise self._misplaced(pfn, size_bytes)
        entry = pfn << 12 | self._encoded[flags]
        return entry if entry & PRESENT else entry ^ _PFN_MASK

    def _frame(self, entry: int) -> int:
        return ((entry if entry & PRESENT else ~entry) & _PFN_MASK) >> 12

    def kind(self, entry: int) -> int:
        """NONE, TABLE, LEAF, or one of the non-present kinds."""
        if entry & self._present:
            return LEAF if not self.level or entry & PSE else TABLE
        return KIND_OF_TYPE[entry >> 59] if entry else NONE

    def flags(self, entry: int) -> int:
        """All flags of a leaf or of a non-present entry, as one mask."""
        if entry & self._live == self._live:
            return self._decoded[entry & self._attributes]
        return super().flags(entry)

    def pfn(self, entry: int) -> int:
        """First frame that a leaf maps, or the frame that a non-present entry carries."""
        if entry & self._live == self._live:
            return (entry & _PFN_MASK) >> 12
        return super().pfn(entry)

    def _points_to_table(self, entry: int) -> bool:
        return not entry & PSE

    def _encode_table(self, address: int, size_bytes: int) -> int:  # noqa: ARG002 - no special directories
        return address | TABLE_BITS

    def table_address(self, entry: int) -> int:
        """Physical address of the lower table."""
        return entry & _PFN_MASK

    def swap(self, entry: int) -> tuple[int, int]:
        """Raw type and offset; the offset is stored inverted, below the type."""
        return entry >> 59, ~entry >> 9 & (1 << 50) - 1

    def _raw_swap(self, type_: int, offset: int) -> int:
        return type_ << 59 | (~offset & (1 << 50) - 1) << 9

    def mkwrite(self, entry: int) -> int:
        """Allow stores; a saved dirty bit goes back to the hardware's."""
        entry |= RW
        return (entry | entry >> _SAVED_SHIFT & HW_DIRTY) & ~SAVED_DIRTY

    def wrprotect(self, entry: int) -> int:
        """Forbid stores; the hardware's dirty bit is saved."""
        return (entry | (entry & HW_DIRTY) << _SAVED_SHIFT) & ~(RW | HW_DIRTY)

    def mkdirty(self, entry: int) -> int:
        """Record a write, also in soft-dirty."""
        return _keep_dirty(entry | HW_DIRTY | self._soft_dirty)

    def mkclean(self, entry: int) -> int:
        """Forget writes; soft-dirty stays."""
        return entry & ~_DIRTY_BITS

    def mkinvalid(self, entry: int) -> int:
        """Clear PRESENT and invert the frame number; PSE keeps the entry present for software."""
        if not self._huge:
            self._lacks(INVALID)
        return (entry & ~(PRESENT | PROTNONE_BIT)) ^ (_PFN_MASK if entry & PRESENT else 0)

    def after_load(self, entry: int) -> int | None:
        """The hardware sets ACCESSED."""
        if entry & (PRESENT | US) != PRESENT | US:
            return None
        return entry | ACCESSED

    def after_store(self, entry: int) -> int | None:
        """The hardware sets ACCESSED and DIRTY."""
        if entry & (PRESENT | RW | US) != PRESENT | RW | US:
            return None
        return entry | ACCESSED | HW_DIRTY

    def old_huge(self, entry: int) -> bool:
        """``!pmd_none(pmd) && (pmd_val(pmd) & (PRESENT|PSE)) != PRESENT``: also true of swap entries."""
        return self.level in (1, 2) and entry != 0 and entry & (PRESENT | PSE) != PRESENT


def _keep_dirty(entry: int) -> int:
    """``pte_mksaveddirty``: a read-only entry has its dirtiness in SAVED_DIRTY."""
    if entry & RW:
        return entry
    return (entry | (entry & HW_DIRTY) << _SAVED_SHIFT) & ~HW_DIRTY


def x86_64(*, five_levels: bool = False, lacking: int = 0) -> PageTableFormat:
    """x86-64 with 4 levels (48 bits), or 5 (57 bits).

    :param lacking: flags that the kernel was compiled without, of SOFT_DIRTY and UFFD_WP.
    """
    names = ("PTE", "PMD", "PUD", "P4D", "PGD") if five_levels else ("PTE", "PMD", "PUD", "PGD")
    arch = "x86_64-la57" if five_levels else "x86_64"
    levels = [
        X86Entries(
            Geometry(
                arch=arch,
                name=name,
                level=level,
                page_shift=12,
                shift=12 + 9 * level,
                index_bits=9,
                leaf_sizes=(1 << 12 + 9 * level,) if level < 3 else (),
                pfn_mask=_PFN_MASK,
                pfn_shift=12,
            ),
            physical_bits=52 if five_levels else 46,
            lacking=lacking,
        )
        for level, name in enumerate(names)
    ]
    return link(arch, levels, "hw-young", "hw-dirty")
