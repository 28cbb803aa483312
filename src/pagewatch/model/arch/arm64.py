"""arm64 with 4K, 16K and 64K granules (arch/arm64/include/asm/pgtable-hwdef.h, pgtable-prot.h, pgtable.h).

48 bits of virtual and of physical address.

* Hardware dirty is an absence: PTE_WRITE is the architecture's DBM ("may be made writable"), and a store
  clears PTE_RDONLY. So a leaf is dirty if PTE_DIRTY is set, or if it is writable and not read-only; and
  write-protecting, which would lose the second form, turns it into the first.
* PTE_CONT marks the entries of a naturally aligned block that the TLB may hold as one. Each keeps its own
  frame number, and hardware sets accessed and dirty in any one of them for all.
* A leaf taken from the hardware (PROT_NONE, or a huge leaf being torn down) loses PTE_VALID and gains
  PTE_PRESENT_INVALID; the two differ only in that PROT_NONE is neither user-readable nor executable.
* There is no soft-dirty bit.
"""

from pagewatch.model.arch.entries import Entries
from pagewatch.model.arch.format import (
    DIRTY,
    EXEC,
    INVALID,
    PROTNONE,
    SPECIAL,
    UFFD_WP,
    USER,
    WRITE,
    YOUNG,
    PageTableFormat,
)
from pagewatch.model.arch.layout import Geometry, LeafBits, SwapBits, bits
from pagewatch.model.arch.levels import link
from pagewatch.vocab.errors import InvalidArgument

PTE_VALID = 1 << 0
PTE_TABLE_BIT = 1 << 1
PTE_TYPE_PAGE = 3
PMD_TYPE_SECT = 1
PMD_TYPE_TABLE = 3
PTE_USER = 1 << 6
PTE_RDONLY = 1 << 7
PTE_SHARED = 3 << 8
PTE_AF = 1 << 10
PTE_NG = 1 << 11
PTE_PRESENT_INVALID = PTE_NG
PTE_WRITE = 1 << 51
PTE_CONT = 1 << 52
PTE_PXN = 1 << 53
PTE_UXN = 1 << 54
PTE_DIRTY = 1 << 55
PTE_SPECIAL = 1 << 56
PTE_UFFD_WP = 1 << 58
PMD_TABLE_PXN = 1 << 59
PTE_SWP_EXCLUSIVE = 1 << 2
PTE_SWP_UFFD_WP = 1 << 3

_HW_DIRTY = PTE_WRITE | PTE_RDONLY


class Arm64Entries(Entries):
    """One level of one granule."""

    def __init__(self, geometry: Geometry) -> None:
        """:param geometry: with the contiguous block, where there is one, as the larger leaf size."""
        super().__init__(
            geometry,
            LeafBits(
                present=PTE_VALID | PTE_PRESENT_INVALID,
                base=(PMD_TYPE_SECT if geometry.level else PTE_TYPE_PAGE) | PTE_SHARED | PTE_NG | PTE_PXN,
                set_by={
                    WRITE: PTE_WRITE,
                    YOUNG: PTE_AF,
                    DIRTY: PTE_DIRTY,
                    UFFD_WP: PTE_UFFD_WP,
                    SPECIAL: PTE_SPECIAL,
                    USER: PTE_USER,
                },
                cleared_by={EXEC: PTE_UXN},
            ),
            SwapBits(
                type_shift=6,
                offset_shift=12,
                offset_bits=50,
                exclusive=PTE_SWP_EXCLUSIVE,
                uffd_wp=PTE_SWP_UFFD_WP,
                pfn_bits=48 - geometry.page_shift,
            ),
            extra=PROTNONE | (INVALID if geometry.level else 0),
        )
        self.table_align_bytes = 1 << geometry.page_shift
        self._cont_bytes = max(geometry.leaf_sizes, default=0)

    def _encode(self, flags: int) -> int:
        if flags & INVALID and not flags & (USER | EXEC):
            raise InvalidArgument(f"{self.arch}: an invalid leaf that nobody may access reads as protnone")
        entry = super()._encode(flags)
        if flags & (WRITE | DIRTY) != WRITE | DIRTY:
            entry |= PTE_RDONLY
        return entry & ~PTE_VALID if flags & (PROTNONE | INVALID) else entry

    def _decode(self, attributes: int) -> int:
        flags = super()._decode(attributes)
        if attributes & _HW_DIRTY == PTE_WRITE:
            flags |= DIRTY
        if attributes & PTE_VALID:
            return flags
        return flags | (INVALID if flags & (USER | EXEC) else PROTNONE)

    def _points_to_table(self, entry: int) -> bool:
        return entry & PMD_TYPE_TABLE == PMD_TYPE_TABLE

    def _encode_table(self, address: int, size_bytes: int) -> int:  # noqa: ARG002 - no special directories
        return address | PMD_TYPE_TABLE | PMD_TABLE_PXN

    def table_address(self, entry: int) -> int:
        """Physical address of the lower table."""
        return entry & self._pfn_mask

    def _sized(self, entry: int, size_bytes: int) -> int:
        return entry | PTE_CONT if size_bytes > 1 << self.shift else entry

    def leaf_bytes(self, entry: int) -> int:
        """Bytes mapped by the leaf together with the rest of its contiguous block."""
        return self._cont_bytes if entry & PTE_CONT else 1 << self.shift

    def mkwrite(self, entry: int) -> int:
        """Allow stores; a dirty leaf need not be made dirty again by hardware."""
        entry |= PTE_WRITE
        return entry & ~PTE_RDONLY if entry & PTE_DIRTY else entry

    def wrprotect(self, entry: int) -> int:
        """Forbid stores; the hardware's dirty state becomes PTE_DIRTY."""
        if entry & _HW_DIRTY == PTE_WRITE:
            entry |= PTE_DIRTY
        return (entry | PTE_RDONLY) & ~PTE_WRITE

    def mkdirty(self, entry: int) -> int:
        """Record a write, for software and, if writable, for hardware."""
        entry |= PTE_DIRTY
        return entry & ~PTE_RDONLY if entry & PTE_WRITE else entry

    def mkclean(self, entry: int) -> int:
        """Forget writes, both kinds."""
        return (entry | PTE_RDONLY) & ~PTE_DIRTY

    def mkinvalid(self, entry: int) -> int:
        """Clear PTE_VALID; PTE_PRESENT_INVALID keeps the entry present for software."""
        if not self.level:
            return super().mkinvalid(entry)
        return (entry | PTE_PRESENT_INVALID) & ~PTE_VALID

    def after_load(self, entry: int) -> int | None:
        """The hardware sets the access flag (FEAT_HAFDBS)."""
        if entry & (PTE_VALID | PTE_USER) != PTE_VALID | PTE_USER:
            return None
        return entry | PTE_AF

    def after_store(self, entry: int) -> int | None:
        """The hardware sets the access flag and clears PTE_RDONLY (FEAT_HAFDBS)."""
        if entry & (PTE_VALID | PTE_USER | PTE_WRITE) != PTE_VALID | PTE_USER | PTE_WRITE:
            return None
        return (entry | PTE_AF) & ~PTE_RDONLY

    def old_huge(self, entry: int) -> bool:
        """``pmd_val(pmd) && !(pmd_val(pmd) & PMD_TABLE_BIT)``: also true of swap entries."""
        return self.level in (1, 2) and entry != 0 and not entry & PTE_TABLE_BIT


def _arm64(arch: str, page_shift: int, cont_bits: tuple[int, ...], n_leaf_levels: int) -> PageTableFormat:
    """A granule.

    :param cont_bits: log2 of the entries in a contiguous block of PTEs, and of PMDs.
    :param n_leaf_levels: levels that can hold a leaf; above two only 4K has one.
    """
    full_bits = page_shift - 3
    shifts = list(range(page_shift, 48, full_bits))
    names = ("PTE", "PMD", "PUD", "PGD") if len(shifts) == 4 else ("PTE", "PMD", "PGD")
    levels = []
    for level, (name, shift) in enumerate(zip(names, shifts, strict=True)):
        sizes = [1 << shift] if level < n_leaf_levels else []
        sizes += [1 << shift + n for n in cont_bits[level : level + 1]]
        levels.append(
            Arm64Entries(
                Geometry(
                    arch=arch,
                    name=name,
                    level=level,
                    page_shift=page_shift,
                    shift=shift,
                    index_bits=min(full_bits, 48 - shift),
                    pfn_mask=bits(47, page_shift),
                    pfn_shift=page_shift,
                    leaf_sizes=tuple(sizes),
                )
            )
        )
    return link(arch, levels, "hw-young", "hw-dirty", "folding")


def arm64_4k() -> PageTableFormat:
    """4K granule, 4 levels: contiguous 64K and 32M, leaves of 2M and 1G."""
    return _arm64("arm64-4k", 12, (4, 4), 3)


def arm64_16k() -> PageTableFormat:
    """16K granule, 4 levels of which the root has two entries: contiguous 2M and 1G, leaves of 32M."""
    return _arm64("arm64-16k", 14, (7, 5), 2)


def arm64_64k() -> PageTableFormat:
    """64K granule, 3 levels: contiguous 2M and 16G, leaves of 512M."""
    return _arm64("arm64-64k", 16, (5, 5), 2)
