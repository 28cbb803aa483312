"""Swap: slots with a use count, and the swap cache that keeps sharers of a slot together."""

from pagewatch.model.memory import Folio, Memory, Words
from pagewatch.steps import RMW, access

SWAP_TYPE = 0
"""The number of the one swap file."""


class Swap:
    """One swap file. A slot's count is the number of entries that refer to it."""

    __slots__ = ("_next", "cache", "counts", "on", "slots")

    def __init__(self) -> None:
        self._next = 1
        self.on = True
        """Whether there is any swap space: without it anonymous memory is never paged out."""
        self.slots: dict[int, Words] = {}
        """Contents by offset."""
        self.counts: dict[int, int] = {}
        self.cache: dict[int, Folio] = {}
        """Folios whose slot is still in use; the cache holds a reference to each."""

    def write_out(self, words: Words) -> int:
        """Store one page; returns the offset of its slot, which has one user."""
        offset = self._next
        self._next += 1
        self.slots[offset] = dict(words)
        self.counts[offset] = 1
        return offset

    def duplicate(self, offset: int) -> None:
        """One more entry refers to the slot (``swap_duplicate``)."""
        access(("swap", offset), RMW, "swap: duplicate")
        self.counts[offset] += 1

    def release(self, memory: Memory, offset: int) -> None:
        """One entry fewer; the last frees the slot and its cached copy (``swap_free``)."""
        access(("swap", offset), RMW, "swap: free")
        self.counts[offset] -= 1
        if self.counts[offset] == 0:
            del self.counts[offset], self.slots[offset]
            cached = self.cache.pop(offset, None)
            if cached is not None:
                cached.swap_slot = None
                memory.put(cached, "swap cache: delete")

    def read_in(self, memory: Memory, offset: int) -> Folio:
        """The folio of a slot, from the cache or read now, with a reference for the caller."""
        access(("swap", offset), RMW, "swap cache: look up")
        folio = self.cache.get(offset)
        if folio is None:
            folio = memory.alloc()
            folio.words[0] = dict(self.slots[offset])
            folio.swap_slot = (SWAP_TYPE, offset)
            self.cache[offset] = folio
        memory.get(folio, "swap cache: get")
        return folio
