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

from collections.abc import Iterable, Sequence

from pagewatch.model.arch.format import DIRTY, LEAF, PROTNONE, SPECIAL, YOUNG, EntryFormat
from pagewatch.vocab.errors import InvalidArgument

_COLLECTED = YOUNG | DIRTY
_NEVER = PROTNONE | SPECIAL
"""What hardware does not use, and what has no folio behind it, stays single."""


def collected(entries: EntryFormat, block: Iterable[int]) -> int:
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
    if entries.flags(block[0]) & _NEVER:
        return False
    first, pages = entries.pfn(block[0]), span_bytes >> entries.page_shift
    if first & (size_bytes >> entries.page_shift) - 1:
        return False
    flags = entries.flags(block[0]) | _COLLECTED
    return all(
        entries.pfn(entry) == first + i * pages and entries.flags(entry) | _COLLECTED == flags
        for i, entry in enumerate(block)
    )


def is_block(entries: EntryFormat, block: Sequence[int]) -> bool:
    """Whether these are all the entries of one block, and not of two, or of one that is just being changed."""
    heads = _heads(entries, block)
    return (
        all(head > 0 and entries.kind(head) == LEAF for head in heads)
        and len({entries.mkold(entries.mkclean(head)) for head in heads}) == 1
        and len(block) == entries.leaf_bytes(block[0]) >> entries.shift
        and entries.pfn(block[0]) == entries.pfn(block[-1])
    )


def part_of(entries: EntryFormat, block: Sequence[int], at: int) -> int:
    """What one entry of a whole block says as a single one; young and dirty are those of the block.

    :param at: its number within the block.
    """
    pages = 1 << entries.shift - entries.page_shift
    return entries.leaf(entries.pfn(block[0]) + at * pages, _joined(entries, block))


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
    if not is_block(entries, block):
        raise InvalidArgument(f"these {len(block)} {entries.name} entries are not one block")
    return _rewritten(entries, block, 1 << entries.shift)


def _rewritten(entries: EntryFormat, block: Sequence[int], size_bytes: int) -> list[int]:
    flags = _joined(entries, block)
    first, pages = entries.pfn(block[0]), 1 << entries.shift - entries.page_shift
    return [entries.leaf(first + i * pages, flags, size_bytes) for i in range(len(block))]


def _joined(entries: EntryFormat, block: Sequence[int]) -> int:
    """The flags of all entries in one; of a proper block they differ in young and dirty only."""
    return entries.flags(block[0]) & ~_COLLECTED | collected(entries, _heads(entries, block))


def _heads(entries: EntryFormat, block: Sequence[int]) -> set[int]:
    """Every entry as it would be in the first place: of a proper block no more than young and dirty make."""
    step = entries.leaf(1 << entries.shift - entries.page_shift, 0) - entries.leaf(0, 0)
    return {entry - i * step for i, entry in enumerate(block)}
