"""The walk of a scan: classify, report, and protect what was reported, each entry in one step.

Report and protection of an entry happen under its table's lock, and the flush before that lock is
dropped: a write that raced was either before, and is in the report, or faults.
"""

import errno
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF, MARKER_UFFD_WP
from pagewatch.model.change import Change
from pagewatch.model.protect import change_protection
from pagewatch.model.scan.classify import (
    FILE,
    WPALLOWED,
    WRITTEN,
    Classifier,
    area_categories,
    hole_categories,
    wp_allowed,
)
from pagewatch.model.scan.hugetlb import HugetlbScan
from pagewatch.model.scan.output import Output
from pagewatch.model.tables import Table
from pagewatch.model.thp import split_locked
from pagewatch.model.tlb import flush_range
from pagewatch.model.vma import VM_PFNMAP
from pagewatch.model.walk import Span, locked_spans
from pagewatch.vocab.query import Query

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


class ScanWalk:
    """One walk of a scan over an address space; the caller holds the mmap lock for reading."""

    __slots__ = (
        "_area_bits",
        "_classifier",
        "_mm",
        "_needs_wpallowed",
        "_only_written",
        "_output",
        "_protect",
        "_require_armed",
        "_vma",
    )

    def __init__(self, mm: "Mm", query: Query, output: Output, *, protect: bool, require_armed: bool) -> None:
        """:param protect: PM_SCAN_WP_MATCHING. :param require_armed: PM_SCAN_CHECK_WPASYNC."""
        self._mm = mm
        self._output = output
        self._protect = protect
        self._require_armed = require_armed
        want_file = bool((query.mask | query.anyof | query.returned) & FILE)
        self._classifier = Classifier(mm.machine, want_file=want_file)
        self._needs_wpallowed = bool(query.mask & WPALLOWED), bool(query.inverted & WPALLOWED)
        self._only_written = query.mask == query.returned == WRITTEN and not query.anyof and not query.inverted
        self._vma: Vma
        self._area_bits = 0

    def run(self, start: int, end: int) -> int:
        """Walk [start, end): 0 at the end, ENOSPC where a limit stopped it, EPERM at an unarmed area."""
        for vma in self._mm.vmas.overlapping(start, end):
            if not wp_allowed(vma):
                if self._require_armed:
                    return errno.EPERM
                if self._protect:
                    continue
            if vma.flags & VM_PFNMAP:
                continue
            self._vma = vma
            self._area_bits = area_categories(self._mm.machine, vma)
            if not self._interesting_area():
                continue
            if not self._area(max(start, vma.start), min(end, vma.end)):
                return errno.ENOSPC
        return 0

    def _interesting_area(self) -> bool:
        """Only WPALLOWED of the mask is looked at before the entries are."""
        required, inverted = self._needs_wpallowed
        return not required or bool(self._area_bits & WPALLOWED) != inverted

    def _area(self, start: int, end: int) -> bool:
        """Scan part of the current area; False where a limit stopped the scan."""
        if self._vma.hugetlb:
            return HugetlbScan(
                self._mm,
                self._vma,
                self._area_bits,
                classifier=self._classifier,
                output=self._output,
                protect=self._protect,
            ).run(start, end)
        for span in locked_spans(self._mm, start, end, "scan: walk"):
            if span.hole:
                go_on = self._hole(span)
            else:
                go_on = self._huge(span) if span.spot.level else self._table(span)
            if not go_on:
                return False
        return True

    def _hole(self, span: Span) -> bool:
        """Memory without a table (``pagemap_scan_pte_hole``): protecting it makes tables full of markers."""
        bits = self._area_bits | hole_categories(self._mm.machine, self._vma)
        if not self._output.matches(bits):
            return True
        end, stop = self._output.push(bits, span.start, span.end)
        if self._protect and end > span.start:
            change_protection(self._mm, self._vma, span.start, end, Change.WP)
        return not stop

    def _huge(self, span: Span) -> bool:
        """Part of a huge leaf, whose lock is held (``pagemap_scan_thp_entry``).

        Protecting a part splits it. Then the report is taken back, and the walk comes again to the table,
        or for a file to the hole, that stands there then.
        """
        table, slot, entry, _ = span.spot
        bits = self._area_bits | self._classifier.huge(table.fmt, entry)
        if not self._output.matches(bits):
            return True
        end, stop = self._output.push(bits, span.start, span.end)
        if end == span.start or not self._protect or not bits & WRITTEN:
            return not stop
        partial = end - span.start != 1 << table.fmt.shift
        if partial and not self._mm.machine.quirks.scan_protects_beyond_report:
            split_locked(self._mm, self._vma, span.spot, span.start)
            self._output.back_out(span.start, end)
            return True
        arm_entry(table, slot)
        flush_range(self._mm, span.start, end)
        return not stop

    def _table(self, span: Span) -> bool:
        """Part of a PTE table, whose lock is held."""
        table = span.spot.table
        armed: list[int] = []
        if self._protect and not self._output.wanted:
            # Nobody asked for a report: every page that is not protected yet is protected, whatever
            # the masks say ("fast path for performing exclusive WP").
            for index in span.indexes:
                if self._classifier.written(table.fmt, table.read(index, "scan: look")):
                    arm_entry(table, index)
                    armed.append(index)
            stop = False
        else:
            stop = self._report(span, armed)
        if armed:
            shift = table.fmt.shift
            base = span.start - (span.spot.slot << shift)
            stopped_at = self._output.walk_end if stop else span.end
            if self._mm.machine.quirks.scan_flushes_only_changes:
                stopped_at = base + (armed[-1] + 1 << shift)
            flush_range(self._mm, base + (armed[0] << shift), stopped_at)
        return not stop

    def _report(self, span: Span, armed: list[int]) -> bool:
        """Classify entry by entry, report runs of equals; True where a limit stopped the scan."""
        table, area_bits = span.spot.table, self._area_bits
        fmt, read = table.fmt, table.read
        classify = self._classifier.written if self._only_written else self._classifier.entry
        first, run_bits = span.spot.slot, -1
        for index in span.indexes:
            bits = classify(fmt, read(index, "scan: look"))
            if bits != run_bits:
                if self._run(span, first, index, area_bits | run_bits, armed):
                    return True
                first, run_bits = index, bits
        return self._run(span, first, span.indexes.stop, area_bits | run_bits, armed)

    def _run(self, span: Span, first: int, last: int, bits: int, armed: list[int]) -> bool:
        """Report entries [first, last) of a table, which look alike, and protect those that fitted."""
        if first == last or not self._output.matches(bits):
            return False
        shift = span.spot.table.fmt.shift
        base = span.start - (span.spot.slot << shift)
        end, stop = self._output.push(bits, base + (first << shift), base + (last << shift))
        if self._protect and bits & WRITTEN:
            for index in range(first, end - base >> shift):
                arm_entry(span.spot.table, index)
                armed.append(index)
        return stop


def arm_entry(table: Table, index: int) -> None:
    """Protect one entry (``make_uffd_wp_pte``): its bit, or a marker where nothing is."""
    fmt = table.fmt
    entry = table.read(index, "scan: protect")
    if not entry:
        table.write(index, fmt.marker_entry(MARKER_UFFD_WP), "scan: install marker")
    elif fmt.kind(entry) == LEAF:
        # Hardware may set accessed and dirty meanwhile: take the entry out, change it, put it back.
        entry = table.take_out(index, "scan: take out")
        table.write(index, fmt.mkuffd_wp(entry), "scan: put back protected")
    else:
        table.write(index, fmt.swp_mkuffd_wp(entry), "scan: protect absent")
