"""The PAGEMAP_SCAN ioctl: argument checks, the loop over chunks, and what comes back.

walk_end is where to go on: the end, or the first matching page that a limit left out. The kernel's bug
is kept as a quirk: each full chunk of 512 regions stores walk_end, and a complete last chunk does not
reset it, so a call that found more than 512 regions reports the start of its last chunk.
"""

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.scan.output import Output, Row
from pagewatch.model.scan.walk import ScanWalk
from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm

ARG_BYTES = 96
"""``sizeof(struct pm_scan_arg)``; no other size is accepted."""
REGION_BYTES = 24
"""``sizeof(struct page_region)``."""
VEC = 1 << 20
"""Where the vector is, unless somebody cares."""
WP_MATCHING = 1
"""Flag: protect what is reported and WRITTEN."""
CHECK_WPASYNC = 2
"""Flag: fail at an area that is not armed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanArg:
    """``struct pm_scan_arg``. The query's masks hold valid categories already: bad bits are a QueryError."""

    start: int
    end: int
    query: Query
    flags: int = 0
    vec: int = VEC
    """Address of the vector: only NULL and out-of-range matter here."""
    vec_len: int = 0
    max_pages: int = 0
    size: int = ARG_BYTES


@dataclass(frozen=True, slots=True)
class ScanReply:
    """What the ioctl returns and writes back."""

    result: int
    """Number of regions, or a negative errno."""
    regions: tuple[Row, ...]
    """What was written to the vector, also before an error."""
    walk_end: int | None
    """None where argument checks failed: it is not written then."""
    found_pages: int = 0


def pagemap_scan(mm: "Mm", arg: ScanArg) -> ScanReply:
    """Run the ioctl; errors are in the reply, because some of them come with results."""
    error = errno.ESRCH if mm.dead and mm.machine.quirks.scan_of_dead_fails else _check(mm, arg)
    if error:
        return ScanReply(-error, (), None)
    page = mm.machine.page_bytes
    end = arg.end + page - 1 & -page
    vec_len = arg.vec_len if arg.vec else 0
    output = Output(arg.query, mm.machine.page_shift, max_pages=arg.max_pages, vec_len=vec_len)
    # In the address space of a dead or replaced process nothing is mapped.
    error = 0 if mm.dead else _chunks(mm, arg, end, output)
    walk_end = output.walk_end
    if error == 0 and not output.left_out and not mm.machine.quirks.scan_stale_walk_end:
        walk_end = 0
    result = -error if error not in (0, errno.ENOSPC) else len(output.regions)
    return ScanReply(result, tuple(output.regions), walk_end or end, output.found_pages)


def _chunks(mm: "Mm", arg: ScanArg, end: int, output: Output) -> int:
    """Walk until done or stopped; the mmap lock is dropped whenever the stage is full."""
    protect = bool(arg.flags & WP_MATCHING)
    walk = ScanWalk(mm, arg.query, output, protect=protect, require_armed=bool(arg.flags & CHECK_WPASYNC))
    start, error = arg.start, 0
    while start < end:
        with mm.mmap_lock.shared:
            if protect:
                with invalidating(mm, Event.PROTECTION_VMA, start, end):
                    error = walk.run(start, end)
            else:
                error = walk.run(start, end)
        output.empty_stage()
        if error != errno.ENOSPC or not output.stage_size or output.found_pages == output.max_pages:
            return error
        start = output.walk_end
    return error


def _check(mm: "Mm", arg: ScanArg) -> int:
    """``pagemap_scan_get_args``, in the kernel's order; an errno, or 0."""
    if arg.size != ARG_BYTES or arg.flags & ~(WP_MATCHING | CHECK_WPASYNC):
        return errno.EINVAL
    query = arg.query
    asked = query.inverted | query.mask | query.anyof | query.returned
    if asked & Category.GUARD and not mm.machine.quirks.guard_category:
        return errno.EINVAL
    if arg.start & mm.machine.page_bytes - 1:
        return errno.EINVAL
    if arg.end < arg.start or arg.end > mm.top:
        return errno.EFAULT
    if not arg.vec and arg.vec_len:
        return errno.EINVAL
    if arg.vec + arg.vec_len * REGION_BYTES > mm.top:
        return errno.EFAULT
    return 0
