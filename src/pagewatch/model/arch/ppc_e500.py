"""powerpc e500, 32 and 64 bit (arch/powerpc/include/asm/nohash/pte-e500.h, hugetlb-e500.h, 64/pgtable.h).

* A leaf says its size in its PSIZE field; the huge sizes are powers of four from 4M to 1G.
* A directory entry is the kernel's virtual address of the table, without flags: on 64 bit, a value with
  the top bit set. A hugepd entry is such an address with the top bit cleared, and the page shift in
  its low bits.
* hugepd (until Linux 6.10): the directory entries of the level below the page's size; where it spans
  several, they share one slot. Leaves (since 6.11): the entries themselves, each with the size and its
  own frame.
* The old ``pmd_leaf`` on 64 bit, "the value is positive", took swap entries for leaves. Here presence is
  asked first.
* On 32 bit an entry with no flags at all is a table, so a plain swap entry could not be told from one in
  the root; nothing swaps huge pages there.
* Accessed and dirty are kept by faults. No soft-dirty, no uffd-wp.
"""

from dataclasses import replace

from pagewatch.model.arch.entries import Entries
from pagewatch.model.arch.format import (
    DIRTY,
    EXEC,
    LEAF,
    PROTNONE,
    SPECIAL,
    TABLE,
    USER,
    WRITE,
    YOUNG,
    PageTableFormat,
)
from pagewatch.model.arch.layout import Geometry, LeafBits, SwapBits, bits
from pagewatch.model.arch.levels import link
from pagewatch.vocab.errors import InvalidArgument

PRESENT = 0x000001
BAP_SR = 0x000004
BAP_UR = 0x000008
BAP_SW = 0x000010
BAP_UW = 0x000020
BAP_SX = 0x000040
BAP_UX = 0x000080
PSIZE_MSK = 0x000F00
DIRTY_BIT = 0x001000
SPECIAL_BIT = 0x002000
ACCESSED = 0x040000
COHERENT = 0x200000
"""``_PAGE_*``."""
RPN_SHIFT = 24

HUGE_SIZES: tuple[int, ...] = tuple(1 << shift for shift in range(22, 31, 2))
"""4M, 16M, 64M, 256M, 1G."""

_READ, _WRITE, _EXEC = BAP_SR | BAP_UR, BAP_SW | BAP_UW, BAP_SX | BAP_UX
_SIZE_IN_HUGEPD = 0x3F


def psize(size_bytes: int) -> int:
    """The PSIZE field for a leaf of that size: log2 of it in KiB."""
    return size_bytes.bit_length() - 11 << 7


class E500Entries(Entries):
    """One level, of ordinary tables or of a hugepd's."""

    def __init__(self, geometry: Geometry, *, wide: bool) -> None:
        """:param wide: 64 bit, where tables lie at 0xc000000000000000; at 0xc0000000 on 32 bit."""
        span_bytes = 1 << geometry.shift
        super().__init__(
            geometry,
            LeafBits(
                present=PRESENT,
                base=PRESENT | COHERENT | (psize(span_bytes) if span_bytes in geometry.leaf_sizes else 0),
                set_by={YOUNG: ACCESSED, DIRTY: DIRTY_BIT, SPECIAL: SPECIAL_BIT},
            ),
            SwapBits(type_shift=2, offset_shift=24, offset_bits=39, exclusive=0x80, pfn_bits=40 - 12)
            if wide
            else SwapBits(type_shift=3, offset_shift=8, offset_bits=26, exclusive=0x04, pfn_bits=36 - 12),
            extra=WRITE | USER | EXEC | PROTNONE,
        )
        self._top_bit = 1 << (63 if wide else 31)
        self._page_offset = self._top_bit | self._top_bit >> 1
        self._plain_is_table = not wide

    def _encode(self, flags: int) -> int:
        entry = super()._encode(flags)
        if flags & PROTNONE:
            return entry
        rights = BAP_SR | (BAP_SW if flags & WRITE else 0) | (BAP_SX if flags & EXEC else 0)
        if flags & USER:
            # A user's execute right is his alone; read and write are the supervisor's, too.
            rights = (rights | rights << 1) & ~BAP_SX
        return entry | rights

    def _decode(self, attributes: int) -> int:
        flags = super()._decode(attributes)
        if not attributes & (_READ | _WRITE | _EXEC):
            return flags | PROTNONE
        flags |= USER if attributes & BAP_UR else 0
        flags |= WRITE if attributes & _WRITE else 0
        return flags | (EXEC if attributes & _EXEC else 0)

    def _sized(self, entry: int, size_bytes: int) -> int:
        return entry & ~PSIZE_MSK | psize(size_bytes) if size_bytes else entry

    def leaf_bytes(self, entry: int) -> int:
        """Bytes mapped by the leaf together with the rest of its contiguous block."""
        return 1 << ((entry & PSIZE_MSK) >> 7) + 10

    def kind(self, entry: int) -> int:
        """NONE, TABLE, LEAF, or one of the non-present kinds."""
        if self.level and self._points_to_table(entry):
            return TABLE
        return LEAF if entry & PRESENT else super().kind(entry)

    def _points_to_table(self, entry: int) -> bool:
        if self.directories:  # hugepd layout: nothing but tables stands here
            return entry != 0
        if self._plain_is_table:
            return entry & self._top_bit != 0 and entry & 0xFFF == 0 and entry >> 32 == 0
        return entry & self._top_bit != 0

    def _encode_table(self, address: int, size_bytes: int) -> int:
        virtual = self._page_offset + address
        if virtual >= self._top_bit << 1:
            raise InvalidArgument(f"{self.arch}: no kernel address for a table at {address:#x}")
        if size_bytes:
            return virtual & ~self._top_bit | size_bytes.bit_length() - 1
        return virtual

    def table_address(self, entry: int) -> int:
        """Physical address of the lower table."""
        return (entry & ~_SIZE_IN_HUGEPD | self._top_bit) - self._page_offset

    def _directory_bytes(self, entry: int) -> int:
        return 1 << (entry & _SIZE_IN_HUGEPD) if entry and not entry & self._top_bit else 0

    def swap_entry(self, type_: int, offset: int, flags: int = 0) -> int:
        """Swapped-out page; not above the PTEs on 32 bit."""
        if self.level and self._plain_is_table:
            raise InvalidArgument(f"{self.arch}: a swap entry at the {self.name} would read as a table")
        return super().swap_entry(type_, offset, flags)

    def mkwrite(self, entry: int) -> int:
        """Allow stores, to the user where he may read."""
        return entry | BAP_SW | (entry & BAP_UR) << 2

    def wrprotect(self, entry: int) -> int:
        """Forbid stores; dirtiness is kept."""
        return entry & ~_WRITE

    def after_load(self, entry: int) -> int | None:
        """A clear accessed bit faults."""
        wanted = PRESENT | ACCESSED | BAP_UR
        return entry if entry & wanted == wanted else None

    def after_store(self, entry: int) -> int | None:
        """A clear accessed or dirty bit faults."""
        wanted = PRESENT | ACCESSED | DIRTY_BIT | BAP_UR | BAP_UW
        return entry if entry & wanted == wanted else None

    def old_huge(self, entry: int) -> bool:  # noqa: ARG002 - the same for every entry
        """Never: huge pages stood below hugepd entries."""
        return False


_LEVELS_32 = (("PTE", 12, 9), ("PGD", 21, 11))
_LEVELS_64 = (("PTE", 12, 9), ("PMD", 21, 7), ("PUD", 28, 9), ("PGD", 37, 9))
"""Name, shift and index bits."""


def ppc_e500(*, wide: bool, hugepd: bool) -> PageTableFormat:
    """64 bit (``wide``) or 32, with huge pages below hugepd entries or as leaves of their own."""
    arch = f"ppc{'64' if wide else ''}-e500{'-hugepd' if hugepd else ''}"
    spec = _LEVELS_64 if wide else _LEVELS_32
    levels = []
    for level, (name, shift, index_bits) in enumerate(spec):
        huge = tuple(size for size in HUGE_SIZES if _home(size, spec) == level)
        geometry = Geometry(
            arch=arch,
            name=name,
            level=level,
            page_shift=12,
            shift=shift,
            index_bits=index_bits,
            pfn_mask=bits((40 if wide else 36) - 12 + RPN_SHIFT - 1, RPN_SHIFT),
            pfn_shift=RPN_SHIFT,
            entry_bytes=4 if hugepd and level and not wide else 8,
            leaf_sizes=(1 << 12,) if not level else () if hugepd else huge,
        )
        entries = E500Entries(geometry, wide=wide)
        if hugepd:
            entries.directories = {size: _below_hugepd(geometry, size, wide=wide) for size in huge}
        levels.append(entries)
    return link(arch, levels, *(["hugepd"] if hugepd else []))


def _home(size_bytes: int, spec: tuple[tuple[str, int, int], ...]) -> int:
    """The highest level whose entries span no more than the page."""
    return max(level for level, (_, shift, _) in enumerate(spec) if size_bytes >> shift)


def _below_hugepd(directory: Geometry, size_bytes: int, *, wide: bool) -> E500Entries:
    """The one slot for a page no smaller than the span of the directory entries that share it."""
    slot = replace(
        directory,
        name="hugepd",
        shift=size_bytes.bit_length() - 1,
        index_bits=0,
        entry_bytes=8,
        leaf_sizes=(size_bytes,),
    )
    return E500Entries(slot, wide=wide)
