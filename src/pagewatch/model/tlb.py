"""CPUs and their TLBs: translations that may be stale, and the flushes that end them.

Some facts about TLBs
---------------------
* A translation stays usable until it is flushed, whatever happens to the entry it came from. A cached
  translation that is writable and dirty stores without looking at the page table again.
* A cached translation that is clean must set the dirty bit before its first store: hardware does so by a
  locked read-modify-write of the entry, and faults if the entry does not allow the store any more.
* An interrupt is taken between instructions. So a store holds its CPU from translation to data, and a
  flush by interrupt waits for that; a section with interrupts off is just a longer hold.

Entries are tagged by address space, so switching address spaces flushes nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pagewatch.model.locks import Lock
from pagewatch.model.tables import Table
from pagewatch.steps import READ, WAIT, WRITE, Whole, access, wait

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm


class Translation:
    """What a TLB slot remembers of one leaf, for one page of it."""

    __slots__ = ("dirty", "index", "n_pages", "pfn", "table", "writable")

    def __init__(self, pfn: int, table: Table, index: int, writable: bool, dirty: bool) -> None:  # noqa: FBT001
        """:param pfn: the frame of this very page. :param table: where the leaf stands."""
        self.pfn = pfn
        self.table = table
        self.index = index
        self.writable = writable
        self.dirty = dirty
        self.n_pages = 1
        """Of the contiguous block that was remembered as one; 1 for any other leaf."""


class Cpu:
    """One CPU: its TLB, and the lock that stands for an instruction or a section with interrupts off."""

    __slots__ = ("_interrupts_off", "interrupts", "number", "tlb")

    def __init__(self, number: int) -> None:
        """:param number: 0 for the first."""
        self.number = number
        self.interrupts = Lock(("cpu", number), f"cpu{number}: instruction")
        self._interrupts_off = False
        self.tlb: dict[tuple[int, int], Translation] = {}
        """(address space, virtual page) -> translation."""

    @contextmanager
    def interrupts_off(self) -> Iterator[None]:
        """A section with interrupts off, of many instructions: interrupts wait for its end, broadcasts do not."""
        self.interrupts.acquire()
        self._interrupts_off = True
        try:
            yield
        finally:
            self.interrupts.release()
            self._interrupts_off = False  # in the step of the release: who drains sees both at once

    def drain(self) -> None:
        """Wait for an instruction under way, as hardware does at the end of a broadcast flush."""
        lock = self.interrupts
        wait(lock.key, WAIT, "flush: wait for instructions", lambda: self._interrupts_off or lock.is_free())

    def run(self, mm: "Mm") -> None:
        """Be among the CPUs that a flush reaches, before the first translation is cached.

        Within an instruction or a section with interrupts off: so nobody else can do it for this CPU meanwhile,
        and whether it is among them already needs no announcement.
        """
        if self not in mm.cpus:
            access(("cpus", mm.id), WRITE, "tlb: first run")
            mm.cpus.append(self)

    def lookup(self, mm_id: int, vpn: int) -> Translation | None:
        """The cached translation of a page."""
        access(("tlb", self.number, mm_id, vpn), READ, "tlb: look up")
        return self.tlb.get((mm_id, vpn))

    def fill(self, mm_id: int, vpn: int, translation: Translation) -> None:
        """Remember a translation."""
        access(("tlb", self.number, mm_id, vpn), WRITE, "tlb: fill")
        self.tlb[mm_id, vpn] = translation

    def fill_block(self, mm_id: int, vpn: int, found: Translation, n_pages: int) -> None:
        """Remember the translation of a whole contiguous block, as one: it may do so wherever it meets one.

        :param vpn: of the page that ``found`` translates.
        """
        access(Whole(("tlb", self.number, mm_id)), WRITE, "tlb: fill with a block")
        first = vpn & -n_pages
        for page in range(first, first + n_pages):
            part = Translation(found.pfn + page - vpn, found.table, found.index, found.writable, found.dirty)
            part.n_pages = n_pages
            self.tlb[mm_id, page] = part

    def evict(self, mm_id: int, vpn: int, label: str = "tlb: evict") -> None:
        """Forget a translation; hardware may do so at any time."""
        access(("tlb", self.number, mm_id, vpn), WRITE, label)
        self.tlb.pop((mm_id, vpn), None)


def flush_range(mm: "Mm", start: int, end: int) -> None:
    """Forget the translations of [start, end) on every CPU that ran the address space (``flush_tlb_range``).

    Returns after every CPU has acknowledged. Bytes, page aligned.
    """
    if mm.machine.quirks.flush_is_broadcast:
        broadcast_flush(mm, start, end)
        return
    shift = mm.machine.page_shift
    first, last = start >> shift, end >> shift
    for cpu in _ran(mm, "flush: who ran it?"):
        with cpu.interrupts:
            _invalidate(cpu, mm.id, first, last)


def broadcast_flush(mm: "Mm", start: int, end: int) -> None:
    """Like :func:`flush_range`, by hardware: it does not wait for sections with interrupts off."""
    shift = mm.machine.page_shift
    for cpu in _ran(mm, "flush: who ran it?"):
        _broadcast(cpu, mm.id, start >> shift, end >> shift)


def flush_mm(mm: "Mm") -> None:
    """Forget all translations of an address space on every CPU (``flush_tlb_mm``)."""
    flush_range(mm, 0, 1 << mm.machine.fmt.address_bits)


def sync_cpus(mm: "Mm") -> None:
    """Interrupt every CPU that ran the address space and wait: sections with interrupts off have ended then.

    What ``tlb_remove_table_sync_one`` is for: it flushes nothing.
    """
    for cpu in _ran(mm, "sync: who ran it?"):
        with cpu.interrupts:
            pass


def _ran(mm: "Mm", label: str) -> tuple[Cpu, ...]:
    """The CPUs that ran the address space by now; who comes later finds what was changed before the flush."""
    access(("cpus", mm.id), READ, label)
    return tuple(mm.cpus)


def _broadcast(cpu: Cpu, mm_id: int, first: int, last: int) -> None:
    """Invalidate, and wait for instructions under way; what their walks put back meanwhile goes, too.

    Nothing keeps the CPU from filling its TLB meanwhile, so to look what is in it is an access.
    """
    key = ("tlb", cpu.number, mm_id, first) if last - first == 1 else Whole(("tlb", cpu.number, mm_id))
    while True:
        access(key, READ, "flush: look")
        for vpn in _cached(cpu, mm_id, first, last):
            cpu.evict(mm_id, vpn, "flush: invalidate")
        cpu.drain()
        access(key, READ, "flush: look again")
        if not _cached(cpu, mm_id, first, last):
            return


def _invalidate(cpu: Cpu, mm_id: int, first: int, last: int) -> None:
    for vpn in _cached(cpu, mm_id, first, last):
        cpu.evict(mm_id, vpn, "flush: invalidate")


def _cached(cpu: Cpu, mm_id: int, first: int, last: int) -> list[int]:
    if last - first <= len(cpu.tlb):
        return [vpn for vpn in range(first, last) if (mm_id, vpn) in cpu.tlb]
    return sorted(vpn for owner, vpn in cpu.tlb if owner == mm_id and first <= vpn < last)
