"""PTE tables that fold: blocks of entries of one large folio become one contiguous leaf, and come apart again.

What arm64 does for ordinary memory since 6.9 (arch/arm64/mm/contpte.c), below all who work with entries: software
reads and writes single entries, as everywhere; the words in the table, and hardware, know blocks.

* When the last entry of an aligned block is written, and one folio covers it with entries that are alike but for
  young and dirty, the block is folded. A table that is filled before it can be found is folded at once.
* Who changes one entry unfolds its block first. Both ways every word is cleared, young and dirty are collected
  from all, the range is flushed, and only then the block is written in its new form. Until then accesses fault,
  and wait for the table's lock. Without the flush a CPU that remembers the block marks an entry for a
  store to any page of it; where entries are single again, that is the dirty bit of another page.
* A read is young and dirty if any entry of the block is, since hardware marks any one. So dirt has the size
  of a block; write-protection by userfaultfd has not, because to protect a part unfolds.
* Young and dirty are cleared of a block as a whole, and for that it need not be unfolded.
* Readers without the table's lock may meet a block on its way: they read until all of it fits together.

hugetlb has blocks of its own in such tables and works on their words.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pagewatch.model.arch.contpte import can_fold, fold, is_block, part_of, unfold
from pagewatch.model.arch.format import LEAF, EntryFormat
from pagewatch.model.tables import Table, TablePage, forgotten
from pagewatch.model.tlb import broadcast_flush
from pagewatch.steps import WAIT, Whole, wait

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm


class FoldingTable(Table):
    """A PTE table whose entries are single to software, and folded where they can be."""

    __slots__ = ("_block_bytes", "_mm", "_n_entries", "_start")

    def __init__(self, page: TablePage, address: int, fmt: EntryFormat) -> None:
        """:param fmt: of a level that has contiguous leaves."""
        super().__init__(page, address, fmt)
        self._block_bytes = fmt.leaf_sizes[-1]
        self._n_entries = self._block_bytes >> fmt.shift
        self._mm: Mm | None = None
        self._start = 0

    def place(self, mm: "Mm", start: int) -> None:
        """Learn which addresses it translates; only then it folds."""
        self._mm, self._start = mm, start

    def fill(self, entries: dict[int, int]) -> None:
        """Set all entries while nobody can find the table yet, in blocks where they can be."""
        super().fill(entries)
        for first in range(0, 1 << self.fmt.index_bits, self._n_entries):
            block = [entries.get(at, 0) for at in self._block(first)]
            if self._may_fold(block):
                self.entries.update(zip(self._block(first), fold(self.fmt, block, self._block_bytes), strict=True))

    def read(self, index: int, label: str) -> int:
        """The entry as a single one, young and dirty if any of its block is (``ptep_get_lockless``)."""
        while True:
            entry = self.read_word(index, label)
            if not self._folded(entry):
                return entry
            block = [self.read_word(at, "contpte: gather") for at in self._block(index)]
            if is_block(self.fmt, block):
                return part_of(self.fmt, block, index % self._n_entries)
            # It is being converted, so this very word changes, too, or has changed already.
            changed = partial(self._settled, index, entry)
            wait(Whole((self.address,)), WAIT, "contpte: wait for a whole block", changed)

    def write(self, index: int, entry: int, label: str) -> None:
        """Set an entry, its block unfolded before, and folded afterwards if it is complete (``set_ptes``)."""
        self._unfold(index)
        self.write_word(index, entry, label)
        if self.fmt.kind(entry) == LEAF and (index + 1) % self._n_entries == 0:
            block = [self.read_word(at, "contpte: compare") for at in self._block(index)]
            if self._may_fold(block):
                self._convert(index, partial(fold, size_bytes=self._block_bytes))

    def exchange(self, index: int, entry: int, label: str) -> int:
        """Set an entry and return the old one, its block unfolded before."""
        self._unfold(index)
        return self.exchange_word(index, entry, label)

    def take_out(self, index: int, label: str) -> int:
        """Take a leaf from the hardware, its block unfolded before."""
        self._unfold(index)
        return super().take_out(index, label)

    def forget(self, index: int, flags: int, who: str) -> None:
        """Clear YOUNG, DIRTY, or both, of the whole block, which stays one (``clear_young_dirty_ptes``)."""
        if not self._folded(self.read_word(index, "contpte: look")):
            super().forget(index, flags, who)
            return
        for at in self._block(index):
            while True:
                entry = self.read_word(at, f"{who}: read")
                if self.compare_exchange(at, entry, forgotten(self.fmt, entry, flags), f"{who}: clear"):
                    break

    def _block(self, index: int) -> range:
        first = index & -self._n_entries
        return range(first, first + self._n_entries)

    def _folded(self, entry: int) -> bool:
        return self.fmt.leaf_bytes(entry) == self._block_bytes and self.fmt.kind(entry) == LEAF

    def _settled(self, index: int, entry: int) -> bool:
        get = self.entries.get
        return get(index, 0) != entry or is_block(self.fmt, [get(at, 0) for at in self._block(index)])

    def _may_fold(self, block: Sequence[int]) -> bool:
        """Whether the entries of an aligned block are alike, and one folio covers them."""
        if self._mm is None or not can_fold(self.fmt, 0, block, self._block_bytes):
            return False
        folio = self._mm.machine.memory.find(self.fmt.pfn(block[0]))
        return folio is not None and folio.n_pages >= self._n_entries

    def _unfold(self, index: int) -> None:
        if self._folded(self.read_word(index, "contpte: look")):
            self._convert(index, unfold)

    def _convert(self, index: int, change: Callable[[EntryFormat, Sequence[int]], list[int]]) -> None:
        """Write a block in its other form (``contpte_convert``); the caller holds the table's lock."""
        slots, mm = self._block(index), self._mm
        block = [self.exchange_word(at, 0, "contpte: clear") for at in slots]
        if mm is not None and not mm.machine.quirks.contpte_skips_flush:
            start = self._start + (slots.start << self.fmt.shift)
            # By hardware: who reads with interrupts off may be waiting for this very block.
            broadcast_flush(mm, start, start + self._block_bytes)
        for at, entry in zip(slots, change(self.fmt, block), strict=True):
            self.write_word(at, entry, "contpte: set")
