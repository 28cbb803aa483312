"""Page tables in a dictionary, and the walk that hardware would do over them, for any format."""

from pagewatch.model.arch.blocks import Slot, directories, expand
from pagewatch.model.arch.format import LEAF, TABLE, EntryFormat, PageTableFormat


class PageTables:
    """Physical memory that holds nothing but page tables."""

    def __init__(self, fmt: PageTableFormat) -> None:
        self.fmt = fmt
        self.words: dict[tuple[int, int], int] = {}
        self._free = iter(range(1 << 16, 1 << 29, 1 << 16))
        self.root = next(self._free)

    def map(self, address: int, pfn: int, size_bytes: int, flags: int) -> list[Slot]:
        """Map a page with all that it needs; the leaf entries written."""
        shape = self.fmt.shape(size_bytes)
        tables = [next(self._free) for _ in range(shape.n_tables)]
        for slot in directories(self.fmt, address, size_bytes, tables):
            self._write(slot)
        leaves = expand(self.fmt, address, pfn, size_bytes, flags)
        for slot in leaves:
            self._write(slot)
        return leaves

    def _write(self, slot: Slot) -> None:
        table, entries = self.root, self.fmt.root
        while entries is not slot.format:
            place = table, entries.index(slot.address)
            if place not in self.words:
                self.words[place] = entries.table(next(self._free))
            table, entries = entries.table_address(self.words[place]), entries.below(self.words[place])
        self.words[table, entries.index(slot.address)] = slot.entry

    def walk(self, address: int) -> tuple[EntryFormat, int]:
        """The last entry on the way to an address, and its format."""
        table, entries = self.root, self.fmt.root
        while True:
            entry = self.words.get((table, entries.index(address)), entries.empty)
            if entries.kind(entry) != TABLE:
                return entries, entry
            table, entries = entries.table_address(entry), entries.below(entry)

    def translate(self, address: int) -> tuple[int, int] | None:
        """Frame and page size in bytes of an address; None where nothing is mapped."""
        entries, entry = self.walk(address)
        if entries.kind(entry) != LEAF:
            return None
        n_bytes = entries.leaf_bytes(entry)
        return entries.pfn(entry) + ((address & n_bytes - 1) >> entries.page_shift), n_bytes
