"""Leaves that take several entries: what to write for a page of any size, and what any one entry says.

For contiguous leaves (arm64, Svnapot, 8xx, e500, hash with 4K pages) that is a block of entries of one
level; for a hugepd, and for 8M on 8xx, directory entries and the slots of the tables below. Both
directions are pure, so the same mapping can be written in the old and the new layout and compared.
"""

from collections.abc import Sequence
from typing import NamedTuple

from pagewatch.model.arch.format import EntryFormat, LeafShape, PageTableFormat
from pagewatch.vocab.errors import InvalidArgument


class Slot(NamedTuple):
    """An entry and where it belongs."""

    format: EntryFormat
    """The format of the table."""
    address: int
    """The first virtual address that the entry spans, or part of the span for the entries that share a
    hugepd; ``format.index(address)`` is its place."""
    entry: int


class Block(NamedTuple):
    """What one leaf entry maps, with the rest of its block."""

    start: int
    """First virtual address."""
    n_bytes: int
    pfn: int
    """Frame of ``start``."""


def addresses(entries: EntryFormat, address: int, size_bytes: int) -> range:
    """The virtual addresses of the entries of one table format that a page at ``address`` takes."""
    return range(address, address + size_bytes, min(size_bytes, 1 << entries.shift))


def directories(fmt: PageTableFormat, address: int, size_bytes: int, tables: Sequence[int]) -> list[Slot]:
    """The special directory entries for a page; none where its leaves need none.

    :param tables: physical addresses of the tables below, as many as ``LeafShape.n_tables``.
    """
    shape = _checked(fmt, address, size_bytes)
    if len(tables) != shape.n_tables:
        raise InvalidArgument(f"{fmt.name}: such a page needs {shape.n_tables} tables of its own, not {len(tables)}")
    if not shape.n_tables:
        return []
    level = fmt.at[shape.level]
    share = shape.n_entries // shape.n_tables
    spans = range(address & -(1 << level.shift), address + size_bytes, 1 << level.shift)
    return [Slot(level, at, level.table(tables[i // share], size_bytes)) for i, at in enumerate(spans)]


def expand(fmt: PageTableFormat, address: int, pfn: int, size_bytes: int, flags: int) -> list[Slot]:
    """The leaf entries of a page, ascending; below special directories, those of all its tables.

    :param address: virtual, bytes; a multiple of the size.
    :param pfn: first frame; as aligned as the address.
    :raises InvalidArgument: no such size, or misaligned.
    """
    shape = _checked(fmt, address, size_bytes)
    level = fmt.at[shape.level]
    entries = level.directories[size_bytes] if shape.n_tables else level
    if pfn & (size_bytes >> level.page_shift) - 1:
        raise InvalidArgument(f"{fmt.name}: frame {pfn:#x} is not aligned to the page")
    return [
        Slot(entries, at, entries.leaf(pfn + (at - address >> entries.page_shift), flags, size_bytes))
        for at in addresses(entries, address, size_bytes)
    ]


def block(entries: EntryFormat, address: int, entry: int) -> Block:
    """The whole page that a leaf entry is part of.

    :param address: any virtual address that the entry spans.
    :raises InvalidArgument: the entry carries no frame number.
    """
    n_bytes = entries.leaf_bytes(entry)
    return Block(address & -n_bytes, n_bytes, entries.pfn(entry))


def _checked(fmt: PageTableFormat, address: int, size_bytes: int) -> LeafShape:
    shape = fmt.shape(size_bytes)
    if address & size_bytes - 1 or not 0 <= address <= (1 << fmt.address_bits) - size_bytes:
        raise InvalidArgument(f"{fmt.name}: address {address:#x} is out of range or not aligned to the page")
    return shape
