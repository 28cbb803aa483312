"""Putting the levels of a format together."""

from collections.abc import Sequence

from pagewatch.model.arch.entries import Entries
from pagewatch.model.arch.format import FLAG_NAMES, PageTableFormat


def link(name: str, levels: Sequence[Entries], *features: str) -> PageTableFormat:
    """A format of these levels, the PTE table first; each learns what is below it.

    :param features: what the format has beyond the flags its entries support.
    """
    flags = 0
    for upper, lower in zip(levels[1:], levels, strict=False):
        upper.lower = lower
    for entries in levels:
        flags |= entries.supported
    named = {flag for bit, flag in enumerate(FLAG_NAMES) if flags >> bit & 1}
    return PageTableFormat(name, tuple(levels), frozenset(features) | named)
