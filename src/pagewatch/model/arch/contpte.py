"""Folding entries into a contiguous block and back, as arm64 does for ordinary memory (arch/arm64/mm/contpte.c).

Whoever changes one entry of a block has to unfold it first; whoever reads one reads accessed and dirty of
all, because hardware sets them in any one. So:

* A block can be folded when it is aligned, whole, of consecutive frames, and of equal attributes but for
  young and dirty. The uffd-wp bit is an attribute: protecting part of a block unfolds it.
* Folding and unfolding collect young and dirty over the block and give the result to every entry: what
  was dirty stays dirty, what was clean may become dirty, so dirt inside a block has its size.
* On the way the kernel clears all entries and flushes the range, unless the CPU tolerates both forms at
  once. That is the caller's: these are pure functions.
"""

from collections.abc import Sequence

from pagewatch.model.arch.format import DIRTY, LEAF, YOUNG, EntryFormat
from pagewatch.vocab.errors import InvalidArgument

_COLLECTED = YOUNG | DIRTY


def collected(entries: EntryFormat, block: Sequence[int]) -> int:
    """YOUNG and DIRTY, each if any entry of the block has it."""
    flags = 0
    for entry in block:
        flags |= entries.flags(entry)
    return flags & _COLLECTED


def can_fold(entries: EntryFormat, address: int, block: Sequence[int], size_bytes: int) -> bool:
    """Whether these single entries, the first of them at ``address``, may become one block of that size.

    That one folio covers them is left to the caller, who knows about folios.
    """
    span_bytes = 1 << entries.shift
    if address & size_bytes - 1 or len(block) != size_bytes // span_bytes:
        return False
    if any(entries.kind(entry) != LEAF or entries.leaf_bytes(entry) != span_bytes for entry in block):
        return False
    first, pages = entries.pfn(block[0]), span_bytes >> entries.page_shift
    if first & (size_bytes >> entries.page_shift) - 1:
        return False
    flags = entries.flags(block[0]) | _COLLECTED
    return all(
        entries.pfn(entry) == first + i * pages and entries.flags(entry) | _COLLECTED == flags
        for i, entry in enumerate(block)
    )


def fold(entries: EntryFormat, block: Sequence[int], size_bytes: int) -> list[int]:
    """The same entries as one block.

    :raises InvalidArgument: the entries are no block that :func:`can_fold` at an aligned address.
    """
    if not can_fold(entries, 0, block, size_bytes):
        raise InvalidArgument(f"these {len(block)} {entries.name} entries cannot be folded")
    return _rewritten(entries, block, size_bytes)


def unfold(entries: EntryFormat, block: Sequence[int]) -> list[int]:
    """The entries of a whole block as single ones.

    :raises InvalidArgument: the entries are not one whole block.
    """
    size_bytes = entries.leaf_bytes(block[0])
    if len(block) != size_bytes >> entries.shift or any(
        entries.leaf_bytes(entry) != size_bytes or entries.pfn(entry) != entries.pfn(block[0]) for entry in block
    ):
        raise InvalidArgument(f"these {len(block)} {entries.name} entries are not one block")
    return _rewritten(entries, block, 1 << entries.shift)


def _rewritten(entries: EntryFormat, block: Sequence[int], size_bytes: int) -> list[int]:
    flags = entries.flags(block[0]) & ~_COLLECTED | collected(entries, block)
    first, pages = entries.pfn(block[0]), 1 << entries.shift - entries.page_shift
    return [entries.leaf(first + i * pages, flags, size_bytes) for i in range(len(block))]
