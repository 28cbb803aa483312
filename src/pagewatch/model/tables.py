"""Page tables: sparse arrays of raw entries, each with a descriptor of its own (``struct ptdesc``).

Every access to an entry is announced. Whole entries are the unit: hardware updates the accessed and dirty
bits by an atomic read-modify-write of the word, so two bits of one entry never race apart.
"""

from pagewatch.model.arch.format import EntryFormat, PageTableFormat
from pagewatch.model.errors import UseAfterFree
from pagewatch.model.locks import Lock
from pagewatch.model.memory import Memory
from pagewatch.steps import READ, RMW, WRITE, access


class Table:
    """One page table and its descriptor."""

    __slots__ = ("entries", "fmt", "freed", "lock", "pfn", "sharers")

    def __init__(self, pfn: int, fmt: EntryFormat) -> None:
        """:param pfn: the frame it stands in. :param fmt: the layout of its entries."""
        self.pfn = pfn
        self.fmt = fmt
        self.entries: dict[int, int] = {}
        """Index -> raw entry; empty entries are absent."""
        self.sharers = 1
        """Address spaces that use it (hugetlb PMD sharing: ``pt_share_count`` + 1)."""
        self.freed = False
        self.lock = Lock(("ptl", pfn), "page table lock")

    def read(self, index: int, label: str) -> int:
        """One atomic read of an entry (``ptep_get``)."""
        access((self.pfn, index), READ, label)
        if self.freed:
            raise UseAfterFree(f"{label}: the page table in frame {self.pfn:#x} was freed")
        return self.entries.get(index, 0)

    def write(self, index: int, entry: int, label: str) -> None:
        """Set an entry that nobody else changes (``set_pte_at``)."""
        access((self.pfn, index), WRITE, label)
        self._put(index, entry, label)

    def exchange(self, index: int, entry: int, label: str) -> int:
        """Set an entry and return the old one, in one step (``ptep_get_and_clear`` and its kin)."""
        access((self.pfn, index), RMW, label)
        old = self.entries.get(index, 0)
        self._put(index, entry, label)
        return old

    def take_out(self, index: int, label: str) -> int:
        """Take a leaf from the hardware, to change it and write it back; returns it as it was.

        A huge leaf is made invalid, not empty (``pmdp_invalidate``): who walks without a lock must not
        take it for a hole.
        """
        access((self.pfn, index), RMW, label)
        entry = self.entries.get(index, 0)
        self._put(index, self.fmt.mkinvalid(entry) if self.fmt.level else 0, label)
        return entry

    def compare_exchange(self, index: int, expected: int, entry: int, label: str) -> bool:
        """Set an entry if it is still the expected one; hardware updates its bits so."""
        access((self.pfn, index), RMW, label)
        if self.entries.get(index, 0) != expected:
            return False
        self._put(index, entry, label)
        return True

    def _put(self, index: int, entry: int, label: str) -> None:
        if self.freed:
            raise UseAfterFree(f"{label}: the page table in frame {self.pfn:#x} was freed")
        if entry:
            self.entries[index] = entry
        else:
            self.entries.pop(index, None)

    def __repr__(self) -> str:
        return f"<{self.fmt.name} table in frame {self.pfn:#x}, {len(self.entries)} entries>"


class Tables:
    """All page tables of a machine, by frame."""

    __slots__ = ("_by_pfn", "_memory", "fmt", "page_shift")

    def __init__(self, fmt: PageTableFormat, memory: Memory) -> None:
        """:param fmt: the format of every address space of the machine."""
        self.fmt = fmt
        self.page_shift = fmt.at[0].page_shift
        self._memory = memory
        self._by_pfn: dict[int, Table] = {}

    def alloc(self, fmt: EntryFormat) -> Table:
        """An empty table of that layout."""
        pfn = self._memory.alloc_frame()
        table = self._by_pfn[pfn] = Table(pfn, fmt)
        return table

    def below(self, table: Table, entry: int) -> Table:
        """The table that a directory entry points to.

        :raises UseAfterFree: it was freed.
        """
        child = self._by_pfn.get(table.fmt.table_address(entry) >> self.page_shift)
        if child is None:
            raise UseAfterFree(f"the {table.fmt.name} entry {entry:#x} points to a page table that was freed")
        return child

    def address(self, table: Table) -> int:
        """Physical address of a table, bytes: what a directory entry holds."""
        return table.pfn << self.page_shift

    def free(self, table: Table) -> None:
        """Give the frame back; every later access to the table is a use after free."""
        table.freed = True
        del self._by_pfn[table.pfn]

    def __len__(self) -> int:
        return len(self._by_pfn)
