"""A scan that is right where the raw ioctl is not, with the results and errors of the live ``Process.scan``."""

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pagewatch.model.scan.call import CHECK_WPASYNC, REGION_BYTES, VEC, WP_MATCHING, ScanArg, ScanReply, pagemap_scan
from pagewatch.model.scan.output import Row
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import InvalidArgument, RangeNotArmed, TargetGone
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import REGION, Regions, merge_touching
from pagewatch.vocab.scan import Scan

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm

# What a call would have protected, had it been whole.
_CUTTABLE = Category.HUGE | Category.WPALLOWED | Category.WRITTEN
_UNARMED = Query(Category.WPALLOWED, Category.WPALLOWED)


def scan_range(
    mm: "Mm", start: int, end: int, query: Query, *, flags: int, max_pages: int, max_regions: int | None
) -> Scan:
    """Scan [start, end) (bytes).

    :raises RangeNotArmed: with CHECK_WPASYNC; carries what was scanned before.
    :raises TargetGone: the process exited.
    :raises InvalidArgument: a bad range or limit.
    """
    page = mm.machine.page_bytes
    _check(start, end, page, max_pages, max_regions)
    if mm.dead:
        raise TargetGone(mm.id)
    end = end + page - 1 & -page
    if start == end or max_regions == 0:
        return Scan(Regions(page_size=page), start, complete=start == end)
    if flags & WP_MATCHING and any(vma.hugetlb for vma in mm.vmas.overlapping(start, end)):
        regions, walk_end, error = _whole_pages(
            mm, start, end, query, flags, max_pages=max_pages, max_regions=max_regions
        )
    else:
        regions, walk_end, error = _call(mm, start, end, query, flags, max_pages=max_pages, max_regions=max_regions)
    if error == errno.EPERM:
        unarmed, _, _ = _call(mm, start, end, _UNARMED, 0, max_pages=0, max_regions=None)
        raise RangeNotArmed(unarmed, Scan(regions, start, complete=False))
    if error:
        raise InvalidArgument(f"{start:#x}-{end:#x} is not a range of user space")
    return Scan(regions, walk_end, complete=walk_end >= end)


_Found = tuple[Regions, int, int]
"""What was found, where to go on (bytes), and an errno or 0."""


def _call(
    mm: "Mm", start: int, end: int, query: Query, flags: int, *, max_pages: int, max_regions: int | None
) -> _Found:
    """One raw call, with its walk_end put right."""
    room = _room(mm) if max_regions is None else max_regions
    arg = ScanArg(start=start, end=end, query=query, flags=flags, vec_len=room, max_pages=max_pages)
    reply = pagemap_scan(mm, arg)
    error = -reply.result if reply.result < 0 else 0
    return _regions(reply.regions, mm.machine.page_bytes), _walk_end(arg, reply, end), error


def _whole_pages(
    mm: "Mm", start: int, end: int, query: Query, flags: int, *, max_pages: int, max_regions: int | None
) -> _Found:
    """A protecting scan of memory with hugetlb pages: no limit cuts one, and what the edges cut is reported, too.

    A part stays unprotected, so the next scan reports it again: over-reported, never lost.
    """
    found, position = Regions(page_size=mm.machine.page_bytes), start
    while position < end:
        n_pages = max_pages - found.pages if max_pages else 0
        n_regions = None if max_regions is None else max_regions - len(found)
        if (max_pages and not n_pages) or (n_regions is not None and n_regions <= 0):
            break
        stop = end
        if max_pages or max_regions is not None:
            stop = _before_huge_pages(mm, position, end, query, n_pages, n_regions)
        part, reached, error = _call(mm, position, stop, query, flags, max_pages=n_pages, max_regions=n_regions)
        if error:
            return found | part, start, error
        found |= part | _cut(mm, position, reached, query, part)
        position = reached
    return found, position, 0


def _before_huge_pages(mm: "Mm", start: int, end: int, query: Query, max_pages: int, max_regions: int | None) -> int:
    """Where a call must end so that no limit cuts a huge page in it: each run of those is taken by itself."""
    marked = replace(query, returned=query.returned | _CUTTABLE)
    ahead, walk_end, _ = _call(mm, start, end, marked, 0, max_pages=max_pages, max_regions=max_regions)
    huge = next((region for region in ahead if region.categories & _CUTTABLE == _CUTTABLE), None)
    if huge is None:
        return walk_end
    return huge.end if huge.start == start else huge.start


def _cut(mm: "Mm", start: int, end: int, query: Query, output: Regions) -> Regions:
    """Parts of huge pages that match and that the edges of a protecting call left out."""
    marked, _, _ = _call(
        mm, start, end, replace(query, returned=query.returned | _CUTTABLE), 0, max_pages=0, max_regions=None
    )
    rows = marked.array.copy()
    rows = rows[(rows["categories"] & np.uint64(_CUTTABLE)) == _CUTTABLE]
    rows["categories"] &= np.uint64(query.returned)
    return Regions(rows, page_size=mm.machine.page_bytes) - output


def _room(mm: "Mm") -> int:
    """A vector that fills all of user space: no limit."""
    return (mm.top - VEC) // REGION_BYTES


def flags_of(*, protect: bool, require_armed: bool) -> int:
    """The ioctl's flags."""
    return (WP_MATCHING if protect else 0) | (CHECK_WPASYNC if require_armed else 0)


def _walk_end(arg: ScanArg, reply: ScanReply, end: int) -> int:
    """A call that filled neither limit has finished; a walk_end before the output is stale."""
    full = len(reply.regions) >= arg.vec_len or (arg.max_pages and reply.found_pages >= arg.max_pages)
    if not full or reply.walk_end is None:
        return end
    return max(reply.walk_end, reply.regions[-1][1])


def _regions(rows: tuple[Row, ...], page_bytes: int) -> Regions:
    return Regions.from_kernel(merge_touching(np.array(list(rows), REGION)), page_size=page_bytes)


def _check(start: int, end: int, page: int, max_pages: int, max_regions: int | None) -> None:
    if start & page - 1:
        raise InvalidArgument(f"start {start:#x} is not a multiple of the page size, {page}")
    if not 0 <= start <= end < 1 << 64:
        raise InvalidArgument(f"{start:#x}-{end:#x} is not a range: it must not end before it starts")
    if max_pages < 0 or (max_regions is not None and max_regions < 0):
        raise InvalidArgument("max_pages and max_regions cannot be negative")
