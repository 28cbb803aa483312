"""powerpc book3s64: hash and radix MMUs with 4K and 64K pages (arch/powerpc/include/asm/book3s/64/pgtable.h).

Geometry: hash-4k.h, hash-64k.h, radix-4k.h, radix-64k.h.

* _PAGE_PTE tells leaves from pointers at every level; swap entries carry it, too, so the old
  ``pmd_huge``, which looked at that bit alone, was true of them.
* A leaf being torn down trades _PAGE_PRESENT for _PAGE_INVALID. PROT_NONE has neither read, write nor
  execute.
* Hash with 4K pages: the tables do not fit the hardware's 16M and 16G pages. Until Linux 6.10 a directory
  entry one level up was a hugepd (16 slots of 16M in 256M, 8 of 16G in 128G); since 6.11 they are 8
  contiguous PMDs and 64 contiguous PUDs, and no smaller leaf exists at those levels.
* Hash translates by a table of its own, filled by a low-level fault handler that also sets accessed and
  dirty in these entries: to the code above it, that is hardware. No uffd-wp.
"""

from dataclasses import dataclass, replace

from pagewatch.model.arch.entries import Entries
from pagewatch.model.arch.format import (
    DIRTY,
    EXEC,
    INVALID,
    PROTNONE,
    SOFT_DIRTY,
    SPECIAL,
    USER,
    WRITE,
    YOUNG,
    PageTableFormat,
)
from pagewatch.model.arch.layout import Geometry, LeafBits, SwapBits, bits
from pagewatch.model.arch.levels import link

EXEC_BIT = 0x00001
WRITE_BIT = 0x00002
READ = 0x00004
PRIVILEGED = 0x00008
DIRTY_BIT = 0x00080
ACCESSED = 0x00100
SOFT_DIRTY_BIT = 0x00200
SPECIAL_BIT = 0x00400
INVALID_BIT = 1 << 61
PTE = 1 << 62
PRESENT = 1 << 63
SWP_EXCLUSIVE = 0x00020
SWP_SOFT_DIRTY = SOFT_DIRTY_BIT

PSIZE_OF_BYTES = {1 << 24: 10, 1 << 34: 14}
"""``MMU_PAGE_16M``, ``MMU_PAGE_16G``: what a hugepd entry holds, from bit 2."""

_HUGEPD_SHIFT_MASK = 0x3F
_PA_MAX = 53
_MASKED_BITS = 0xC0000000000000FF


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """One MMU with one page size."""

    arch: str
    page_shift: int
    index_bits: tuple[int, int, int, int]
    """Of the PTE, PMD, PUD and PGD tables."""
    leaf_sizes: tuple[tuple[int, ...], ...]
    """By level, from the PTE."""
    radix: bool = False


class Book3sEntries(Entries):
    """One level, of ordinary tables or of a hugepd's."""

    table_align_bytes = 256

    def __init__(self, geometry: Geometry, *, table_bits: int, was_huge: bool) -> None:
        """:param table_bits: the low bits of a directory entry: on radix, the size of the lower table.

        :param was_huge: whether ``pmd_huge`` and ``pud_huge`` looked at the entry at all.
        """
        super().__init__(
            geometry,
            LeafBits(
                present=PRESENT | INVALID_BIT,
                base=PRESENT | PTE | READ,
                set_by={
                    WRITE: WRITE_BIT,
                    YOUNG: ACCESSED,
                    DIRTY: DIRTY_BIT,
                    SOFT_DIRTY: SOFT_DIRTY_BIT,
                    SPECIAL: SPECIAL_BIT,
                    EXEC: EXEC_BIT,
                },
                cleared_by={USER: PRIVILEGED},
            ),
            SwapBits(
                base=PTE,
                type_shift=0,
                offset_shift=geometry.page_shift,
                offset_bits=_PA_MAX - geometry.page_shift,
                exclusive=SWP_EXCLUSIVE,
                soft_dirty=SWP_SOFT_DIRTY,
                pfn_bits=51 - geometry.page_shift,
            ),
            extra=PROTNONE | INVALID,
        )
        self._table_bits = table_bits
        self._was_huge = was_huge
        self._leaf_bytes = max(geometry.leaf_sizes, default=0)

    def _encode(self, flags: int) -> int:
        entry = super()._encode(flags)
        if flags & INVALID:
            return entry & ~PRESENT | INVALID_BIT
        return entry & ~READ if flags & PROTNONE else entry

    def _decode(self, attributes: int) -> int:
        flags = super()._decode(attributes)
        if not attributes & (READ | WRITE_BIT | EXEC_BIT):
            flags |= PROTNONE
        return flags if attributes & PRESENT else flags | INVALID

    def _points_to_table(self, entry: int) -> bool:
        return not entry & PTE

    def _encode_table(self, address: int, size_bytes: int) -> int:
        if size_bytes:
            return PRESENT | address | PSIZE_OF_BYTES[size_bytes] << 2
        return PRESENT | address | self._table_bits

    def table_address(self, entry: int) -> int:
        """Physical address of the lower table."""
        return entry & ~_MASKED_BITS

    def _directory_bytes(self, entry: int) -> int:
        found = (entry & _HUGEPD_SHIFT_MASK) >> 2
        return next((size for size, psize in PSIZE_OF_BYTES.items() if psize == found), 0)

    def leaf_bytes(self, entry: int) -> int:  # noqa: ARG002 - one size a level
        """Bytes mapped by the leaf together with the rest of its contiguous block."""
        return self._leaf_bytes

    def mkinvalid(self, entry: int) -> int:
        """Trade _PAGE_PRESENT for _PAGE_INVALID."""
        return entry & ~PRESENT | INVALID_BIT

    def after_load(self, entry: int) -> int | None:
        """The hardware, or the hash fault, sets accessed."""
        if entry & (PRESENT | READ | PRIVILEGED) != PRESENT | READ:
            return None
        return entry | ACCESSED

    def after_store(self, entry: int) -> int | None:
        """The hardware, or the hash fault, sets accessed and dirty."""
        if entry & (PRESENT | WRITE_BIT | PRIVILEGED) != PRESENT | WRITE_BIT:
            return None
        return entry | ACCESSED | DIRTY_BIT

    def old_huge(self, entry: int) -> bool:
        """``pmd_raw(pmd) & _PAGE_PTE``, also true of swap entries; always false on hash with 4K pages."""
        return self._was_huge and self.level in (1, 2) and entry & PTE != 0


_HASH_4K = _Variant(
    arch="ppc64-hash-4k",
    page_shift=12,
    index_bits=(9, 7, 9, 9),
    leaf_sizes=((1 << 12,), (1 << 24,), (1 << 34,)),
)
_HASH_64K = _Variant(
    arch="ppc64-hash-64k",
    page_shift=16,
    index_bits=(8, 10, 10, 8),
    leaf_sizes=((1 << 16,), (1 << 24,), (1 << 34,)),
)
_RADIX_4K = _Variant(
    arch="ppc64-radix-4k",
    page_shift=12,
    index_bits=(9, 9, 9, 13),
    leaf_sizes=((1 << 12,), (1 << 21,), (1 << 30,)),
    radix=True,
)
_RADIX_64K = _Variant(
    arch="ppc64-radix-64k",
    page_shift=16,
    index_bits=(5, 9, 9, 13),
    leaf_sizes=((1 << 16,), (1 << 21,), (1 << 30,)),
    radix=True,
)


def hash_4k() -> PageTableFormat:
    """16M as 8 PMDs, 16G as 64 PUDs."""
    return _build(_HASH_4K)


def hash_4k_hugepd() -> PageTableFormat:
    """16M below a hugepd in the PUD, 16G below one in the PGD."""
    return _build(replace(_HASH_4K, arch="ppc64-hash-4k-hugepd", leaf_sizes=((1 << 12,),)), hugepd=True)


def hash_64k() -> PageTableFormat:
    """16M PMD, 16G PUD leaves."""
    return _build(_HASH_64K)


def radix_4k() -> PageTableFormat:
    """2M PMD, 1G PUD leaves."""
    return _build(_RADIX_4K)


def radix_64k() -> PageTableFormat:
    """2M PMD, 1G PUD leaves."""
    return _build(_RADIX_64K)


def _build(variant: _Variant, *, hugepd: bool = False) -> PageTableFormat:
    levels: list[Book3sEntries] = []
    shift = variant.page_shift
    for level, (name, index_bits) in enumerate(zip(("PTE", "PMD", "PUD", "PGD"), variant.index_bits, strict=True)):
        geometry = Geometry(
            arch=variant.arch,
            name=name,
            level=level,
            page_shift=variant.page_shift,
            shift=shift,
            index_bits=index_bits,
            pfn_mask=bits(_PA_MAX - 1, variant.page_shift),
            pfn_shift=variant.page_shift,
            leaf_sizes=variant.leaf_sizes[level] if level < len(variant.leaf_sizes) else (),
        )
        table_bits = variant.index_bits[level - 1] if variant.radix and level else 0
        was_huge = variant.radix or variant.page_shift == 16
        entries = Book3sEntries(geometry, table_bits=table_bits, was_huge=was_huge)
        if hugepd:
            # In the entry that spans the page, not in those that the page would span.
            below = levels[-1].shift if levels else 0
            inside = [size for size in PSIZE_OF_BYTES if below < _log2(size) < shift]
            entries.directories = {size: _below_hugepd(geometry, size) for size in inside}
        levels.append(entries)
        shift += index_bits
    extra = [] if variant.radix else ["hash"]
    return link(variant.arch, levels, "hw-young", "hw-dirty", *extra, *(["hugepd"] if hugepd else []))


def _log2(size_bytes: int) -> int:
    return size_bytes.bit_length() - 1


def _below_hugepd(directory: Geometry, size_bytes: int) -> Book3sEntries:
    """The slots for the pages that one directory entry spans."""
    slots = replace(
        directory,
        name="hugepd",
        shift=_log2(size_bytes),
        index_bits=directory.shift - _log2(size_bytes),
        leaf_sizes=(size_bytes,),
    )
    return Book3sEntries(slots, table_bits=0, was_huge=False)
