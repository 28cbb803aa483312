"""The walker: the one way to the entries of an address space, whatever its levels and leaf sizes.

* :func:`seek` goes down to the entry that decides an address: a PTE, a leaf higher up, or an empty or
  non-present entry where nothing lies below.
* :func:`spans` cuts a range into pieces of one kind each: part of a PTE table, a single entry higher
  up, or a hole. It finds its way from the root again for every piece, so the caller may change what it
  was given. :func:`locked_spans` holds the lock of the table meanwhile, unless the piece is a hole.
* :func:`for_each_leaf` gives the leaves of any size.
* :func:`populate` makes the tables down to a level; :func:`populated` also takes the lock.

A table found without a lock may be gone when its lock is held. So walks run inside RCU, which keeps the
table readable, and :func:`locked` looks again at what led there, as ``pte_offset_map_lock`` does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from pagewatch.model.arch.format import LEAF, NONE, TABLE, EntryFormat
from pagewatch.model.tables import Table

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm


_NO_MAPPING = frozenset({NONE, TABLE})


class Spot(NamedTuple):
    """One entry, as it was when it was read, and the way to it."""

    table: Table
    slot: int
    entry: int
    parent: "Spot | None"
    """The directory entry that led to ``table``; None in the root."""

    @property
    def fmt(self) -> EntryFormat:
        """The layout of the entry."""
        return self.table.fmt

    @property
    def level(self) -> int:
        """0 in a PTE table."""
        return self.table.fmt.level

    @property
    def kind(self) -> int:
        """NONE, LEAF, or one of the non-present kinds; TABLE never, the walk went below it."""
        return self.table.fmt.kind(self.entry)


class Span(NamedTuple):
    """Part [start, end) of a range, in bytes, under one table or one entry."""

    start: int
    end: int
    spot: Spot
    """The entry of ``start``; at level 0 the span covers the following entries of the table, too."""

    @property
    def hole(self) -> bool:
        """Whether no table and no leaf stands here."""
        return self.spot.level > 0 and self.spot.entry == 0

    @property
    def partial(self) -> bool:
        """Whether an entry above the PTE level maps more than what lies in the range."""
        spot = self.spot
        return spot.level > 0 and spot.entry != 0 and self.end - self.start != 1 << spot.table.fmt.shift

    @property
    def indexes(self) -> range:
        """Indexes of the entries: of all that the span covers in a PTE table, of the one above it."""
        fmt = self.spot.table.fmt
        first = self.spot.slot
        return range(first, first + (self.end - self.start >> fmt.shift if fmt.level == 0 else 1))


class Leaf(NamedTuple):
    """Memory mapped by one leaf, or by one entry of a contiguous block."""

    start: int
    end: int
    spot: Spot

    @property
    def pfn(self) -> int:
        """The frame of ``start``."""
        return frame_of(self.spot.fmt, self.spot.entry, self.start)


def frame_of(fmt: EntryFormat, entry: int, address: int) -> int:
    """The frame that a leaf maps at an address (bytes)."""
    return fmt.pfn(entry) + ((address & fmt.leaf_bytes(entry) - 1) >> fmt.page_shift)


def seek(mm: "Mm", address: int, label: str = "walk") -> Spot:
    """The entry that decides what an address (bytes) means; read without a lock."""
    with mm.machine.rcu:
        return descend(mm, address, label)


def descend(mm: "Mm", address: int, label: str, *, hardware: bool = False) -> Spot:
    """What :func:`seek` does, for those whom tables cannot leave: hardware, and holders of interrupts.

    :param hardware: to read the words of the tables, not what software makes of them.
    """
    tables = mm.machine.tables
    table = mm.root
    parent: Spot | None = None
    while True:
        fmt = table.fmt
        index = fmt.index(address)
        entry = table.read_word(index, label) if hardware else table.read(index, label)
        if fmt.level == 0 or fmt.kind(entry) != TABLE:
            return Spot(table, index, entry, parent)
        parent = Spot(table, index, entry, parent)
        table = tables.below(table, entry)


def populate(mm: "Mm", address: int, label: str, level: int = 0) -> Spot:
    """The entry of an address at ``level``, with the tables above it made; see ``__pte_alloc``.

    Stops higher up where a leaf or a non-present entry stands in the way; the caller looks at ``level``.
    """
    while True:
        spot = seek_level(mm, address, level, label)
        if spot.level <= level or spot.kind != NONE:
            return spot
        machine = mm.machine
        table = machine.tables.alloc(spot.fmt.below(0))
        table.place(mm, address & -(1 << spot.fmt.shift))
        with spot.table.lock:
            # Somebody may have been faster: pmd_install() looks again under the lock.
            if spot.table.read(spot.slot, label) == 0:
                entry = spot.fmt.table(table.address)
                spot.table.write(spot.slot, entry, label)
                continue
        machine.tables.free(table)


def seek_level(mm: "Mm", address: int, level: int, label: str = "walk") -> Spot:
    """Like :func:`seek`, but stops at ``level`` even where a table stands below."""
    spot = seek(mm, address, label)
    while spot.level < level and spot.parent is not None:
        spot = spot.parent
    return spot


def spans(mm: "Mm", start: int, end: int, label: str = "walk") -> Iterator[Span]:
    """Cut [start, end) into pieces, ascending; each is looked up when it is asked for."""
    while start < end:
        spot = seek(mm, start, label)
        fmt = spot.fmt
        reach = fmt.shift + fmt.index_bits if fmt.level == 0 else fmt.shift
        stop = min(end, (start >> reach) + 1 << reach)
        yield Span(start, stop, spot)
        start = stop


def locked_spans(mm: "Mm", start: int, end: int, label: str = "walk") -> Iterator[Span]:
    """Like :func:`spans`; while the caller has a piece that is no hole, it has the lock of its table.

    An entry above the PTE level is the one that stands there under the lock. If the caller replaces it
    by a table, or clears it, its piece comes again as what it is then.
    """
    while start < end:
        span = next(spans(mm, start, end, label))
        table, slot, entry, _ = span.spot
        if table.fmt.level == 0:
            with locked(span.spot) as stands:
                if not stands:
                    continue
                yield span
        elif entry == 0:
            yield span
        else:
            with table.lock:
                # pmd_trans_huge_lock(): what was read without the lock may have changed.
                entry = table.read(slot, label)
                if table.fmt.kind(entry) in _NO_MAPPING:
                    continue
                yield span._replace(spot=span.spot._replace(entry=entry))
                if table.fmt.kind(table.entries.get(slot, 0)) in _NO_MAPPING:
                    continue
        start = span.end


def for_each_leaf(mm: "Mm", start: int, end: int, label: str = "walk") -> Iterator[Leaf]:
    """Every leaf that maps a byte of [start, end), ascending, clipped to the range."""
    for span in spans(mm, start, end, label):
        if span.spot.level:
            if span.spot.kind == LEAF:
                yield Leaf(span.start, span.end, span.spot)
            continue
        table, fmt = span.spot.table, span.spot.table.fmt
        address = span.start
        for index in span.indexes:
            entry = table.read(index, label)
            if fmt.kind(entry) == LEAF:
                yield Leaf(address, address + (1 << fmt.shift), Spot(table, index, entry, span.spot.parent))
            address += 1 << fmt.shift


@contextmanager
def locked(spot: Spot) -> Iterator[bool]:
    """Hold the table's lock; gives False if the table is not where it was found any more."""
    with spot.table.lock:
        yield in_place(spot)


def in_place(spot: Spot) -> bool:
    """Whether the table is where it was found; for holders of its lock (``pmd_same``)."""
    parent = spot.parent
    return parent is None or parent.table.read(parent.slot, "walk: recheck the table") == parent.entry


@contextmanager
def populated(mm: "Mm", address: int, label: str) -> Iterator[Spot]:
    """The entry of an address, its table made if need be and locked (``pte_alloc_map_lock``).

    It stands higher up where a leaf is in the way; the caller looks at ``level``.
    """
    while True:
        spot = populate(mm, address, label)
        with locked(spot) as stands:
            if stands:
                yield spot
                return
