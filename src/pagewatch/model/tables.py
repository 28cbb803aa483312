"""Page tables: sparse arrays of raw entries, and the pages that they stand in.

Every access to an entry is announced; to free a table is a write to all its entries. Whole entries are the
unit: hardware updates the accessed and dirty bits by an atomic read-modify-write of the word, so two bits of
one entry never race apart.

What software calls an entry may be more than a word: see :mod:`~pagewatch.model.contpte`. Whoever needs the word
itself, as hardware and hugetlb do, has :meth:`Table.read_word` and its kin.

A page of tables has a descriptor of its own (``struct ptdesc``), apart from that of ordinary pages. Where
tables are smaller than pages (powerpc with 64K pages, s390), several of one layout share a page, and it
goes when the last of them does; so what is freed late keeps its neighbours' page, too.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import DIRTY, YOUNG, EntryFormat, PageTableFormat
from pagewatch.model.errors import UseAfterFree
from pagewatch.model.locks import Lock
from pagewatch.model.memory import Memory
from pagewatch.steps import READ, RMW, WRITE, Whole, access
from pagewatch.vocab.errors import InvalidArgument

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm


class TablePage:
    """The descriptor of a page that holds tables."""

    __slots__ = ("n_used", "pfn")

    def __init__(self, pfn: int) -> None:
        """:param pfn: its frame."""
        self.pfn = pfn
        self.n_used = 0
        """Tables in it that are not freed yet (``pt_frag_refcount``)."""


class Table:
    """One page table."""

    __slots__ = ("address", "entries", "fmt", "freed", "lock", "page", "sharers")

    def __init__(self, page: TablePage, address: int, fmt: EntryFormat) -> None:
        """:param address: physical, bytes; it lies in ``page``. :param fmt: the layout of its entries."""
        self.page = page
        self.address = address
        self.fmt = fmt
        self.entries: dict[int, int] = {}
        """Index -> raw entry; empty entries are absent."""
        self.sharers = 1
        """Address spaces that use it (hugetlb PMD sharing: ``pt_share_count`` + 1)."""
        self.freed = False
        self.lock = Lock(("ptl", address), "page table lock")

    def place(self, mm: "Mm", start: int) -> None:
        """Learn which addresses it translates, from ``start`` (bytes) on; before anybody can find it there."""

    def fill(self, entries: dict[int, int]) -> None:
        """Set all entries while nobody can find the table yet, so they are not announced one by one (``set_ptes``)."""
        self.entries = entries

    def read(self, index: int, label: str) -> int:
        """One atomic read of an entry (``ptep_get``)."""
        access((self.address, index), READ, label)
        if self.freed:
            raise UseAfterFree(f"{label}: the page table at {self.address:#x} was freed")
        return self.entries.get(index, 0)

    def write(self, index: int, entry: int, label: str) -> None:
        """Set an entry that nobody else changes (``set_pte_at``)."""
        access((self.address, index), WRITE, label)
        self._put(index, entry, label)

    def exchange(self, index: int, entry: int, label: str) -> int:
        """Set an entry and return the old one, in one step (``ptep_get_and_clear`` and its kin)."""
        access((self.address, index), RMW, label)
        old = self.entries.get(index, 0)
        self._put(index, entry, label)
        return old

    def take_out(self, index: int, label: str) -> int:
        """Take a leaf from the hardware, to change it and write it back; returns it as it was.

        A huge leaf is made invalid, not empty (``pmdp_invalidate``): who walks without a lock must not
        take it for a hole.
        """
        access((self.address, index), RMW, label)
        entry = self.entries.get(index, 0)
        self._put(index, self.fmt.mkinvalid(entry) if self.fmt.level else 0, label)
        return entry

    def forget(self, index: int, flags: int, who: str) -> None:
        """Clear YOUNG, DIRTY, or both, of a leaf, under the table's lock; hardware may set them meanwhile."""
        entry = self.take_out(index, f"{who}: take out")
        self.write(index, forgotten(self.fmt, entry, flags), f"{who}: put back")

    read_word, write_word, exchange_word = read, write, exchange
    """The same of the very word that stands in the table (``__ptep_get`` and kin)."""

    def compare_exchange(self, index: int, expected: int, entry: int, label: str) -> bool:
        """Set a word if it is still the expected one; hardware updates its bits so."""
        access((self.address, index), RMW, label)
        if self.entries.get(index, 0) != expected:
            return False
        self._put(index, entry, label)
        return True

    def _put(self, index: int, entry: int, label: str) -> None:
        if self.freed:
            raise UseAfterFree(f"{label}: the page table at {self.address:#x} was freed")
        if entry:
            self.entries[index] = entry
        else:
            self.entries.pop(index, None)

    def __repr__(self) -> str:
        return f"<{self.fmt.name} table at {self.address:#x}, {len(self.entries)} entries>"


def forgotten(fmt: EntryFormat, entry: int, flags: int) -> int:
    """The leaf without YOUNG, DIRTY, or both."""
    entry = fmt.mkclean(entry) if flags & DIRTY else entry
    return fmt.mkold(entry) if flags & YOUNG else entry


class Tables:
    """All page tables of a machine, by physical address."""

    __slots__ = ("_by_address", "_free", "_make_lowest", "_memory", "fmt", "page_shift", "pages")

    def __init__(
        self, fmt: PageTableFormat, memory: Memory, make_lowest: Callable[[TablePage, int, EntryFormat], Table] = Table
    ) -> None:
        """:param fmt: the format of every address space of the machine. :param make_lowest: makes PTE tables."""
        self.fmt = fmt
        self.page_shift = fmt.at[0].page_shift
        self.pages: dict[int, TablePage] = {}
        """Pages that hold tables, by frame."""
        self._memory = memory
        self._make_lowest = make_lowest
        self._by_address: dict[int, Table] = {}
        self._free: dict[int, list[int]] = {}
        """Layout -> addresses in the page begun last."""

    def alloc(self, fmt: EntryFormat) -> Table:
        """An empty table of that layout, in a page begun already if there is room (``pte_fragment_alloc``)."""
        free = self._free.setdefault(id(fmt), [])
        if not free:
            pfn = self._memory.alloc_frame()
            self.pages[pfn] = TablePage(pfn)
            first, step = pfn << self.page_shift, fmt.entry_bytes << fmt.index_bits
            free += [first + at * step for at in reversed(range(self._tables_per_page(fmt, step)))]
        address = free.pop()
        page = self.pages[address >> self.page_shift]
        page.n_used += 1
        make = self._make_lowest if fmt is self.fmt.at[0] else Table
        table = self._by_address[address] = make(page, address, fmt)
        return table

    def _tables_per_page(self, fmt: EntryFormat, n_bytes: int) -> int:
        """How many tables of a layout fit into a page so that a directory entry can point to each."""
        ordinary = any(fmt is level for level in self.fmt.at[:-1])
        if n_bytes >= self.fmt.page_bytes or not ordinary:
            return 1
        try:
            self.fmt.at[fmt.level + 1].table(n_bytes)
        except InvalidArgument:  # tables have to be more aligned than that
            return 1
        return self.fmt.page_bytes // n_bytes

    def below(self, table: Table, entry: int) -> Table:
        """The table that a directory entry points to.

        :raises UseAfterFree: it was freed.
        """
        child = self._by_address.get(table.fmt.table_address(entry))
        if child is None:
            raise UseAfterFree(f"the {table.fmt.name} entry {entry:#x} points to a page table that was freed")
        return child

    def free(self, table: Table) -> None:
        """Give a table back, and its page with the last in it; every later access is a use after free."""
        access(Whole((table.address,)), WRITE, "tables: free")
        table.freed = True
        del self._by_address[table.address]
        page = table.page
        page.n_used -= 1
        if not page.n_used:
            del self.pages[page.pfn]
            for free in self._free.values():
                free[:] = [at for at in free if at >> self.page_shift != page.pfn]

    def __iter__(self) -> Iterator[Table]:
        return iter(tuple(self._by_address.values()))

    def __len__(self) -> int:
        return len(self._by_address)
