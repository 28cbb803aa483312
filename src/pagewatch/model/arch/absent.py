"""Non-present entries: swap, migration, hwpoison, device and markers, by the swap type they carry.

All formats build them alike (include/linux/swapops.h); a format only says where the type, the offset
and the few bits of a swap entry stand.
"""

from abc import ABC, abstractmethod
from typing import NoReturn

from pagewatch.model.arch import swaptypes
from pagewatch.model.arch.format import (
    DEVICE,
    DEVICE_EXCLUSIVE,
    DIRTY,
    EXCLUSIVE,
    FLAG_NAMES,
    HWPOISON,
    KIND_NAMES,
    MARKER,
    MARKER_UFFD_WP,
    MIGRATION,
    NONE,
    SOFT_DIRTY,
    SWAP,
    TABLE,
    UFFD_WP,
    WRITE,
    YOUNG,
    flag_names,
)
from pagewatch.model.arch.layout import Geometry, SwapBits
from pagewatch.model.arch.memo import Memo
from pagewatch.vocab.errors import FeatureMissing, InvalidArgument

_FLAG_OF_TYPE = {
    swaptypes.SWP_MIGRATION_WRITE: WRITE,
    swaptypes.SWP_MIGRATION_READ_EXCLUSIVE: EXCLUSIVE,
    swaptypes.SWP_DEVICE_WRITE: WRITE,
}


class AbsentEntries(ABC):
    """The non-present half of one level; see :class:`~.format.EntryFormat` for every method."""

    def __init__(self, geometry: Geometry, swap: SwapBits, supported: int) -> None:
        """:param supported: flags of a leaf; EXCLUSIVE is added where swap entries have it."""
        self.arch = geometry.arch
        self.name = geometry.name
        self.level = geometry.level
        self.page_shift = geometry.page_shift
        self.shift = geometry.shift
        self.index_bits = geometry.index_bits
        self.entry_bytes = geometry.entry_bytes
        self.leaf_sizes = geometry.leaf_sizes
        self.empty = geometry.empty
        self.supported = supported | (EXCLUSIVE if swap.exclusive else 0) if geometry.leaf_sizes else 0
        self._swap = swap
        self._swap_attributes = 31 << swap.type_shift | swap.exclusive | swap.soft_dirty | swap.uffd_wp
        self._swap_decoded = Memo(self._swap_decode)
        self._markers_decoded = Memo(self._marker_decode)

    @abstractmethod
    def kind(self, entry: int) -> int:
        """NONE, TABLE, LEAF, or one of the non-present kinds."""

    def _lacks(self, flag: int) -> NoReturn:
        feature = FLAG_NAMES[flag.bit_length() - 1]
        raise FeatureMissing(feature, f"{self.arch} has no such bit in a {self.name} entry")

    def _require(self, flags: int, allowed: int, what: str) -> None:
        if missing := flags & ~self.supported:
            self._lacks(missing)
        if wrong := flags & ~allowed:
            raise InvalidArgument(f"{what} entry cannot be {', '.join(flag_names(wrong))}")

    def swap(self, entry: int) -> tuple[int, int]:
        """Raw type and offset of any non-present entry."""
        bits = self._swap
        return entry >> bits.type_shift & 31, entry >> bits.offset_shift & ((1 << bits.offset_bits) - 1)

    def _raw_swap(self, type_: int, offset: int) -> int:
        """A non-present entry without flags (``__swp_entry``)."""
        bits = self._swap
        return bits.base | type_ << bits.type_shift | offset << bits.offset_shift

    def _place_swap(self, type_: int, offset: int, flags: int) -> int:
        if not self.leaf_sizes:
            raise InvalidArgument(f"{self.arch}: a {self.name} entry holds no leaf and so no non-present entry")
        if offset < 0 or offset >> self._swap.offset_bits:
            raise InvalidArgument(f"{self.arch}: swap offset {offset:#x} needs more than {self._swap.offset_bits} bits")
        entry = self._raw_swap(type_, offset)
        for flag, mask in self._swap_masks():
            if flags & flag:
                entry |= mask
        return entry

    def _swap_masks(self) -> tuple[tuple[int, int], ...]:
        bits = self._swap
        return ((EXCLUSIVE, bits.exclusive), (SOFT_DIRTY, bits.soft_dirty), (UFFD_WP, bits.uffd_wp))

    def swap_entry(self, type_: int, offset: int, flags: int = 0) -> int:
        """Swapped-out page: the swap file's number and the slot."""
        self._require(flags, EXCLUSIVE | SOFT_DIRTY | UFFD_WP, "a swap")
        if not 0 <= type_ < swaptypes.SWP_HWPOISON:
            raise InvalidArgument(f"swap files are numbered 0 to {swaptypes.SWP_HWPOISON - 1}, not {type_}")
        if not offset:
            raise InvalidArgument("slot 0 of a swap file is its header, never a page")
        return self._place_swap(type_, offset, flags)

    def marker_entry(self, payload: int) -> int:
        """A marker with any of the MARKER_* bits."""
        if not 0 < payload < 8:
            raise InvalidArgument(f"no such marker: {payload:#x}")
        if payload & MARKER_UFFD_WP:
            self._require(UFFD_WP, UFFD_WP, "a marker")
        return self._place_swap(swaptypes.SWP_PTE_MARKER, payload, 0)

    def marker(self, entry: int) -> int:
        """Payload of a marker; 0 for any other entry."""
        return self.swap(entry)[1] if self.kind(entry) == MARKER else 0

    def pfn_entry(self, kind: int, pfn: int, flags: int = 0) -> int:
        """A non-present entry that carries a frame number."""
        pfn_bits = self._swap.pfn_bits
        if pfn < 0 or pfn >> pfn_bits:
            raise InvalidArgument(f"{self.arch}: frame {pfn:#x} needs more than {pfn_bits} bits")
        carried = self._carried(kind)
        self._require(flags & ~carried, SOFT_DIRTY | UFFD_WP, f"a {KIND_NAMES[kind]}")
        offset = pfn
        if flags & YOUNG:
            offset |= 1 << pfn_bits
        if flags & DIRTY:
            offset |= 1 << (pfn_bits + 1)
        return self._place_swap(_type_of(kind, flags), offset, flags & ~EXCLUSIVE)

    def _carried(self, kind: int) -> int:
        """Flags that a kind expresses by its type or its offset, not by bits of the entry."""
        if kind == MIGRATION:
            # SWP_MIG_TOTAL_BITS must fit, otherwise the kernel drops both.
            fits = self._swap.pfn_bits + 2 <= self._swap.offset_bits
            return WRITE | EXCLUSIVE | (YOUNG | DIRTY if fits else 0)
        return WRITE if kind == DEVICE else 0

    def _swap_pfn(self, entry: int, kind: int) -> int:
        if kind in (NONE, TABLE, SWAP, MARKER):
            raise InvalidArgument(f"{self.arch}: {KIND_NAMES[kind]} entry {entry:#x} carries no frame number")
        return self.swap(entry)[1] & ((1 << self._swap.pfn_bits) - 1)

    def _swap_flags(self, entry: int, kind: int) -> int:
        if kind == MARKER:
            return self._markers_decoded[entry]
        flags = self._swap_decoded[entry & self._swap_attributes]
        if kind == MIGRATION:
            extra = self.swap(entry)[1] >> self._swap.pfn_bits
            flags |= (YOUNG if extra & 1 else 0) | (DIRTY if extra & 2 else 0)
        return flags

    def _marker_decode(self, entry: int) -> int:
        flags = self._swap_decode(entry)
        return flags | UFFD_WP if self.swap(entry)[1] & MARKER_UFFD_WP else flags

    def _swap_decode(self, attributes: int) -> int:
        """The flags that type and software bits of a non-present entry say."""
        flags = _FLAG_OF_TYPE.get(self.swap(attributes)[0], 0)
        for flag, mask in self._swap_masks():
            if attributes & mask:
                flags |= flag
        return flags

    def swp_mkexclusive(self, entry: int) -> int:
        """Set EXCLUSIVE of a swap entry."""
        return entry | (self._swap.exclusive or self._lacks(EXCLUSIVE))

    def swp_clear_exclusive(self, entry: int) -> int:
        """Clear EXCLUSIVE of a swap entry."""
        return entry & ~(self._swap.exclusive or self._lacks(EXCLUSIVE))

    def swp_mksoft_dirty(self, entry: int) -> int:
        """Set soft-dirty of a non-present entry."""
        return entry | (self._swap.soft_dirty or self._lacks(SOFT_DIRTY))

    def swp_clear_soft_dirty(self, entry: int) -> int:
        """Clear soft-dirty of a non-present entry."""
        return entry & ~(self._swap.soft_dirty or self._lacks(SOFT_DIRTY))

    def swp_mkuffd_wp(self, entry: int) -> int:
        """Set uffd-wp of a non-present entry."""
        return entry | (self._swap.uffd_wp or self._lacks(UFFD_WP))

    def swp_clear_uffd_wp(self, entry: int) -> int:
        """Clear uffd-wp of a non-present entry."""
        return entry & ~(self._swap.uffd_wp or self._lacks(UFFD_WP))


def _type_of(kind: int, flags: int) -> int:
    """The swap type for a kind that carries a frame number."""
    if kind == MIGRATION:
        if flags & WRITE:
            return swaptypes.SWP_MIGRATION_WRITE
        return swaptypes.SWP_MIGRATION_READ_EXCLUSIVE if flags & EXCLUSIVE else swaptypes.SWP_MIGRATION_READ
    if kind == DEVICE:
        return swaptypes.SWP_DEVICE_WRITE if flags & WRITE else swaptypes.SWP_DEVICE_READ
    if kind == HWPOISON:
        return swaptypes.SWP_HWPOISON
    if kind == DEVICE_EXCLUSIVE:
        return swaptypes.SWP_DEVICE_EXCLUSIVE
    raise InvalidArgument(f"a {KIND_NAMES[kind]} entry carries no frame number")
