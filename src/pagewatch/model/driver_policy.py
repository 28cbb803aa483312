"""How a driver follows stores to a buffer that it shares with processes (vmwgfx, vmwgfx_page_dirty.c).

There are two ways, and each is cheap where the other is not:

* PAGETABLE: entries are writable, hardware sets their dirty bits, a scan cleans and records them. Costs a
  walk of the whole buffer for every scan, and nothing for a store.
* MKWRITE: entries are read-only until the first store, whose fault records the page. Costs a fault for
  every page, and a scan costs only what was written.

The policy counts scans that call for a change, and switches at the third in a row: from PAGETABLE when
nothing was dirty, from MKWRITE when more than a tenth of the buffer was.

The ``reservation`` lock keeps first stores waiting in the hook, as the buffer's reservation does in the
driver. It has to be held over scan *and* transfer: a first store in between is recorded, and its record
taken away, before the store has happened.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from pagewatch.model.dirty_helpers import Bitmap, clean_record_shared_mapping_range, wp_shared_mapping_range
from pagewatch.model.gather import Zap
from pagewatch.model.locks import Lock
from pagewatch.model.truncate import unmap_pages

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping

CHANGE_TRIGGERS = 2
"""More scans in a row than this that call for a change make one (``VMW_DIRTY_NUM_CHANGE_TRIGGERS``)."""
DIRTY_PERCENTAGE = 10
"""More than this share of the buffer, in whole percent, is much (``VMW_DIRTY_PERCENTAGE``)."""


class Method(Enum):
    """How stores are noticed (``enum vmw_bo_dirty_method``)."""

    PAGETABLE = "dirty bits of the page tables"
    MKWRITE = "faults of first stores"


class DriverPolicy:
    """The state of one tracked buffer (``struct vmw_bo_dirty``). Page numbers count from the buffer's start."""

    def __init__(self, mapping: "FileMapping", first: int, n_pages: int) -> None:
        """Begin to track (``vmw_bo_dirty_add``): a buffer below one page table's worth by PAGETABLE.

        :param mapping: the device's file. :param first: page of the file where the buffer begins.
        """
        self.mapping = mapping
        self.first = first
        self.n_pages = n_pages
        number = mapping.machine.new_number()
        self.bitmap = Bitmap(n_pages, number=number)
        self.start, self.end = n_pages, 0
        self.change_count = 0
        self.reservation = Lock(("reservation", number), "buffer reservation")
        entries = mapping.machine.fmt.at[0]
        small = n_pages < mapping.machine.page_bytes // entries.entry_bytes
        self._follow(Method.PAGETABLE if small else Method.MKWRITE)
        mapping.mkwrite = self.mkwrite
        if self.method is Method.MKWRITE:
            self._protect_and_record(0, n_pages)

    def scan(self) -> None:
        """Bring the bitmap up to date, and see whether the other way would be cheaper (``vmw_bo_dirty_scan``).

        Like :meth:`transfer` it is for a caller that holds the reservation.
        """
        if self.method is Method.PAGETABLE:
            self._scan_pagetable()
        else:
            self._scan_mkwrite()

    def transfer(self, first: int, last: int) -> list[int]:
        """Take over what is dirty in [first, last): its page numbers; they are clean in the bitmap then.

        The bounds are trimmed only where the range covers an edge (``vmw_bo_dirty_transfer_to_res``).
        """
        taken = [page for page in range(max(first, self.start), min(last, self.end)) if self.bitmap[page]]
        for page in taken:
            self.bitmap[page] = False
        if first <= self.start < last:
            self.start = last
        if first < self.end <= last:
            self.end = first
        return taken

    def collect(self) -> list[int]:
        """Scan and transfer the whole buffer under one reservation: its page numbers, ascending."""
        with self.reservation:
            self.scan()
            return self.transfer(0, self.n_pages)

    def unmap(self, first: int, last: int) -> None:
        """Take [first, last) out of all mappings, dirty bits first: they vanish with the entries."""
        with self.reservation:
            if self.method is Method.PAGETABLE and first < last:
                self._protect_and_record(first, last - first)
            unmap_pages(self.mapping, self.first + first, self.first + last, Zap.HOLE)

    @contextmanager
    def mkwrite(self, index: int) -> Iterator[None]:
        """A page of the file is made writable within (``vmw_bo_vm_mkwrite``).

        A scan that came between the record and the entry would find the record, but no writable entry to
        take back; the store that follows would be seen by nobody. So the reservation is kept over both.
        """
        self.reservation.acquire()
        self._record_first_store(index - self.first)
        unlock_early = self.mapping.machine.quirks.mkwrite_unlocks_early
        if unlock_early:
            self.reservation.release()
        try:
            yield
        finally:
            if not unlock_early:
                self.reservation.release()

    def _record_first_store(self, page: int) -> None:
        if self.method is Method.MKWRITE and 0 <= page < self.n_pages and not self.bitmap[page]:
            self.bitmap[page] = True
            self.start, self.end = min(self.start, page), max(self.end, page + 1)

    def _scan_pagetable(self) -> None:
        n_marked = self._record(0, self.n_pages)
        self.change_count = 0 if n_marked else self.change_count + 1
        if self.change_count > CHANGE_TRIGGERS:
            self._follow(Method.MKWRITE)
            # Protect first; then what was dirtied in between is picked up.
            self._protect_and_record(0, self.n_pages)

    def _scan_mkwrite(self) -> None:
        if self.start >= self.end:
            return
        n_marked = wp_shared_mapping_range(self.mapping, self.first + self.start, self.end - self.start)
        much = 100 * n_marked // self.n_pages > DIRTY_PERCENTAGE
        self.change_count = self.change_count + 1 if much else 0
        if self.change_count > CHANGE_TRIGGERS:
            self._follow(Method.PAGETABLE)
            # Everything within the bounds counts as dirty from here, so the dirty bits so far may go.
            clean_record_shared_mapping_range(
                self.mapping, self.first, self.n_pages, self.first, self.bitmap, 0, self.n_pages
            )
            for page in range(self.n_pages):
                self.bitmap[page] = self.start <= page < self.end

    def _follow(self, method: Method) -> None:
        """Change the way; new entries are writable at once only where hardware does the noticing."""
        self.method = method
        self.mapping.tracks_dirty = method is Method.MKWRITE
        self.change_count = 0

    def _protect_and_record(self, first: int, n_pages: int) -> None:
        wp_shared_mapping_range(self.mapping, self.first + first, n_pages)
        self._record(first, n_pages)

    def _record(self, first: int, n_pages: int) -> int:
        n_marked, self.start, self.end = clean_record_shared_mapping_range(
            self.mapping, self.first + first, n_pages, self.first, self.bitmap, self.start, self.end
        )
        return n_marked
