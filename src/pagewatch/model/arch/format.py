"""What a page-table format is: the vocabulary of entries, one Protocol per level, one value per format.

An entry is a plain int, the raw word that the hardware would read. What it means depends on the level
it stands at, so all knowledge of bits is in one :class:`EntryFormat` per level; a
:class:`PageTableFormat` is the tuple of its levels. Walkers, faults and scans are written against these
two and never count levels::

    entries = fmt.root
    while entries.kind(entry := read(table, entries.index(va))) == TABLE:
        table, entries = entries.table_address(entry), entries.below(entry)

Facts that this shape rests on:

* A leaf is present *and* maps memory at its level. Swap, migration, poison, device and marker entries
  are never leaves, whatever bits their payload happens to set: so ``kind`` decides presence first.
* A level that can hold a leaf can hold every non-present entry, too (hugetlb writes them at the PMD and
  PUD), and must give the frame number of both.
* The bits of a present entry and those of a swap entry are different bits: ``mkuffd_wp`` is for leaves,
  ``swp_mkuffd_wp`` for non-present entries, as in the kernel. ``flags`` reads either.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pagewatch.vocab.errors import InvalidArgument

NONE = 0
"""Kind: nothing here."""
TABLE = 1
"""Kind: a directory entry; ``below`` says what the lower table looks like (a hugepd is one, too)."""
LEAF = 2
"""Kind: present, and maps memory at this level."""
SWAP = 3
"""Kind: swapped out; ``swap`` gives type and offset."""
MIGRATION = 4
"""Kind: being migrated; carries a frame number, WRITE or EXCLUSIVE, and YOUNG and DIRTY where they fit."""
HWPOISON = 5
"""Kind: the memory failed; carries the frame number."""
DEVICE = 6
"""Kind: device-private memory; carries a frame number, and WRITE."""
DEVICE_EXCLUSIVE = 7
"""Kind: CPU memory that a device uses atomically; carries a frame number."""
MARKER = 8
"""Kind: a PTE marker; ``marker`` gives its payload. It stands for information, not for memory."""

CARRIES_FRAME = frozenset({MIGRATION, HWPOISON, DEVICE, DEVICE_EXCLUSIVE})
"""Kinds that are not present, but have a folio behind them (``is_pfn_swap_entry``)."""

KIND_NAMES: tuple[str, ...] = (
    "none",
    "table",
    "leaf",
    "swap",
    "migration",
    "hwpoison",
    "device-private",
    "device-exclusive",
    "marker",
)
"""The kinds in words, by number."""

WRITE = 0x001
"""Flag: stores are allowed (``pte_write``). On a migration or device entry: it was writable."""
YOUNG = 0x002
"""Flag: accessed since last cleared."""
DIRTY = 0x004
"""Flag: written since last cleared, be it recorded by hardware or by software."""
SOFT_DIRTY = 0x008
"""Flag: the software's second dirty bit, cleared by clear_refs."""
UFFD_WP = 0x010
"""Flag: write-protected by userfaultfd."""
EXCLUSIVE = 0x020
"""Flag, non-present entries only: the anonymous page was exclusive. (Present ones keep that in the folio.)"""
SPECIAL = 0x040
"""Flag: no ordinary page stands behind this frame number (the zero page, a raw PFN)."""
USER = 0x080
"""Flag: user mode may access."""
EXEC = 0x100
"""Flag: instructions may be fetched."""
PROTNONE = 0x200
"""Flag: present for software, no access for hardware (PROT_NONE, NUMA hinting)."""
INVALID = 0x400
"""Flag: present for software while being torn down (``pmd_mkinvalid``), no access for hardware."""

FLAG_NAMES: tuple[str, ...] = (
    "write",
    "young",
    "dirty",
    "soft-dirty",
    "uffd-wp",
    "exclusive",
    "special",
    "user",
    "exec",
    "protnone",
    "invalid",
)
"""The flags in words, by bit number; also the names of the features in ``PageTableFormat.features``."""

MARKER_UFFD_WP = 1
"""Marker payload: write-protected by userfaultfd and not populated."""
MARKER_POISON = 2
"""Marker payload: any access is answered like failed memory."""
MARKER_GUARD = 4
"""Marker payload: any access is a segmentation fault."""


def flag_names(flags: int) -> tuple[str, ...]:
    """The flags of the mask in words, lowest bit first."""
    return tuple(name for bit, name in enumerate(FLAG_NAMES) if flags >> bit & 1)


class EntryFormat(Protocol):
    """The entry layout of one level of one format.

    To add a format:

    1. ``model/arch/<name>.py``: one class per distinct entry layout, by :class:`~.entries.Entries` where
       its flags are bits; name the bits as the architecture's kernel header does, and cite that header.
    2. Give it every level from the PTE table up to the root, each with ``leaf_sizes`` (the leaves that
       stand at it, contiguous blocks included) and ``directories`` (leaves below a special directory).
    3. ``kind`` decides presence first; ``empty`` is NONE; no two kinds share an entry.
    4. Where there is a leaf at a level, ``pfn`` gives its frame there, and ``leaf`` and all the
       non-present encoders work there.
    5. ``wrprotect`` and ``mkclean`` follow the kernel's: dirtiness recorded by hardware survives the
       first and not the second.
    6. What the format lacks is missing from ``supported``; asking for it raises FeatureMissing.
    7. One row in ``ARCHES``. Nothing else: the tests under tests/unit/model/arch run every row.

    All methods are pure. Frame numbers count pages of the format's smallest size; addresses and sizes
    are bytes. Applying a transform for leaves to anything else is undefined, as in the kernel.
    """

    name: str
    """The kernel's name of the level: "PTE", "PMD", ..."""
    level: int
    """0 for the PTE table, rising towards the root."""
    page_shift: int
    """log2 of the smallest page, in bytes."""
    shift: int
    """log2 of the bytes that one entry spans."""
    index_bits: int
    """log2 of the number of entries of a table."""
    entry_bytes: int
    """Size of one entry."""
    leaf_sizes: tuple[int, ...]
    """Bytes of the leaves that stand in this table, ascending; above ``1 << shift`` a block of entries."""
    empty: int
    """What an empty entry looks like: 0, but not on s390 (where 0 is read as empty, too)."""
    directories: Mapping[int, "EntryFormat"]
    """Leaf sizes in bytes for which an entry of this table can be a special directory (a hugepd, 8M on
    8xx), with the format of the table below it."""
    supported: int
    """The flags that a leaf or a non-present entry can carry here."""

    def index(self, address: int) -> int:
        """Which entry of a table covers the virtual address."""
        ...

    def kind(self, entry: int) -> int:
        """NONE, TABLE, LEAF, or one of the non-present kinds."""
        ...

    def flags(self, entry: int) -> int:
        """All flags of a leaf or of a non-present entry, as one mask; 0 for NONE and TABLE.

        UFFD_WP of a marker is that of the entry or of its payload.
        """
        ...

    def pfn(self, entry: int) -> int:
        """First frame that a leaf maps, or the frame that a migration, hwpoison or device entry carries.

        Of a contiguous block this is the first frame of the block, in whichever entry it is read: so
        ``pfn(entry) + ((address & leaf_bytes(entry) - 1) >> page_shift)`` is the frame of an address.

        :raises InvalidArgument: the entry carries no frame number.
        """
        ...

    def leaf_bytes(self, entry: int) -> int:
        """Bytes mapped by the leaf together with the rest of its contiguous block."""
        ...

    def table_address(self, entry: int) -> int:
        """Physical address of the lower table, bytes."""
        ...

    def below(self, entry: int) -> "EntryFormat":
        """The format of the table that a TABLE entry points to.

        :raises InvalidArgument: there is nothing below the PTE table.
        """
        ...

    def swap(self, entry: int) -> tuple[int, int]:
        """Raw type and offset of any non-present entry (``__swp_type``, ``__swp_offset``)."""
        ...

    def marker(self, entry: int) -> int:
        """Payload of a marker (MARKER_* bits); 0 for any other entry."""
        ...

    def leaf(self, pfn: int, flags: int, size_bytes: int = 0) -> int:
        """A leaf of this level.

        :param pfn: the frame of this entry; within a block it advances from entry to entry.
        :param size_bytes: one of ``leaf_sizes``; 0 for the span of one entry.
        :raises InvalidArgument: no leaf of that size here, or the frame is misaligned or out of range.
        :raises FeatureMissing: a flag that this format lacks.
        """
        ...

    def table(self, address: int, size_bytes: int = 0) -> int:
        """A directory entry for the table at that physical address (bytes).

        :param size_bytes: one of ``directories`` for a special directory; 0 for an ordinary one.
        """
        ...

    def swap_entry(self, type_: int, offset: int, flags: int = 0) -> int:
        """Swapped-out page: the swap file's number and the slot, with EXCLUSIVE, SOFT_DIRTY, UFFD_WP."""
        ...

    def pfn_entry(self, kind: int, pfn: int, flags: int = 0) -> int:
        """A non-present entry of kind MIGRATION, HWPOISON, DEVICE or DEVICE_EXCLUSIVE.

        ``flags`` may hold WRITE, EXCLUSIVE (a MIGRATION that reads only), YOUNG and DIRTY
        (MIGRATION), and SOFT_DIRTY and UFFD_WP.
        """
        ...

    def marker_entry(self, payload: int) -> int:
        """A marker with any of the MARKER_* bits."""
        ...

    def modify(self, entry: int, flags: int) -> int:
        """The leaf with its access rights (WRITE, USER, EXEC, PROTNONE) replaced by those in ``flags``."""
        ...

    def mkwrite(self, entry: int) -> int:
        """Allow stores."""
        ...

    def wrprotect(self, entry: int) -> int:
        """Forbid stores; dirtiness is kept."""
        ...

    def mkdirty(self, entry: int) -> int:
        """Record a write (also in soft-dirty, where the format has it)."""
        ...

    def mkclean(self, entry: int) -> int:
        """Forget writes; soft-dirty stays."""
        ...

    def mkyoung(self, entry: int) -> int:
        """Record an access."""
        ...

    def mkold(self, entry: int) -> int:
        """Forget accesses."""
        ...

    def mkspecial(self, entry: int) -> int:
        """Say that no ordinary page stands behind this frame."""
        ...

    def mkinvalid(self, entry: int) -> int:
        """Take the leaf from the hardware; it stays present, and a leaf, for software."""
        ...

    def mksoft_dirty(self, entry: int) -> int:
        """Set soft-dirty of a leaf."""
        ...

    def clear_soft_dirty(self, entry: int) -> int:
        """Clear soft-dirty of a leaf."""
        ...

    def mkuffd_wp(self, entry: int) -> int:
        """Set uffd-wp of a leaf, and write-protect it."""
        ...

    def clear_uffd_wp(self, entry: int) -> int:
        """Clear uffd-wp of a leaf; it stays write-protected."""
        ...

    def swp_mkexclusive(self, entry: int) -> int:
        """Set EXCLUSIVE of a swap entry."""
        ...

    def swp_clear_exclusive(self, entry: int) -> int:
        """Clear EXCLUSIVE of a swap entry."""
        ...

    def swp_mksoft_dirty(self, entry: int) -> int:
        """Set soft-dirty of a non-present entry."""
        ...

    def swp_clear_soft_dirty(self, entry: int) -> int:
        """Clear soft-dirty of a non-present entry."""
        ...

    def swp_mkuffd_wp(self, entry: int) -> int:
        """Set uffd-wp of a non-present entry (a marker's own bit is in its payload)."""
        ...

    def swp_clear_uffd_wp(self, entry: int) -> int:
        """Clear uffd-wp of a non-present entry."""
        ...

    def after_load(self, entry: int) -> int | None:
        """The leaf as the MMU leaves it after a user load through it; None when the load faults.

        A format whose hardware does not keep the accessed bit faults while it is clear.
        """
        ...

    def after_store(self, entry: int) -> int | None:
        """The leaf as the MMU leaves it after a user store through it; None when the store faults.

        A format whose hardware does not keep the dirty bit faults while it is clear.
        """
        ...

    def old_huge(self, entry: int) -> bool:
        """What ``pmd_huge``/``pud_huge`` said until Linux 6.10: "looks like hugetlb".

        Kept for the history: on x86 and arm64 it was also true for non-present entries, on formats
        with hugepd it was false where a leaf stood elsewhere. Nothing but tests and explanations uses it.
        """
        ...


@dataclass(frozen=True, slots=True)
class LeafShape:
    """How a leaf of one size is written."""

    level: int
    """The level of its entries, or with tables below those, of the special directory entries."""
    n_entries: int
    """How many entries of that level it takes."""
    n_tables: int
    """How many tables of its own stand below those entries: 0 for leaves of the level itself; 1 for a
    hugepd, however many directory entries share it."""


@dataclass(frozen=True, slots=True)
class PageTableFormat:
    """One format: its levels, and what follows from them."""

    name: str
    """Its key in ``ARCHES``."""
    at: tuple[EntryFormat, ...]
    """Levels, the PTE table first."""
    features: frozenset[str]
    """What it can express: flag names, and "hw-young", "hw-dirty", "contiguous", "hugepd"; "folding" where
    the kernel makes contiguous leaves of ordinary memory; and "hash" where software fills the hardware's
    table of translations from this one."""
    shapes: Mapping[int, LeafShape]
    """Every leaf size in bytes, ascending, and how it is written."""

    @property
    def page_bytes(self) -> int:
        """The smallest page."""
        return 1 << self.at[0].page_shift

    @property
    def root(self) -> EntryFormat:
        """The format of the topmost table."""
        return self.at[-1]

    @property
    def address_bits(self) -> int:
        """Bits of virtual address that the tables translate."""
        return self.root.shift + self.root.index_bits

    def shape(self, size_bytes: int) -> LeafShape:
        """How a leaf of that size is written.

        :raises InvalidArgument: the format has no such leaf; the error says which it has.
        """
        if size_bytes not in self.shapes:
            sizes = ", ".join(size_name(size) for size in self.shapes)
            raise InvalidArgument(f"{self.name} has no {size_name(size_bytes)} pages; it has {sizes}")
        return self.shapes[size_bytes]


def size_name(n_bytes: int) -> str:
    """A size as the kernel's file names spell it: 4K, 2M, 16G."""
    for shift, unit in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if n_bytes >= 1 << shift and n_bytes & ((1 << shift) - 1) == 0:
            return f"{n_bytes >> shift}{unit}"
    return str(n_bytes)
