"""Write-protecting and cleaning every mapping of a file range (mm/mapping_dirty_helpers.c).

Two helpers for drivers that follow stores to memory they share with processes. Both walk all areas that
map a range of a file; private, read-only and hugetlb areas are skipped, and so are leaves above the PTE
level: splitting one of a file would lose its dirty bit.

* :func:`wp_shared_mapping_range` makes entries read-only: the next store faults, and the file's
  ``mkwrite`` hook is told. Dirty bits stay.
* :func:`clean_record_shared_mapping_range` clears dirty bits and records them in a bitmap.

What the second one guarantees: a page that was dirty when it was called is recorded; one dirtied later
is still dirty, or recorded, or both; nothing is cleaned without being recorded. To get *all* writers: make
it read-only, keep new writers waiting in the hook, and then clean and record.

Entries change under their table's lock, the flush comes after it, once for each area. In between a CPU
may store through a translation it remembers as dirty, and the entry stays clean. That store is not lost:
the page is in the bitmap already, and its content is read only after the helper returned. But a *second*
caller finds the entry clean, and may return before the first has flushed. So whoever sees another flush
pending flushes all of its range, too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pagewatch.model.arch.format import DIRTY, LEAF, WRITE, EntryFormat
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.tlb import flush_range
from pagewatch.model.vma import VM_HUGETLB, VM_MAYWRITE, VM_SHARED
from pagewatch.model.walk import Span, locked_spans
from pagewatch.steps import READ, RMW, access
from pagewatch.vocab.errors import InvalidArgument

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table
    from pagewatch.model.vma import Vma


class Bits(Protocol):
    """What can record pages by number: :class:`Bitmap`, or a list, a bytearray, an array, one item a page."""

    def __setitem__(self, index: int, value: bool, /) -> None:
        """Record a page."""
        ...


class Bitmap:
    """Bits that several threads set and clear; each access to a word of 64 is announced."""

    __slots__ = ("_key", "_n_bits", "_words")

    def __init__(self, n_bits: int, *, number: int = 0) -> None:
        """:param number: tells it from other bitmaps that the same threads use."""
        self._words = [0] * (n_bits + 63 >> 6)
        self._n_bits = n_bits
        self._key = ("bitmap", number)

    def __len__(self) -> int:
        return self._n_bits

    def __getitem__(self, index: int) -> bool:
        word = self._word(index, "bitmap: test")
        return bool(self._words[word] >> (index & 63) & 1)

    def __setitem__(self, index: int, value: bool, /) -> None:
        word = self._word(index, "bitmap: set" if value else "bitmap: clear")
        bit = 1 << (index & 63)
        self._words[word] = self._words[word] | bit if value else self._words[word] & ~bit

    def __iter__(self) -> Iterator[bool]:
        return (self[index] for index in range(self._n_bits))

    def indexes(self) -> list[int]:
        """Numbers of the bits that are set, ascending."""
        return [index for index, value in enumerate(self) if value]

    def _word(self, index: int, label: str) -> int:
        if not 0 <= index < self._n_bits:
            raise IndexError(f"bit {index} of a bitmap of {self._n_bits}")
        access((*self._key, index >> 6), RMW, label)
        return index >> 6


def wp_shared_mapping_range(mapping: "FileMapping", first: int, count: int) -> int:
    """Make the entries of ``count`` pages of a file from page ``first`` on read-only in every shared mapping.

    :returns: how many entries were writable before.
    """
    quirks = mapping.machine.quirks

    def protect(table: "Table", index: int, _: int) -> bool:
        entry = table.read(index, "wp: look")
        if table.fmt.kind(entry) != LEAF or not table.fmt.flags(entry) & WRITE:
            return False
        if not quirks.dirty_helpers_update_in_two_steps:
            # Hardware may set dirty meanwhile: take the entry out, change it, put it back.
            entry = table.exchange(index, 0, "wp: take out")
        table.write(index, table.fmt.wrprotect(entry), "wp: put back read-only")
        return True

    return _change_mappings(mapping, first, count, protect)


def clean_record_shared_mapping_range(  # noqa: PLR0917 - the kernel's own parameters, in its order
    mapping: "FileMapping", first: int, count: int, bitmap_offset: int, bitmap: Bits, start: int, end: int
) -> tuple[int, int, int]:
    """Clear the dirty bits of ``count`` pages of a file from page ``first`` on, and record where they were.

    :param bitmap_offset: the page of the file that bit 0 stands for; bits are only ever added.
    :param start: with ``end`` the bounds of what is recorded already, in bits, ``end`` exclusive; they
        grow to hold what is added. ``start >= end`` stands for none.
    :returns: (entries cleaned, start, end). A page dirty in two mappings counts twice. Bounds that were
        empty begin at (count, 0) and come back so where nothing was dirty; where ``first`` is not
        ``bitmap_offset``, ``start`` may thus lie below the first bit added.
    :raises InvalidArgument: the range begins before the bitmap.
    """
    if first < bitmap_offset:
        raise InvalidArgument(f"page {first} lies before the bitmap, which begins at page {bitmap_offset}")
    if start >= end:
        start, end = count, 0

    def clean(table: "Table", index: int, page: int) -> bool:
        nonlocal start, end
        entry = table.read(index, "clean: look")
        if table.fmt.kind(entry) != LEAF or not table.fmt.flags(entry) & DIRTY:
            return False
        entry = table.exchange(index, 0, "clean: take out")
        table.write(index, table.fmt.mkclean(entry), "clean: put back clean")
        bit = page - bitmap_offset
        bitmap[bit] = True
        start, end = min(start, bit), max(end, bit + 1)
        return True

    return _change_mappings(mapping, first, count, clean), start, end


_Change = Callable[["Table", int, int], bool]
"""Changes one entry, given its table, its index and its page of the file; says whether there was need to."""


def _change_mappings(mapping: "FileMapping", first: int, count: int, change: _Change) -> int:
    """Apply a change to every area that maps a range of a file (``walk_page_mapping``)."""
    shift = mapping.machine.page_shift
    total = 0
    with mapping.i_mmap_lock.shared:
        for mm, vma in tuple(mapping.areas):
            start = max(vma.start, vma.address_of(first, shift))
            end = min(vma.end, vma.address_of(first + count, shift))
            if start < end and vma.flags & (VM_SHARED | VM_MAYWRITE | VM_HUGETLB) == VM_SHARED | VM_MAYWRITE:
                total += _change_area(mm, vma, start, end, change)
    return total


def _change_area(mm: "Mm", vma: "Vma", start: int, end: int, change: _Change) -> int:
    shift = mm.machine.page_shift
    changed: list[int] = []
    with invalidating(mm, Event.PROTECTION_PAGE, start, end), _flush_pending(mm):
        for span in locked_spans(mm, start, end, "dirty helper: walk"):
            if span.spot.level:
                _warn_about_leaf(mm, span)
                continue
            address = span.start
            for index in span.indexes:
                if change(span.spot.table, index, vma.index_of(address, shift)):
                    changed.append(address)
                address += 1 << shift
        _flush_changed(mm, changed, start, end)
    return len(changed)


def _flush_changed(mm: "Mm", changed: list[int], start: int, end: int) -> None:
    """From the lowest to the highest changed page; all of it if somebody else's flush is pending."""
    quirks = mm.machine.quirks
    if quirks.dirty_helpers_skip_flush:
        return
    access(("pending flushes", mm.id), READ, "dirty helper: another flush pending?")
    if mm.pending_flushes > 1 and not quirks.dirty_helpers_ignore_nested_flush:
        flush_range(mm, start, end)
    elif changed:
        flush_range(mm, changed[0], changed[-1] + mm.machine.page_bytes)


@contextmanager
def _flush_pending(mm: "Mm") -> Iterator[None]:
    """Raise the pending-flush counter (``inc_tlb_flush_pending``)."""
    access(("pending flushes", mm.id), RMW, "dirty helper: flush pending")
    mm.pending_flushes += 1
    try:
        yield
    finally:
        access(("pending flushes", mm.id), RMW, "dirty helper: flushed")
        mm.pending_flushes -= 1


def _warn_about_leaf(mm: "Mm", span: Span) -> None:
    """The kernel warns where it leaves out a leaf that matters (``wp_clean_pmd_entry``)."""
    fmt: EntryFormat = span.spot.fmt
    if span.spot.kind == LEAF and fmt.flags(span.spot.entry) & (WRITE | DIRTY):
        mm.machine.log.append(f"dirty helpers leave out a writable or dirty {fmt.name} leaf at {span.start:#x}")
