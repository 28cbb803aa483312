"""A scan that is right where the raw ioctl is not, with the results and errors of the live ``Process.scan``."""

import errno
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
    room = _room(mm) if max_regions is None else max_regions
    arg = ScanArg(start=start, end=end, query=query, flags=flags, vec_len=room, max_pages=max_pages)
    reply = pagemap_scan(mm, arg)
    regions = _regions(reply.regions, page)
    walk_end = _walk_end(arg, reply, end)
    scan = Scan(regions, walk_end, complete=walk_end >= end)
    if reply.result == -errno.EPERM:
        unarmed = pagemap_scan(mm, ScanArg(start=start, end=end, query=_UNARMED, vec_len=_room(mm)))
        raise RangeNotArmed(_regions(unarmed.regions, page), Scan(regions, start, complete=False))
    if reply.result < 0:
        raise InvalidArgument(f"{start:#x}-{end:#x} is not a range of user space")
    return scan


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
