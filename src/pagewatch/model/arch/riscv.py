"""riscv64 with Sv39, Sv48 and Sv57, and Svnapot (arch/riscv/include/asm/pgtable-bits.h, pgtable-64.h).

* The same layout at every level: a present entry with any of R, W, X is a leaf, without it is a pointer.
* Svnapot: the entries of a 64K block are identical; bit 63 says so, and the lowest set bit of the
  frame number gives the order instead of an address. The frame of the block is the rest.
* PROT_NONE clears V and sets the global bit; a huge leaf under invalidation keeps only R, W, X.
* No soft-dirty and no uffd-wp: those need Svrsw60t59b, which Linux uses only since after 6.18.
* Accessed and dirty are set by hardware here (Svadu); without Svadu, the access faults instead.
"""

from pagewatch.model.arch.entries import Entries
from pagewatch.model.arch.format import (
    DIRTY,
    EXEC,
    INVALID,
    PROTNONE,
    SPECIAL,
    USER,
    WRITE,
    YOUNG,
    PageTableFormat,
)
from pagewatch.model.arch.layout import Geometry, LeafBits, SwapBits, bits
from pagewatch.model.arch.levels import link

PRESENT = 1 << 0
READ = 1 << 1
WRITE_BIT = 1 << 2
EXEC_BIT = 1 << 3
USER_BIT = 1 << 4
GLOBAL = 1 << 5
ACCESSED = 1 << 6
DIRTY_BIT = 1 << 7
SPECIAL_BIT = 1 << 8
NAPOT = 1 << 63
PROT_NONE = GLOBAL
SWP_EXCLUSIVE = ACCESSED

NAPOT_BYTES = 1 << 16
"""The only Svnapot size that exists."""

_LEAF = READ | WRITE_BIT | EXEC_BIT
_PFN_SHIFT = 10
_NAPOT_ORDER_BIT = 1 << _PFN_SHIFT + 3
_NAPOT_FIELD = bits(_PFN_SHIFT + 3, _PFN_SHIFT)


class RiscvEntries(Entries):
    """One level; only the PTE level has Svnapot blocks."""

    def __init__(self, geometry: Geometry) -> None:
        """:param geometry: with 64K among the leaf sizes of the PTE level."""
        super().__init__(
            geometry,
            LeafBits(
                present=PRESENT | PROT_NONE | (_LEAF if geometry.level else 0),
                base=PRESENT | READ,
                set_by={
                    WRITE: WRITE_BIT,
                    YOUNG: ACCESSED,
                    DIRTY: DIRTY_BIT,
                    SPECIAL: SPECIAL_BIT,
                    USER: USER_BIT,
                    EXEC: EXEC_BIT,
                },
            ),
            SwapBits(type_shift=7, offset_shift=12, offset_bits=52, exclusive=SWP_EXCLUSIVE, pfn_bits=56 - 12),
            extra=PROTNONE | (INVALID if geometry.level else 0),
        )

    def _encode(self, flags: int) -> int:
        entry = super()._encode(flags)
        if flags & INVALID:
            return entry & ~PRESENT
        return entry & ~PRESENT | PROT_NONE if flags & PROTNONE else entry

    def _decode(self, attributes: int) -> int:
        flags = super()._decode(attributes)
        if attributes & PRESENT:
            return flags
        return flags | (PROTNONE if attributes & PROT_NONE else INVALID)

    def _points_to_table(self, entry: int) -> bool:
        return not entry & _LEAF

    def _encode_table(self, address: int, size_bytes: int) -> int:  # noqa: ARG002 - no special directories
        return address >> 12 << _PFN_SHIFT | PRESENT

    def table_address(self, entry: int) -> int:
        """Physical address of the lower table."""
        return (entry & self._pfn_mask) >> _PFN_SHIFT << 12

    def _sized(self, entry: int, size_bytes: int) -> int:
        if size_bytes > 1 << self.shift:
            return entry & ~_NAPOT_FIELD | _NAPOT_ORDER_BIT | NAPOT
        return entry

    def _frame(self, entry: int) -> int:
        pfn = super()._frame(entry)
        return pfn & (pfn - 1) if entry & NAPOT else pfn

    def leaf_bytes(self, entry: int) -> int:
        """Bytes mapped by the leaf together with the rest of its contiguous block."""
        return NAPOT_BYTES if entry & NAPOT else 1 << self.shift

    def mkinvalid(self, entry: int) -> int:
        """Clear V; R, W, X keep a huge leaf present for software."""
        if not self.level:
            return super().mkinvalid(entry)
        return entry & ~(PRESENT | PROT_NONE)

    def after_load(self, entry: int) -> int | None:
        """The hardware sets accessed (Svadu)."""
        if entry & (PRESENT | USER_BIT) != PRESENT | USER_BIT:
            return None
        return entry | ACCESSED

    def after_store(self, entry: int) -> int | None:
        """The hardware sets accessed and dirty (Svadu)."""
        if entry & (PRESENT | USER_BIT | WRITE_BIT) != PRESENT | USER_BIT | WRITE_BIT:
            return None
        return entry | ACCESSED | DIRTY_BIT


def riscv64(arch: str, names: tuple[str, ...]) -> PageTableFormat:
    """Sv39, Sv48 or Sv57, by the names of its levels: leaves of 4K, 64K, 2M and 1G."""
    sizes = ((1 << 12, NAPOT_BYTES), (1 << 21,), (1 << 30,))
    levels = [
        RiscvEntries(
            Geometry(
                arch=arch,
                name=name,
                level=level,
                page_shift=12,
                shift=12 + 9 * level,
                index_bits=9,
                pfn_mask=bits(53, _PFN_SHIFT),
                pfn_shift=_PFN_SHIFT,
                leaf_sizes=sizes[level] if level < len(sizes) else (),
            )
        )
        for level, name in enumerate(names)
    ]
    return link(arch, levels, "hw-young", "hw-dirty")
