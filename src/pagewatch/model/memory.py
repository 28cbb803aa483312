"""Physical memory: folios with reference, map and pin counts, and their contents word by word.

A page's content is a sparse dict of 64-bit words, so memory costs what was written to it. Every word is an
object of its own to an explorer; that a word comes into use, which had been zero, is a change of the page.
Copying a page goes word by word, as hardware does: a store that races with it lands before or after the
copy of its word. Words not in use are copied first, all at once.
Frame numbers are never used twice, so any access to a freed frame is seen at once.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pagewatch.model.errors import UseAfterFree
from pagewatch.model.locks import Lock
from pagewatch.steps import READ, RMW, WRITE, access

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping
    from pagewatch.model.rmap import AnonVma

WORD_BYTES = 8
"""Bytes that hardware moves in one step."""

PIN_BIAS = 1024
"""References that a pin of a small folio counts for (``GUP_PIN_COUNTING_BIAS``)."""

Words = dict[int, int]


class Folio:
    """``1 << order`` adjacent frames that live and die together."""

    __slots__ = (
        "_lock",
        "anon_vma",
        "hugetlb",
        "index",
        "mapping",
        "order",
        "pfn",
        "pincount",
        "raw_dirty",
        "raw_exclusive",
        "raw_lazy_free",
        "raw_mapcount",
        "raw_poisoned",
        "raw_references",
        "swap_slot",
        "uptodate",
        "words",
    )

    def __init__(self, pfn: int, order: int) -> None:
        """:param pfn: the first frame."""
        self.pfn = pfn
        self.order = order
        self.raw_references = 1
        """What happens now goes by :meth:`Memory.count`, which announces the look."""
        self.raw_mapcount = 0
        """Leaves that map any part of it; what happens now goes by :meth:`Memory.count_maps`."""
        self.pincount = 0
        """Pins (FOLL_PIN): each is a reference of a large folio, ``PIN_BIAS`` references of a small one."""
        self.anon_vma: AnonVma | None = None
        """Set for anonymous folios."""
        self.mapping: FileMapping | None = None
        """Set for page-cache folios."""
        self.index = 0
        """Page offset in the mapping, or linear page index of the anonymous mapping."""
        self.hugetlb = False
        """Whether it is a page of the hugetlb pool."""
        self.raw_exclusive: set[int] = set()
        """Pages (by number within the folio) that only one address space maps (PageAnonExclusive).

        Whoever looks at this and the next two, or changes them, while others may, goes by :mod:`.folioflags`."""
        self.raw_dirty = False
        self.raw_lazy_free = False
        """Its contents may be dropped until it is dirty again (MADV_FREE)."""
        self.uptodate = True
        self.raw_poisoned = False
        """Its memory failed; as the flags above."""
        self.swap_slot: tuple[int, int] | None = None
        """Where it was read from; whether the swap cache still holds it says :meth:`.swap.Swap.holds`."""
        self.words: dict[int, Words] = {}
        """Contents: page within the folio -> word within the page -> value."""
        self._lock: Lock | None = None

    @property
    def n_pages(self) -> int:
        """How many frames."""
        return 1 << self.order

    @property
    def anon(self) -> bool:
        """Whether it is anonymous memory."""
        return self.anon_vma is not None

    @property
    def raw_maybe_pinned(self) -> bool:
        """What the kernel knows of pins (``folio_maybe_dma_pinned``): many references look like one, too."""
        return self.pincount > 0 if self.order else self.raw_references >= PIN_BIAS

    @property
    def lock(self) -> Lock:
        """The folio lock: its holder may change what the folio belongs to (``folio_lock``)."""
        if self._lock is None:
            self._lock = Lock(("folio", self.pfn), "folio lock")
        return self._lock

    def __repr__(self) -> str:
        kind = "anon" if self.anon else "file" if self.mapping else "kernel"
        return f"<Folio {kind} pfn={self.pfn:#x} order={self.order} refs={self.raw_references}>"


class Memory:
    """The frame allocator."""

    __slots__ = ("_below", "_blocks", "_huge_zero", "_large", "_next_pfn", "folios", "page_bytes", "zero")

    def __init__(self, page_bytes: int) -> None:
        """:param page_bytes: size of the smallest page."""
        self.page_bytes = page_bytes
        self.folios: dict[int, Folio] = {}
        """Living folios by first frame."""
        self._large: list[int] = []
        self._blocks: dict[int, set[int]] = {}
        """What was allocated large, ever: order -> first frames. So of a frame that never changes."""
        self._next_pfn = 0x100
        self._below: Iterator[int] = iter(())
        self.zero = self.alloc()
        """The zero page: mapped by read faults, never counted."""
        self._huge_zero: Folio | None = None

    def alloc(self, order: int = 0) -> Folio:
        """A fresh, zeroed folio with one reference."""
        n_pages = 1 << order
        pfn = -(-self._next_pfn // n_pages) * n_pages
        if pfn > self._next_pfn:
            self._below = iter(range(self._next_pfn, pfn))
        self._next_pfn = pfn + n_pages
        folio = self.folios[pfn] = Folio(pfn, order)
        if order:
            self._blocks.setdefault(order, set()).add(pfn)
            if order not in self._large:
                self._large.append(order)
        return folio

    def huge_zero(self, order: int) -> Folio:
        """The huge zero page, never counted; made when it is first wanted (``mm_get_huge_zero_folio``)."""
        if self._huge_zero is None:
            self._huge_zero = self.alloc(order)
        return self._huge_zero

    def is_zero(self, folio: Folio) -> bool:
        """Whether this is the zero page or the huge zero page."""
        return folio is self.zero or folio is self._huge_zero

    def split(self, folio: Folio, at: int | None = None) -> list[Folio]:
        """Make several folios of one that is frozen, with its state; each has one reference, the caller's.

        :param at: a page within the folio: it is halved until that page is alone (``folio_split``). Without,
            every page is alone afterwards.
        """
        self._announce_change(folio)
        del self.folios[folio.pfn]
        parts = []
        for first, order in _halves(folio.order, at) if at is not None else ((n, 0) for n in range(folio.n_pages)):
            part = self.folios[folio.pfn + first] = Folio(folio.pfn + first, order)
            inside = range(first, first + part.n_pages)
            part.anon_vma, part.mapping, part.index = folio.anon_vma, folio.mapping, folio.index + first
            part.raw_dirty, part.raw_lazy_free = folio.raw_dirty, folio.raw_lazy_free
            part.raw_exclusive = {page - first for page in inside if page in folio.raw_exclusive}
            part.words = {page - first: folio.words[page] for page in inside if page in folio.words}
            if order and order not in self._large:
                self._large.append(order)
            parts.append(part)
        return parts

    def alloc_frame(self) -> int:
        """A frame for a page table; its number, never to be used again.

        What lies before large folios comes first: some formats want their tables low in memory.
        """
        below = next(self._below, None)
        if below is not None:
            return below
        self._next_pfn += 1
        return self._next_pfn - 1

    def folio(self, pfn: int) -> Folio:
        """The living folio that owns a frame.

        :raises UseAfterFree: it was freed.
        """
        folio = self.find(pfn)
        if folio is None:
            raise UseAfterFree(f"frame {pfn:#x} was freed")
        return folio

    def find(self, pfn: int) -> Folio | None:
        """The living folio that owns a frame, or None."""
        folio = self.folios.get(pfn)
        if folio is not None:
            return folio
        for order in self._large:
            folio = self.folios.get(pfn >> order << order)
            if folio is not None and folio.order >= order:
                return folio
        return None

    def get(self, folio: Folio, label: str, count: int = 1) -> None:
        """Take references; the caller knows that there are some already."""
        access(("refs", folio.pfn), RMW, label)
        if folio.raw_references <= 0:
            raise UseAfterFree(f"{label}: {folio!r} was freed already")
        folio.raw_references += count

    @staticmethod
    def freeze(folio: Folio, count: int, label: str) -> bool:
        """Take away all references, if there are so many (``folio_ref_freeze``): nobody gets another one then."""
        access(("refs", folio.pfn), RMW, label)
        if folio.raw_references != count:
            return False
        folio.raw_references = 0
        return True

    @staticmethod
    def count(folio: Folio, label: str) -> int:
        """How many references there are now (``folio_ref_count``)."""
        access(("refs", folio.pfn), READ, label)
        return folio.raw_references

    @staticmethod
    def count_maps(folio: Folio, label: str) -> int:
        """How many leaves map any part of it now (``folio_mapcount``)."""
        access(("mapcount", folio.pfn), READ, label)
        return folio.raw_mapcount

    @staticmethod
    def look_for_pins(folio: Folio, label: str) -> bool:
        """Whether it may be pinned now; see :attr:`Folio.raw_maybe_pinned`."""
        access(("refs", folio.pfn), READ, label)
        return folio.raw_maybe_pinned

    def try_get(self, pfn: int, label: str) -> Folio | None:
        """Take a reference to the folio of a frame, as lockless walkers must; None if it is gone.

        Which folio a frame belongs to can change only if it was allocated as part of a large one.
        """
        block = self._block_of(pfn)
        if block is not None:
            access(("folios of", block), READ, "memory: which folio?")
        folio = self.find(pfn)
        if folio is None:
            access(("refs", pfn), RMW, label)  # so that whether it was freed just before makes no other step
            return None
        return folio if self.try_get_folio(folio, label) else None

    def try_get_folio(self, folio: Folio, label: str) -> bool:
        """Take a reference to a folio that was found without one, unless its count is zero (``folio_try_get``)."""
        access(("refs", folio.pfn), RMW, label)
        if folio.raw_references <= 0:
            return False
        folio.raw_references += 1
        return True

    def put(self, folio: Folio, label: str, count: int = 1) -> None:
        """Drop references; the last frees the folio."""
        access(("refs", folio.pfn), RMW, label)
        folio.raw_references -= count
        if folio.raw_references < 0:
            raise UseAfterFree(f"{label}: {folio!r} was freed already")
        if folio.raw_references == 0:
            self._announce_change(folio)
            del self.folios[folio.pfn]

    def _block_of(self, pfn: int) -> int | None:
        """The first frame of what was allocated large, if the frame is part of it."""
        for order, blocks in self._blocks.items():
            if (block := pfn >> order << order) in blocks:
                return block
        return None

    def _announce_change(self, folio: Folio) -> None:
        """A large folio, without any reference, is about to go: its frames will belong to others, or to none."""
        if folio.order:
            access(("folios of", self._block_of(folio.pfn)), WRITE, "memory: a large folio goes")

    def copy_page(self, target: Folio, target_page: int, source: Folio, source_page: int, label: str) -> None:
        """Copy one page word by word; the target is not visible to anybody yet."""
        target.words[target_page] = copied_words(source, source_page, label)


def copied_words(folio: Folio, page: int, label: str) -> Words:
    """What one page holds, read word by word."""
    pfn = folio.pfn + page
    access(("page", pfn), READ, label)
    words = folio.words.get(page, {})
    copied: Words = {}
    for word in sorted(words):
        access(("word", pfn, word), READ, label)
        copied[word] = words[word]
    return copied


def _halves(order: int, at: int) -> list[tuple[int, int]]:
    """Pieces (first page, order) of a folio that is halved around a page until that is alone, ascending."""
    pieces, first = [], 0
    while order:
        order -= 1
        half = 1 << order
        if at < first + half:
            pieces.append((first + half, order))
        else:
            pieces.append((first, order))
            first += half
    return sorted([*pieces, (first, 0)])


def load_bytes(folio: Folio, page: int, offset: int, n_bytes: int, label: str) -> bytes:
    """Read bytes of one page of a folio, one word at a time."""
    words = folio.words.get(page)
    pfn = folio.pfn + page
    first, last = offset >> 3, offset + n_bytes - 1 >> 3
    value = 0
    for word in range(first, last + 1):
        access(("word", pfn, word), READ, label)
        if words is None:
            words = folio.words.get(page)
        if words is not None:
            value |= words.get(word, 0) << (word - first) * 64
    return (value >> (offset & 7) * 8 & (1 << n_bytes * 8) - 1).to_bytes(n_bytes, "little")


def store_bytes(folio: Folio, page: int, offset: int, data: bytes, label: str) -> None:
    """Write bytes of one page of a folio, one word at a time."""
    pfn = folio.pfn + page
    words = folio.words.setdefault(page, {})
    position, end = 0, len(data)
    while position < end:
        word, inside = offset >> 3, offset & 7
        n_bytes = min(WORD_BYTES - inside, end - position)
        value = int.from_bytes(data[position : position + n_bytes], "little")
        if word not in words:
            access(("page", pfn), WRITE, "memory: a word comes into use")
            words.setdefault(word, 0)
        access(("word", pfn, word), WRITE, label)
        if n_bytes == WORD_BYTES:
            words[word] = value
        else:
            mask = (1 << n_bytes * 8) - 1 << inside * 8
            words[word] = words[word] & ~mask | value << inside * 8
        position += n_bytes
        offset += n_bytes


def has_content(folio: Folio, page: int) -> bool:
    """Whether any byte of the page is not zero."""
    return any(folio.words.get(page, {}).values())
