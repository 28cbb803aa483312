"""References and pins on pages that somebody reached through an address space (``try_grab_folio``).

A reference (FOLL_GET) keeps a page from being freed. A pin (FOLL_PIN) also says that its content may be
read or written behind the back of the page tables, by a device or by io_uring. So a pinned page must not
be replaced by a copy: fork copies it for the child at once, nobody migrates or collapses it, and a write
through it faults nowhere. Write tracking cannot see such a write: a page pinned before it was protected
is a blind spot.

The kernel counts a pin of a small folio as 1024 references, of a large one in a counter of its own; the
zero page is not counted.
"""

from collections.abc import Sequence
from enum import Flag, auto
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from pagewatch.model.fault.state import is_cow
from pagewatch.model.folioflags import is_dirty, is_exclusive, set_dirty
from pagewatch.model.memory import PIN_BIAS, load_bytes, store_bytes

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.memory import Folio, Memory
    from pagewatch.model.vma import Vma


class Want(Flag):
    """What a page is wanted for (``FOLL_*``)."""

    READ = 0
    WRITE = auto()
    PIN = auto()
    """Its content will be accessed; without, the page itself is all that is wanted."""
    LONGTERM = auto()
    """User space decides for how long; with PIN only."""
    FORCE = auto()
    """A debugger: access rights of the area do not count, those of the file do."""
    HWPOISON = auto()
    """Tell failed memory from an address that is not mapped."""


class Page(NamedTuple):
    """One page of a folio."""

    folio: "Folio"
    number: int
    """Which page of it."""


def grab(memory: "Memory", folio: "Folio", want: Want) -> None:
    """Take a reference or a pin; the caller has reached the folio through an entry whose lock it holds."""
    if memory.is_zero(folio):
        return
    if Want.PIN not in want:
        memory.get(folio, "gup: take a reference")
        return
    memory.get(folio, "gup: pin", 1 if folio.order else PIN_BIAS)
    folio.pincount += 1


def try_grab(memory: "Memory", pfn: int, want: Want) -> "Folio | None":
    """Take a reference or a pin without any lock; None if the folio is gone (``try_grab_folio_fast``)."""
    folio = memory.try_get(pfn, "gup fast: take a reference")
    if folio is None or Want.PIN not in want:
        return folio
    if not folio.order:
        memory.get(folio, "gup fast: pin", PIN_BIAS - 1)
    folio.pincount += 1
    return folio


def release(memory: "Memory", folio: "Folio", want: Want) -> None:
    """Give a reference or a pin back (``gup_put_folio``)."""
    if memory.is_zero(folio):
        return
    if Want.PIN not in want:
        memory.put(folio, "gup: put")
        return
    memory.put(folio, "gup: unpin", 1 if folio.order else PIN_BIAS)
    folio.pincount -= 1  # in the same step: who looks for pins sees either


def must_unshare(folio: "Folio", page: int, want: Want, vma: "Vma | None") -> bool:
    """Whether a read pin through a read-only entry would miss later writes (``gup_must_unshare``).

    A page that is not exclusive is replaced at the next write, and whoever pinned it keeps the old one. So
    it is made exclusive first. A page of a file matters to long-term pins of private mappings only.

    :param vma: None where there is no lock to look at it; then the answer is the careful one.
    """
    if Want.PIN not in want or Want.WRITE in want:
        return False
    if not folio.anon:
        return Want.LONGTERM in want and (vma is None or is_cow(vma))
    return not is_exclusive(folio, page, "gup: exclusive?")


class Pin:
    """Pages held by :meth:`pagewatch.model.kernel.Process.pin`, in the order of their addresses.

    Reads and writes go straight to the pages, as a device's do: through no page table and no TLB.
    """

    __slots__ = ("_machine", "_want", "pages")

    def __init__(self, machine: "Machine", pages: Sequence[Page], want: Want) -> None:
        """:param pages: grabbed with ``want``; released by :meth:`release`."""
        self._machine = machine
        self._want = want
        self.pages = tuple(pages)

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Bytes from ``offset`` on, within one page."""
        index, inside = divmod(offset, self._machine.page_bytes)
        folio, number = self.pages[index]
        return load_bytes(folio, number, inside, n_bytes, "dma: read")

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes at ``offset``, within one page."""
        index, inside = divmod(offset, self._machine.page_bytes)
        folio, number = self.pages[index]
        store_bytes(folio, number, inside, data, "dma: write")

    def release(self) -> None:
        """Let go; pages pinned for writing are dirty then (``unpin_user_pages_dirty_lock``). Twice is no error."""
        for folio, _ in self.pages:
            if Want.WRITE in self._want and not is_dirty(folio, "unpin: dirty already?"):
                with folio.lock:
                    set_dirty(folio, "unpin: dirty")
            release(self._machine.memory, folio, self._want)
        self.pages = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
