"""What most formats share: flags that are bits, a frame number at a shift, tables below.

A format subclasses :class:`Entries`, names its bits, and overrides what its hardware does differently.
The masks are plain ints on the instance, so that a transform is one or two machine operations, and what
depends on the flags alone is computed once for every combination.
"""

from abc import abstractmethod
from collections.abc import Mapping

from pagewatch.model.arch.absent import AbsentEntries
from pagewatch.model.arch.format import (
    DIRTY,
    EXCLUSIVE,
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
    EntryFormat,
    size_name,
)
from pagewatch.model.arch.layout import Geometry, LeafBits, SwapBits
from pagewatch.model.arch.memo import Memo
from pagewatch.model.arch.swaptypes import KIND_OF_TYPE
from pagewatch.vocab.errors import InvalidArgument

ACCESS = WRITE | USER | EXEC | PROTNONE
"""The flags that :meth:`Entries.modify` replaces."""


class Entries(AbsentEntries):
    """One level, for formats whose flags are bits; see :class:`~.format.EntryFormat` for every method."""

    table_align_bytes = 4096
    """Where a lower table may begin."""

    def __init__(self, geometry: Geometry, leaf: LeafBits, swap: SwapBits, *, extra: int = 0) -> None:
        """:param extra: flags supported beyond those with a bit of their own."""
        super().__init__(geometry, swap, extra | sum(leaf.set_by) | sum(leaf.cleared_by))
        self.lower: EntryFormat | None = None
        self.directories: Mapping[int, EntryFormat] = {}
        self._index_mask = (1 << geometry.index_bits) - 1
        self._pfn_mask = geometry.pfn_mask
        self._pfn_shift = geometry.pfn_shift
        self._end_of_memory = 1 << (geometry.pfn_mask >> geometry.pfn_shift).bit_length() + geometry.page_shift
        self._unplaceable = {size: self._find_unplaceable(size) for size in geometry.leaf_sizes}
        if geometry.span_bytes in self._unplaceable:
            self._unplaceable[0] = self._unplaceable[geometry.span_bytes]
        self._leaf = leaf
        bits = leaf.set_by
        self._present = leaf.present
        self._write = bits.get(WRITE, 0)
        self._young = bits.get(YOUNG, 0)
        self._dirty = bits.get(DIRTY, 0)
        self._soft_dirty = bits.get(SOFT_DIRTY, 0)
        self._uffd_wp = bits.get(UFFD_WP, 0)
        self._special = bits.get(SPECIAL, 0)
        self._encoded = Memo(self._encode_checked)
        self._attributes = ~self._pfn_mask
        self._decoded = Memo(self._decode_masked)

    def _find_unplaceable(self, size_bytes: int) -> int:
        """The bits that the frame number of an entry cannot have: out of range, or misaligned.

        Of a block, each entry has its own frame: the alignment is that of one entry.
        """
        step_pages = min(size_bytes, 1 << self.shift) >> self.page_shift
        return ~(self._pfn_mask >> self._pfn_shift) | (step_pages - 1)

    # Geometry

    def index(self, address: int) -> int:
        """Which entry of a table covers the virtual address."""
        return address >> self.shift & self._index_mask

    def below(self, entry: int) -> EntryFormat:
        """The format of the table that a TABLE entry points to."""
        if self.directories and (size_bytes := self._directory_bytes(entry)):
            return self.directories[size_bytes]
        if self.lower is None:
            raise InvalidArgument(f"{self.arch}: there is no table below a {self.name} entry")
        return self.lower

    def _directory_bytes(self, entry: int) -> int:  # noqa: ARG002 - formats with special directories override this
        """The leaf size that a special directory entry stands for; 0 for any other entry."""
        return 0

    def table(self, address: int, size_bytes: int = 0) -> int:
        """A directory entry for the table at that physical address."""
        if size_bytes and size_bytes not in self.directories:
            raise InvalidArgument(f"{self.arch}: a {self.name} entry is no directory of {size_name(size_bytes)} leaves")
        fits = 0 <= address < self._end_of_memory and not address & (self.table_align_bytes - 1)
        if self.lower is None or not fits:
            raise InvalidArgument(f"{self.arch}: no {self.name} entry can point to a table at {address:#x}")
        return self._encode_table(address, size_bytes)

    @abstractmethod
    def _encode_table(self, address: int, size_bytes: int) -> int:
        """A directory entry; the address is aligned, the size known or 0."""

    @abstractmethod
    def table_address(self, entry: int) -> int:
        """Physical address of the lower table."""

    # Leaves

    def _encode_checked(self, flags: int) -> int:
        self._require(flags, ~EXCLUSIVE, "a present")
        if flags & PROTNONE and flags & (WRITE | USER | EXEC | INVALID):
            raise InvalidArgument("protnone excludes write, user, exec and invalid")
        return self._encode(flags)

    def _encode(self, flags: int) -> int:
        """All bits of a leaf but the frame number."""
        bits = self._leaf.base
        for flag, mask in self._leaf.set_by.items():
            if flags & flag:
                bits |= mask
        for flag, mask in self._leaf.cleared_by.items():
            if not flags & flag:
                bits |= mask
        return bits

    def _decode_masked(self, attributes: int) -> int:
        flags = self._decode(attributes)
        return flags & ~(WRITE | USER | EXEC) if flags & PROTNONE else flags

    def _decode(self, attributes: int) -> int:
        """The flags of a leaf from its bits; the inverse of ``_encode``."""
        flags = 0
        for flag, mask in self._leaf.set_by.items():
            if attributes & mask:
                flags |= flag
        for flag, mask in self._leaf.cleared_by.items():
            if not attributes & mask:
                flags |= flag
        return flags

    def leaf(self, pfn: int, flags: int, size_bytes: int = 0) -> int:
        """A leaf of this level."""
        bad = self._unplaceable.get(size_bytes)
        if bad is None or pfn & bad:
            raise self._misplaced(pfn, size_bytes)
        return self._sized(pfn << self._pfn_shift | self._encoded[flags], size_bytes)

    def _misplaced(self, pfn: int, size_bytes: int) -> InvalidArgument:
        if size_bytes in self._unplaceable:
            return InvalidArgument(f"{self.arch}: frame {pfn:#x} is out of range or not {self.name}-aligned")
        sizes = ", ".join(size_name(size) for size in self.leaf_sizes) or "none"
        wanted = size_name(size_bytes or 1 << self.shift)
        return InvalidArgument(f"{self.arch}: no {wanted} leaf at the {self.name} (it has {sizes})")

    def _sized(self, entry: int, size_bytes: int) -> int:  # noqa: ARG002 - formats with blocks override this
        """The leaf marked as part of a block of that size; 0 and the span of one entry need no mark."""
        return entry

    def _frame(self, entry: int) -> int:
        """The frame number that stands in a leaf; within a block, its own."""
        return (entry & self._pfn_mask) >> self._pfn_shift

    def pfn(self, entry: int) -> int:
        """First frame that a leaf maps, or the frame that a non-present entry carries."""
        kind = self.kind(entry)
        if kind == LEAF:
            return self._frame(entry) & -(self.leaf_bytes(entry) >> self.page_shift)
        return self._swap_pfn(entry, kind)

    def leaf_bytes(self, entry: int) -> int:  # noqa: ARG002 - formats with blocks override this
        """Bytes mapped by the leaf together with the rest of its contiguous block."""
        return 1 << self.shift

    def kind(self, entry: int) -> int:
        """NONE, TABLE, LEAF, or one of the non-present kinds."""
        if entry & self._present:
            return TABLE if self.level and self._points_to_table(entry) else LEAF
        if entry in (self.empty, 0):
            return NONE
        return KIND_OF_TYPE[self.swap(entry)[0]]

    @abstractmethod
    def _points_to_table(self, entry: int) -> bool:
        """Whether a present entry above the PTE level points to a table."""

    def flags(self, entry: int) -> int:
        """All flags of a leaf or of a non-present entry, as one mask."""
        kind = self.kind(entry)
        if kind == LEAF:
            return self._decoded[entry & self._attributes]
        if kind in (NONE, TABLE):
            return 0
        return self._swap_flags(entry, kind)

    def old_huge(self, entry: int) -> bool:
        """What ``pmd_huge``/``pud_huge`` said until Linux 6.10."""
        return self.level > 0 and self.kind(entry) == LEAF

    # Transforms of leaves

    def modify(self, entry: int, flags: int) -> int:
        """The leaf with its access rights replaced."""
        kept = self._decoded[entry & self._attributes] & ~ACCESS
        size_bytes = self.leaf_bytes(entry)
        return self.leaf(self._frame(entry), kept | flags & ACCESS, size_bytes)

    def mkwrite(self, entry: int) -> int:
        """Allow stores."""
        return entry | self._write

    def wrprotect(self, entry: int) -> int:
        """Forbid stores; dirtiness is kept."""
        return entry & ~self._write

    def mkdirty(self, entry: int) -> int:
        """Record a write, also in soft-dirty."""
        return entry | self._dirty | self._soft_dirty

    def mkclean(self, entry: int) -> int:
        """Forget writes; soft-dirty stays."""
        return entry & ~self._dirty

    def mkyoung(self, entry: int) -> int:
        """Record an access."""
        return entry | self._young

    def mkold(self, entry: int) -> int:
        """Forget accesses."""
        return entry & ~self._young

    def mkspecial(self, entry: int) -> int:
        """Say that no ordinary page stands behind this frame."""
        return entry | (self._special or self._lacks(SPECIAL))

    def mkinvalid(self, entry: int) -> int:  # noqa: ARG002 - formats that can override this
        """Take the leaf from the hardware; it stays present for software."""
        self._lacks(INVALID)

    def mksoft_dirty(self, entry: int) -> int:
        """Set soft-dirty of a leaf."""
        return entry | (self._soft_dirty or self._lacks(SOFT_DIRTY))

    def clear_soft_dirty(self, entry: int) -> int:
        """Clear soft-dirty of a leaf."""
        return entry & ~(self._soft_dirty or self._lacks(SOFT_DIRTY))

    def mkuffd_wp(self, entry: int) -> int:
        """Set uffd-wp of a leaf, and write-protect it."""
        return self.wrprotect(entry | (self._uffd_wp or self._lacks(UFFD_WP)))

    def clear_uffd_wp(self, entry: int) -> int:
        """Clear uffd-wp of a leaf; it stays write-protected."""
        return entry & ~(self._uffd_wp or self._lacks(UFFD_WP))

    @abstractmethod
    def after_load(self, entry: int) -> int | None:
        """The leaf as the MMU leaves it after a user load; None when that faults."""

    @abstractmethod
    def after_store(self, entry: int) -> int | None:
        """The leaf as the MMU leaves it after a user store; None when that faults."""
