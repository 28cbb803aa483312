"""powerpc 8xx: 32 bits, two levels of 1024 entries (arch/powerpc/include/asm/nohash/32/pte-8xx.h).

Pages of 16K and 512K are 4 and 128 PTEs with the size in their flags. 8M is twice what a directory entry
spans, and the two layouts differ only in that:

* hugepd (until Linux 6.10): two directory entries point to one table of one slot.
* contiguous (since 6.11): two directory entries, both flagged 8M, each with an ordinary table whose
  1024 PTEs advance through the page.

In either, only the directory entry tells an 8M page from a 512K one, so it decides the format of the table
below. Accessed and dirty are kept by faults. No soft-dirty, no uffd-wp.
"""

from pagewatch.model.arch.entries import Entries
from pagewatch.model.arch.format import (
    DIRTY,
    EXEC,
    PROTNONE,
    SPECIAL,
    USER,
    WRITE,
    YOUNG,
    PageTableFormat,
)
from pagewatch.model.arch.layout import Geometry, LeafBits, SwapBits, bits
from pagewatch.model.arch.levels import link

PRESENT = 0x0001
SH = 0x0004
"""Shared by all contexts: not a user's page."""
SPS = 0x0008
"""Bigger than 4K."""
ACCESSED = 0x0020
EXEC_BIT = 0x0040
SPECIAL_BIT = 0x0080
DIRTY_BIT = 0x0100
NA = 0x0200
RO = 0x0600
HUGE = 0x0800
"""With SPS: 512K or 8M."""
SWP_EXCLUSIVE = 0x0004

PMD_PRESENT = 0x0001
PMD_PAGE_8M = 0x000C
PMD_USER = 0x0040

_16K, _512K, _8M = 1 << 14, 1 << 19, 1 << 23
_MARK_OF_SIZE = {_16K: SPS, _512K: SPS | HUGE, _8M: SPS | HUGE}


class Entries8xx(Entries):
    """PTEs, of an ordinary table or of one below an 8M directory entry; and the directory entries."""

    def __init__(self, geometry: Geometry) -> None:
        """:param geometry: of a directory, without leaf sizes."""
        super().__init__(
            geometry,
            LeafBits(
                present=PRESENT,
                base=PRESENT,
                set_by={YOUNG: ACCESSED, DIRTY: DIRTY_BIT, SPECIAL: SPECIAL_BIT, EXEC: EXEC_BIT},
                cleared_by={WRITE: RO, USER: SH},
            ),
            SwapBits(type_shift=3, offset_shift=8, offset_bits=24, exclusive=SWP_EXCLUSIVE, pfn_bits=32 - 12),
            extra=PROTNONE,
        )
        self._only_8m = geometry.leaf_sizes == (_8M,)

    def _encode(self, flags: int) -> int:
        if flags & PROTNONE:
            return super()._encode(flags | WRITE | USER) | NA
        return super()._encode(flags)

    def _decode(self, attributes: int) -> int:
        if attributes & RO == NA:
            return super()._decode(attributes) | PROTNONE
        return super()._decode(attributes)

    def _sized(self, entry: int, size_bytes: int) -> int:
        return entry | _MARK_OF_SIZE.get(size_bytes or 1 << self.shift, 0)

    def leaf_bytes(self, entry: int) -> int:
        """Bytes mapped by the leaf together with the rest of its contiguous block."""
        if self._only_8m:
            return _8M
        if entry & HUGE:
            return _512K
        return _16K if entry & SPS else 1 << 12

    def _points_to_table(self, entry: int) -> bool:  # noqa: ARG002 - a matter of the table, not of the entry
        return not self.leaf_sizes

    def _encode_table(self, address: int, size_bytes: int) -> int:
        return address | PMD_USER | PMD_PRESENT | (PMD_PAGE_8M if size_bytes else 0)

    def table_address(self, entry: int) -> int:
        """Physical address of the lower table."""
        return entry & bits(31, 12)

    def _directory_bytes(self, entry: int) -> int:
        return _8M if entry & PMD_PAGE_8M == PMD_PAGE_8M else 0

    def mkwrite(self, entry: int) -> int:
        """Allow stores."""
        return entry & ~RO

    def wrprotect(self, entry: int) -> int:
        """Forbid stores; dirtiness is kept."""
        # NA is a bit of RO: what nobody may access must not become readable.
        return entry if entry & NA else entry | RO

    def after_load(self, entry: int) -> int | None:
        """A clear accessed bit faults."""
        usable = entry & (PRESENT | ACCESSED | SH) == PRESENT | ACCESSED and entry & RO != NA
        return entry if usable else None

    def after_store(self, entry: int) -> int | None:
        """A clear accessed or dirty bit faults."""
        usable = entry & (PRESENT | ACCESSED | DIRTY_BIT | SH | RO) == PRESENT | ACCESSED | DIRTY_BIT
        return entry if usable else None

    def old_huge(self, entry: int) -> bool:  # noqa: ARG002 - the same for every entry
        """Never: huge pages stood below hugepd entries."""
        return False


def ppc_8xx() -> PageTableFormat:
    """8M as two tables of 1024 PTEs."""
    return _link("ppc-8xx", _level("ppc-8xx", "PTE", 0, (_8M,)))


def ppc_8xx_hugepd() -> PageTableFormat:
    """8M as two hugepd entries that share one slot."""
    return _link("ppc-8xx-hugepd", _level("ppc-8xx-hugepd", "hugepd", 1, (_8M,), shift=23), "hugepd")


def _link(arch: str, below_8m: Entries8xx, *features: str) -> PageTableFormat:
    directory = _level(arch, "PGD", 1, (), shift=22)
    directory.directories = {_8M: below_8m}
    return link(arch, [_level(arch, "PTE", 0, (1 << 12, _16K, _512K)), directory], *features)


def _level(arch: str, name: str, level: int, leaf_sizes: tuple[int, ...], *, shift: int = 12) -> Entries8xx:
    return Entries8xx(
        Geometry(
            arch=arch,
            name=name,
            level=level,
            page_shift=12,
            shift=shift,
            index_bits=0 if shift == 23 else 10,
            pfn_mask=bits(31, 12),
            pfn_shift=12,
            entry_bytes=4,
            leaf_sizes=leaf_sizes,
        )
    )
