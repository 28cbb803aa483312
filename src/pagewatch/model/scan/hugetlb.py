"""Scanning hugetlb memory: a huge page is protected as a whole or not at all.

A page that the range or a limit cuts is not reported and not protected; walk_end becomes its start, **and
the walk goes on**, so later pages may be reported that lie behind walk_end. An empty page is never WRITTEN,
so a scan never arms it: that takes UFFDIO_WRITEPROTECT.
"""

from typing import TYPE_CHECKING

from pagewatch.model.change import Change
from pagewatch.model.hugetlb.entries import HugePage, find
from pagewatch.model.hugetlb.locks import owned_file, reading
from pagewatch.model.hugetlb.protect import change_huge_page
from pagewatch.model.protect import change_protection
from pagewatch.model.scan.classify import HUGE, WRITTEN, Classifier
from pagewatch.model.scan.output import Output
from pagewatch.model.tlb import flush_range

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma

_QUIRK_PAGE_BYTES = 1 << 21


class HugetlbScan:
    """The scan of one hugetlb area; the caller holds the mmap lock for reading."""

    __slots__ = ("_area_bits", "_classifier", "_mm", "_output", "_protect", "_vma")

    def __init__(
        self, mm: "Mm", vma: "Vma", area_bits: int, *, classifier: Classifier, output: Output, protect: bool
    ) -> None:
        """:param area_bits: categories of every page of the area."""
        self._mm = mm
        self._vma = vma
        self._area_bits = area_bits
        self._classifier = classifier
        self._output = output
        self._protect = protect

    def run(self, start: int, end: int) -> bool:
        """Scan [start, end), bytes; False where a limit stopped the scan (``walk_hugetlb_range``)."""
        huge = self._vma.page_bytes
        while start < end:
            stop = min(end, (start & -huge) + huge)
            if not self._piece(start, stop):
                return False
            start = stop
        return True

    def _piece(self, start: int, end: int) -> bool:
        machine = self._mm.machine
        with reading(machine, self._vma):
            page = find(self._mm, start, self._vma.page_bytes, "scan: walk")
            if page is not None:
                return self._page(page, start, end)
            end, go_on = self._report_hole(start, end)
            if self._protect and end > start and machine.quirks.scan_hugetlb_hole_deadlocks:
                self._arm_hole(start)  # takes the vma lock for writing, which is held for reading here
                return go_on
        if self._protect and end > start:
            self._arm_hole(start)
        return go_on

    def _report_hole(self, start: int, end: int) -> tuple[int, bool]:
        """Memory without a table is called what the area is called; returns how far it was reported."""
        if not self._output.matches(self._area_bits):
            return start, True
        end, stop = self._output.push(self._area_bits, start, end)
        return end, not stop

    def _arm_hole(self, start: int) -> None:
        """Arm the whole page, although only part of it may have been reported."""
        huge = self._vma.page_bytes
        change_protection(self._mm, self._vma, start & -huge, (start & -huge) + huge, Change.WP)

    def _page(self, page: HugePage, start: int, end: int) -> bool:
        """The part [start, end) of one page (``pagemap_scan_hugetlb_entry``)."""
        if not self._protect:
            bits = self._categories(page)
            return not self._output.matches(bits) or not self._output.push(bits, start, end)[1]
        with owned_file(self._vma).i_mmap_lock.exclusive, page.lock:
            bits = self._categories(page)
            if not self._output.matches(bits):
                return True
            end, stop = self._output.push(bits, start, end)
            if end == start or not bits & WRITTEN:
                return not stop
            if end - start != self._whole_bytes and not self._mm.machine.quirks.scan_protects_beyond_report:
                self._output.back_out(start, end)
                self._output.leave_out(start)
                return True
            change_huge_page(self._mm, self._vma, page, Change.WP)
            flush_range(self._mm, start, end)
            return not stop

    @property
    def _whole_bytes(self) -> int:
        by_2m = self._mm.machine.quirks.scan_hugetlb_by_2m
        return _QUIRK_PAGE_BYTES if by_2m else self._vma.page_bytes

    def _categories(self, page: HugePage) -> int:
        """Like those of small pages, but an empty entry is only huge (``pagemap_hugetlb_category``)."""
        entry = page.read("scan: look")
        return self._area_bits | HUGE | (self._classifier.entry(page.fmt, entry) if entry else 0)
