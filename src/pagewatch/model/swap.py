"""Swap: slots with a use count, and the swap cache that keeps sharers of a slot together."""

from pagewatch.model.memory import Folio, Memory, Words
from pagewatch.steps import READ, RMW, access

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
        offset = self._next  # a name for what is new: who comes first gets another one, and nobody can tell
        self._next += 1
        self.slots[offset] = dict(words)
        self.counts[offset] = 1
        return offset

    def write_again(self, offset: int, words: Words) -> bool:
        """Store a page where it was read from, for one user more; False if nobody uses the slot any more."""
        access(("swap", offset), RMW, "swap: write again")
        if offset not in self.counts:
            return False
        self.slots[offset] = dict(words)
        self.counts[offset] += 1
        return True

    def duplicate(self, offset: int) -> None:
        """One more entry refers to the slot (``swap_duplicate``)."""
        access(("swap", offset), RMW, "swap: duplicate")
        self.counts[offset] += 1

    def release(self, memory: Memory, offset: int) -> int:
        """One entry fewer; the last frees the slot and its cached copy (``swap_free``). Returns how many are left."""
        access(("swap", offset), RMW, "swap: free")
        left = self.counts[offset] = self.counts[offset] - 1
        if not left:
            del self.counts[offset], self.slots[offset]
            cached = self.cache.pop(offset, None)
            if cached is not None:
                memory.put(cached, "swap cache: delete")
        return left

    def holds(self, folio: Folio, label: str) -> bool:
        """Whether the swap cache has a reference to the folio."""
        if folio.swap_slot is None:
            return False  # it never did
        offset = folio.swap_slot[1]
        access(("swap", offset), READ, label)
        return self.cache.get(offset) is folio

    def read_in(self, memory: Memory, offset: int) -> Folio | None:
        """The folio of a slot, from the cache or read now, with a reference for the caller.

        None if nobody uses the slot any more: the entry that the caller has seen has changed.
        """
        access(("swap", offset), RMW, "swap cache: look up")
        if offset not in self.slots:
            return None
        folio = self.cache.get(offset)
        if folio is None:
            folio = memory.alloc()
            folio.words[0] = dict(self.slots[offset])
            folio.swap_slot = (SWAP_TYPE, offset)
            self.cache[offset] = folio
        memory.get(folio, "swap cache: get")
        return folio
