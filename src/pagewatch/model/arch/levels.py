"""Putting the levels of a format together."""

from collections.abc import Mapping, Sequence

from pagewatch.model.arch.entries import Entries
from pagewatch.model.arch.format import FLAG_NAMES, EntryFormat, LeafShape, PageTableFormat


def link(name: str, levels: Sequence[Entries], *features: str) -> PageTableFormat:
    """A format of these levels, the PTE table first; each learns what is below it.

    :param features: what the format has beyond what its entries show.
    """
    for upper, lower in zip(levels[1:], levels, strict=False):
        upper.lower = lower
    found = set(features)
    flags = 0
    shapes: dict[int, LeafShape] = {}
    for entries in levels:
        flags |= entries.supported
        for size, shape in _shapes(entries).items():
            shapes[size] = shape
            if shape.n_entries > 1 and not shape.n_tables:
                found.add("contiguous")
    found.update(flag for bit, flag in enumerate(FLAG_NAMES) if flags >> bit & 1)
    return PageTableFormat(name, tuple(levels), frozenset(found), dict(sorted(shapes.items())))


def _shapes(entries: EntryFormat) -> Mapping[int, LeafShape]:
    span_bytes = 1 << entries.shift
    shapes = {size: LeafShape(entries.level, max(1, size // span_bytes), n_tables=0) for size in entries.leaf_sizes}
    for size, child in entries.directories.items():
        n_entries = max(1, size // span_bytes)
        # A hugepd table has one slot a page: bigger than the span, it is one slot that all entries share.
        n_tables = 1 if child.shift >= entries.shift else n_entries
        shapes[size] = LeafShape(entries.level, n_entries, n_tables)
    return shapes
