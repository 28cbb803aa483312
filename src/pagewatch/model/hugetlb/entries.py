"""The entries of one huge page, read and written as one (``huge_ptep_get``, ``set_huge_pte_at`` and kin).

The value of a huge page is an entry of its table format, the one that maps its first frame. Where a page
takes several entries, hardware may set accessed and dirty in any of them: reading gives both if any has
them, and writing advances the frame from entry to entry. Entries that are not present are all alike.
"""

from typing import TYPE_CHECKING

from pagewatch.model.arch.blocks import addresses
from pagewatch.model.arch.format import DIRTY, LEAF, TABLE, YOUNG, EntryFormat
from pagewatch.model.locks import Lock
from pagewatch.model.tables import Table

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm

_COLLECTED = YOUNG | DIRTY


class HugePage:
    """Where the entries of one huge page stand; found by :func:`find` and made by ``tables.make``."""

    __slots__ = ("n_bytes", "slots", "start")

    def __init__(self, start: int, n_bytes: int, slots: list[tuple[Table, int]]) -> None:
        """:param start: first virtual address. :param slots: (table, index) of every entry, ascending."""
        self.start = start
        self.n_bytes = n_bytes
        self.slots = slots

    @property
    def table(self) -> Table:
        """The table of the first entry."""
        return self.slots[0][0]

    @property
    def fmt(self) -> EntryFormat:
        """The layout of the entries."""
        return self.table.fmt

    @property
    def lock(self) -> Lock:
        """The lock over all of the page's entries (``huge_pte_lock``)."""
        return self.table.lock

    def read(self, label: str) -> int:
        """The page's value; accessed and dirty if any of its entries is."""
        table, index = self.slots[0]
        entry = table.read_word(index, label)
        if len(self.slots) == 1 or self.fmt.kind(entry) != LEAF:
            return entry
        return self._joined([entry, *(table.read_word(index, label) for table, index in self.slots[1:])])

    def write(self, entry: int, label: str) -> None:
        """Set every entry of the page to what its value says."""
        for (table, index), part in zip(self.slots, self._parts(entry), strict=True):
            table.write_word(index, part, label)

    def take(self, label: str) -> int:
        """Clear every entry and return the value they had, so that no dirty bit is lost."""
        return self._joined([table.exchange_word(index, 0, label) for table, index in self.slots])

    def _joined(self, parts: list[int]) -> int:
        first, fmt = parts[0], self.fmt
        if len(parts) == 1 or fmt.kind(first) != LEAF:
            return first
        flags = fmt.flags(first)
        for part in parts[1:]:
            flags |= fmt.flags(part) & _COLLECTED
        return fmt.leaf(fmt.pfn(first), flags, self.n_bytes)

    def _parts(self, entry: int) -> list[int]:
        fmt, n_parts = self.fmt, len(self.slots)
        if n_parts == 1 or fmt.kind(entry) != LEAF:
            return [entry] * n_parts
        pfn, flags = fmt.pfn(entry), fmt.flags(entry)
        step_pages = self.n_bytes // n_parts >> fmt.page_shift
        return [fmt.leaf(pfn + i * step_pages, flags, self.n_bytes) for i in range(n_parts)]

    def __repr__(self) -> str:
        return f"<HugePage {self.start:#x}, {len(self.slots)} {self.fmt.name} entries>"


def find(mm: "Mm", address: int, n_bytes: int, label: str) -> HugePage | None:
    """The entries of the huge page of ``n_bytes`` at an address; None where tables are missing.

    Takes no lock: the caller holds the vma lock, or reads under RCU (``hugetlb_walk``).
    """
    shape = mm.machine.fmt.shape(n_bytes)
    start = address & -n_bytes
    table = table_at(mm, start, shape.level, label)
    if table is None:
        return None
    if not shape.n_tables:
        return HugePage(start, n_bytes, [(table, table.fmt.index(at)) for at in addresses(table.fmt, start, n_bytes)])
    entries = table.fmt.directories[n_bytes]
    slots: list[tuple[Table, int]] = []
    below: dict[int, Table] = {}
    for at in addresses(entries, start, n_bytes):
        slot = table.fmt.index(at)
        if slot not in below:
            entry = table.read(slot, label)
            if table.fmt.kind(entry) != TABLE:
                return None
            below[slot] = mm.machine.tables.below(table, entry)
        slots.append((below[slot], entries.index(at)))
    return HugePage(start, n_bytes, slots)


def table_at(mm: "Mm", address: int, level: int, label: str) -> Table | None:
    """The ordinary table of a level on the way to an address; None where it is missing."""
    table = mm.root
    while table.fmt.level > level:
        entry = table.read(table.fmt.index(address), label)
        if table.fmt.kind(entry) != TABLE:
            return None
        table = mm.machine.tables.below(table, entry)
    return table
