"""Carrying out a request of the draft interface: its own matching, output and protection (``draft`` has the facts)."""

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pagewatch.model.change import Change
from pagewatch.model.hugetlb.entries import HugePage, find
from pagewatch.model.hugetlb.locks import owned_file, reading
from pagewatch.model.hugetlb.protect import change_huge_page
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.protect import change_protection
from pagewatch.model.scan.classify import HUGE, WRITTEN, Classifier, hole_categories, wp_allowed
from pagewatch.model.scan.draft import OP_GET, OP_WP, SHIFT, DraftArg, DraftReply, check_args
from pagewatch.model.scan.walk import arm_entry
from pagewatch.model.thp import split_locked
from pagewatch.model.tlb import flush_range
from pagewatch.model.vma import VM_PFNMAP
from pagewatch.model.walk import Span, locked_spans

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma

CHUNK_PAGES = 512
"""The mmap lock is dropped after so many."""


def draft_scan(mm: "Mm", arg: DraftArg) -> DraftReply:
    """Run the draft's ioctl; errors are in the reply."""
    error = check_args(mm, arg)
    if error:
        return DraftReply(-error, (), None)
    walk = _Walk(mm, arg)
    page = mm.machine.page_bytes
    end = arg.end + page - 1 & -page
    if arg.flags & OP_WP:
        with invalidating(mm, Event.PROTECTION_VMA, arg.start, end):
            error = walk.run(arg.start, end)
    else:
        error = walk.run(arg.start, end)
    regions = tuple((start, n_pages, bits) for start, n_pages, bits in walk.regions)
    return DraftReply(-error if error else len(regions), regions, walk.walk_end)


class _Full(Exception):
    """A limit ends the walk, at ``walk_end``; or an error does."""

    def __init__(self, error: int = 0) -> None:
        super().__init__(error)
        self.error = error


class _Walk:
    """One walk of the draft: its own matching, output and protection."""

    def __init__(self, mm: "Mm", arg: DraftArg) -> None:
        self._mm = mm
        self._arg = arg
        self._get, self._protect = bool(arg.flags & OP_GET), bool(arg.flags & OP_WP)
        masks = arg.required | arg.anyof | arg.excluded
        self._require_armed = bool(masks << SHIFT & WRITTEN)
        self._classifier = Classifier(mm.machine, want_file=True)
        self._max_pages = arg.max_pages or 1 << 64
        self._found_pages = 0
        self._shift = mm.machine.page_shift
        self._last = False
        self.regions: list[list[int]] = []
        self.walk_end = arg.start

    def run(self, start: int, end: int) -> int:
        """Walk [start, end) piece by piece; returns an errno, or 0."""
        piece = CHUNK_PAGES << self._shift
        try:
            while start < end:
                stop = min(end, start + piece & -piece)
                with self._mm.mmap_lock.shared:
                    for vma in self._areas(start, stop):
                        self._area(vma, max(start, vma.start), min(stop, vma.end))
                start = self.walk_end = stop
        except _Full as full:
            return full.error
        return 0

    def _areas(self, start: int, end: int) -> "Iterator[Vma]":
        for vma in () if self._mm.dead else self._mm.vmas.overlapping(start, end):
            if not wp_allowed(vma):
                if self._require_armed:
                    raise _Full(errno.EPERM)
                if self._protect:
                    continue
            if not vma.flags & VM_PFNMAP:
                yield vma

    def _area(self, vma: "Vma", start: int, end: int) -> None:
        if vma.hugetlb:
            while start < end:
                stop = min(end, (start & -vma.page_bytes) + vma.page_bytes)
                self._hugetlb(vma, start, stop)
                start = stop
            return
        for span in locked_spans(self._mm, start, end, "draft scan: walk"):
            if span.hole:
                self._hole(vma, span.start, span.end)
            elif span.spot.level:
                self._huge(vma, span)
            else:
                self._table(span)

    def _hole(self, vma: "Vma", start: int, end: int) -> None:
        bits = hole_categories(self._mm.machine, vma)
        if not self._wanted(bits):
            return
        stop = self._output(bits, start, end)
        if self._protect and bits & WRITTEN:
            change_protection(self._mm, vma, start, stop, Change.WP)
        self._stop_if_full()

    def _huge(self, vma: "Vma", span: Span) -> None:
        """Part of a huge leaf; what is to be protected in part is split, and comes again."""
        table, slot, entry, _ = span.spot
        bits = self._classifier.huge(table.fmt, entry)
        if not self._wanted(bits):
            return
        n_pages = min(span.end - span.start >> self._shift, self._left)
        arms = self._protect and bool(bits & WRITTEN)
        if arms and n_pages << self._shift < 1 << table.fmt.shift:
            split_locked(self._mm, vma, span.spot, span.start)
            return
        self._output(bits, span.start, span.end)
        if arms:
            arm_entry(table, slot)
            flush_range(self._mm, span.start, span.end)
        self._stop_if_full()

    def _table(self, span: Span) -> None:
        table, address = span.spot.table, span.start
        armed: list[int] = []
        try:
            for index in span.indexes:
                bits = self._classifier.entry(table.fmt, table.read(index, "draft scan: look"))
                if self._wanted(bits):
                    self._output(bits, address, address + (1 << table.fmt.shift))
                    if self._protect and bits & WRITTEN:
                        arm_entry(table, index)
                        armed.append(address)
                    self._stop_if_full()
                address += 1 << table.fmt.shift
        finally:
            if armed:
                flush_range(self._mm, span.start, armed[-1] + (1 << table.fmt.shift))

    def _hugetlb(self, vma: "Vma", start: int, end: int) -> None:
        with reading(self._mm.machine, vma):
            page = find(self._mm, start, vma.page_bytes, "draft scan: walk")
            if page is not None and self._protect:
                with owned_file(vma).i_mmap_lock.exclusive, page.lock:
                    self._hugetlb_page(vma, page, start, end)
            elif page is not None:
                self._hugetlb_page(vma, page, start, end)
        if page is None:
            self._hole(vma, start, end)

    def _hugetlb_page(self, vma: "Vma", page: HugePage, start: int, end: int) -> None:
        if self._protect and end - start != vma.page_bytes:
            self.walk_end = start
            raise _Full(errno.EINVAL)
        entry = page.read("draft scan: look")
        bits = HUGE | (self._classifier.entry(page.fmt, entry) if entry else 0)
        if not self._wanted(bits):
            return
        arms = self._protect and bool(bits & WRITTEN)
        if arms and self._left < end - start >> self._shift:
            self.walk_end = start
            raise _Full
        self._output(bits, start, end)
        if arms:
            change_huge_page(self._mm, vma, page, Change.WP)
            flush_range(self._mm, start, end)
        self._stop_if_full()

    @property
    def _left(self) -> int:
        """How many pages may still be found."""
        return self._max_pages - self._found_pages

    def _wanted(self, categories: int) -> bool:
        """The draft's formula; WP alone asks for everything."""
        arg, bits = self._arg, categories >> SHIFT
        if not self._get:
            return True
        return (
            bits & arg.required == arg.required and (not arg.anyof or bits & arg.anyof != 0) and not bits & arg.excluded
        )

    def _output(self, categories: int, start: int, end: int) -> int:
        """Report pages; returns the end of those that fitted. Who finds no room for a region ends the walk."""
        if not self._get:
            return end
        bits, n_pages = categories >> SHIFT & self._arg.returned, min(end - start >> self._shift, self._left)
        last = self.regions[-1] if self.regions else [0, 0, -1]
        if last[0] + (last[1] << self._shift) == start and last[2] == bits:
            last[1] += n_pages
        elif len(self.regions) == self._arg.vec_len:
            self.walk_end = start
            raise _Full
        else:
            self.regions.append([start, n_pages, bits])
        self._found_pages += n_pages
        if not self._left:
            self.walk_end, self._last = start + (n_pages << self._shift), True
        return start + (n_pages << self._shift)

    def _stop_if_full(self) -> None:
        """End the walk behind the last page of the limit; it is protected by now, if it was to be."""
        if self._last:
            raise _Full
