"""PAGEMAP_SCAN, right where the raw call is not.

Some facts about the raw call, and what they mean here
------------------------------------------------------
* Output is staged in pieces of 512 regions; a call that emits more and then finishes leaves ``walk_end`` at the
  last piece (still so in 7.2), and a loop "until walk_end is the end" reads that piece twice. So a call that
  filled neither limit has finished, whatever walk_end says, and a resume never goes back before what was output.
* An error after the walk began (EPERM of CHECK_WPASYNC at a later mapping, EFAULT) loses the count of regions
  although they are stored and, with WP_MATCHING, protected already. So the vector is kept zeroed beyond what was
  used; what an aborted call stored can then always be counted, and nothing is lost.
* Without a vector, WP_MATCHING ignores masks and max_pages at the page-table level. So there always is a vector.
* A hugetlb page that the range or max_pages cuts is neither output nor protected and the walk goes on behind it.
  walk_end then points at it, so that a resume loop never ends, unless a limit met later overwrites it: then
  nothing tells of it any more. So a protecting scan with limits looks first and takes each run of huge pages by
  itself, and a part that the edge of a call cut is reported, stays unprotected and so is written in the next
  scan, too: over-reported, never lost.
* After exec or exit of the target a scan fails with ESRCH (newer kernels) or succeeds with no region at all (6.7 to
  6.18, before some stable update). So of an empty result of another process it must be asked whether that lives
  (:class:`pagewatch.linux.adapters.OtherScanner` does).
"""

import errno
import os
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pagewatch.linux.abi.pagemap import (
    PAGEMAP_SCAN,
    PM_SCAN_CHECK_WPASYNC,
    PM_SCAN_WP_MATCHING,
    pm_scan_arg,
)
from pagewatch.linux.proc import ADDRESS_SPACE_GONE, open_proc
from pagewatch.linux.scan_vector import ScanVector
from pagewatch.linux.scan_walk import Walk
from pagewatch.linux.syscalls import ioctl, is_unknown_call
from pagewatch.vocab.addresses import PAGE_SIZE, is_page_aligned, page_ceil
from pagewatch.vocab.categories import Category
from pagewatch.vocab.closing import Closing
from pagewatch.vocab.errors import FeatureMissing, InvalidArgument, RangeNotArmed, TargetGone, TrackerClosed
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import REGION, Regions, merge_touching
from pagewatch.vocab.scan import Scan

_FIRST_CAPACITY = 1024
_MAX_CAPACITY = 1 << 19
_GROWTH = 8
_ARG_BYTES = 96
# What a call would have protected, had it been whole.
_CUTTABLE = Category.HUGE | Category.WPALLOWED | Category.WRITTEN
_UNARMED = Query(Category.WPALLOWED, Category.WPALLOWED)


class PagemapScanner(Closing):
    """PAGEMAP_SCAN on one process's pagemap; owns the descriptor. Not safe for several threads at once."""

    def __init__(self, pid: int | None = None) -> None:
        """:param pid: the process to look at; None for this one.

        :raises TargetGone: no such process, or one without memory (a kernel thread, a zombie).
        :raises NotPermitted: ptrace access is needed and not granted.
        """
        self._pid = os.getpid() if pid is None else pid
        self._fd = open_proc(self._pid, "pagemap")
        self._arg = pm_scan_arg(size=_ARG_BYTES)
        self._encoded: Query | None = None
        self._latest: Walk | None = None
        # What a scan protected is in its output alone, so reading scans, also those in its midst, keep off it.
        self._protected = ScanVector(_FIRST_CAPACITY)
        self._read = ScanVector(_FIRST_CAPACITY)
        self._probe_vector = np.zeros(1, REGION)
        self._probe = pm_scan_arg(size=_ARG_BYTES, vec=self._probe_vector.ctypes.data, vec_len=1)

    def scan(
        self,
        start: int,
        end: int,
        query: Query,
        *,
        protect: bool = False,
        require_armed: bool = False,
        max_pages: int = 0,
        max_regions: int | None = None,
    ) -> Scan:
        """See :meth:`pagewatch.ports.Scanner.scan`.

        :raises RangeNotArmed: with ``require_armed``; carries what was scanned before.
        :raises TargetGone: the address space is gone, and this kernel says so.
        :raises InvalidArgument: the range is backwards, misaligned or outside user space, or a limit is negative.
        :raises FeatureMissing: the kernel has no PAGEMAP_SCAN (before 6.7).
        """
        _check_arguments(start, end, max_pages, max_regions)
        if self._fd < 0:
            raise TrackerClosed("the scanner is closed")
        flags = (PM_SCAN_WP_MATCHING if protect else 0) | (PM_SCAN_CHECK_WPASYNC if require_armed else 0)
        walk = Walk(start, page_ceil(end), max_pages, max_regions)
        if protect:
            vector = self._protected
            if vector.in_use:
                self._rescue_output()
            self._latest = walk
        else:
            vector = self._read
            if vector.in_use:
                vector.renew(len(vector.room[0]))
        while not walk.done:
            self._step(walk, query, flags, vector)
        return walk.result()

    def latest(self) -> Regions:
        """See :meth:`pagewatch.ports.Scanner.latest`."""
        if self._protected.in_use:
            self._rescue_output()
        return self._latest.everything() if self._latest else Regions()

    def forget(self) -> None:
        """See :meth:`pagewatch.ports.Scanner.forget`."""
        self._latest = None

    def _rescue_output(self) -> None:
        """Take what an interrupted call protected and left in its vector; it may be interrupted here again."""
        vector = self._protected
        array, _ = vector.room
        left = vector.count()
        if left and self._latest:
            self._latest.in_hand = array[:left].copy()
        vector.renew(len(array))

    def address_space_exists(self) -> bool:
        """Whether the address space that was opened still exists; False after the process exited or exec'd."""
        # Of a living one every page has a word, mapped or not.
        return bool(os.pread(self._fd, 8, 0))

    def close(self) -> None:
        """Close the descriptor; closing twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _step(self, walk: Walk, query: Query, flags: int, vector: ScanVector) -> None:
        """One ioctl, its output moved into ``walk``."""
        start, end = walk.position, walk.end
        if flags & PM_SCAN_WP_MATCHING and walk.limited:
            end = self._end_before_huge_pages(walk, query)
        arg = self._arg
        array, arg.vec = vector.room
        arg.flags, arg.start, arg.end, arg.max_pages = flags, start, end, walk.pages_left
        arg.vec_len = capacity = walk.regions_wanted(len(array))
        if query is not self._encoded:
            self._encode(query)
        # From here until the output is in the walk's hand, the vector is the only record of what was protected.
        vector.in_use = True
        try:
            found = ioctl(self._fd, PAGEMAP_SCAN, arg)
        except OSError as error:
            walk.take(vector.move_out(vector.count(), walk))
            raise self._translated(error, walk) from error
        walk_end = int(arg.walk_end)
        output = vector.move_out(found, walk)
        if found == len(array) < _MAX_CAPACITY:
            vector.renew(min(len(array) * _GROWTH, _MAX_CAPACITY))
        full = found == capacity or walk.fills_pages(output)
        # A call that filled no limit has walked everything; a stale walk_end lies before what was output.
        reached = max(walk_end, int(output["end"][-1]) if found else start) if full else end
        if flags & PM_SCAN_WP_MATCHING and (full or walk_end < end):
            output = self._with_cut_huge_pages(output, start, reached, query)
        walk.take(output)
        walk.go_on_at(reached)

    def _end_before_huge_pages(self, walk: Walk, query: Query) -> int:
        """Where a protecting call from ``walk.position`` must end so that no limit cuts a huge page in it.

        That is before the next run of matching huge pages or, if one begins here, where it or the limit ends.
        """
        ahead = self._get(
            walk.position,
            walk.end,
            replace(query, returned=query.returned | _CUTTABLE),
            max_pages=walk.pages_left,
            max_regions=walk.regions_left,
        )
        huge = next((region for region in ahead.regions if region.categories & _CUTTABLE == _CUTTABLE), None)
        if huge is None:
            return ahead.walk_end
        return huge.end if huge.start == walk.position else huge.start

    def _with_cut_huge_pages(
        self, output: npt.NDArray[np.void], start: int, end: int, query: Query
    ) -> npt.NDArray[np.void]:
        """Add the parts of hugetlb pages that the edges of a protecting call cut, if there are any.

        The call filled a limit or left walk_end behind; that may mean such a page, or nothing (see the module).
        """
        if not (self._is_cuttable(start, query) or self._is_cuttable(end - PAGE_SIZE, query)):
            return output
        found = self._get(start, end, replace(query, returned=query.returned | _CUTTABLE)).regions.array
        huge = found[(found["categories"] & np.uint64(_CUTTABLE)) == _CUTTABLE]
        huge["categories"] &= np.uint64(query.returned)
        cut = Regions(huge) - Regions.from_kernel(output)
        both = np.concatenate([output, cut.array])
        return merge_touching(both[np.argsort(both["start"])])

    def _is_cuttable(self, page: int, query: Query) -> bool:
        """Whether a page matches and may be part of a cut huge page.

        On the way of every long result, so without the ceremony of a scan.
        """
        probe = self._probe
        probe.start, probe.end = page, page + PAGE_SIZE
        probe.category_inverted, probe.category_mask = query.inverted, query.mask
        probe.category_anyof_mask, probe.return_mask = query.anyof, _CUTTABLE
        return ioctl(self._fd, PAGEMAP_SCAN, probe) > 0 and bool(self._probe_vector["categories"][0] == _CUTTABLE)

    def _get(self, start: int, end: int, query: Query, *, max_pages: int = 0, max_regions: int | None = None) -> Scan:
        return PagemapScanner.scan(self, start, end, query, max_pages=max_pages, max_regions=max_regions)

    def _translated(self, error: OSError, walk: Walk) -> Exception:
        if is_unknown_call(error):
            return no_pagemap_scan()
        if error.errno == errno.ESRCH:
            return TargetGone(self._pid, ADDRESS_SPACE_GONE)
        if error.errno == errno.EPERM:
            return RangeNotArmed(self._get(walk.first, walk.end, _UNARMED).regions, walk.result())
        if error.errno == errno.EFAULT:
            return InvalidArgument(f"{walk.first:#x}-{walk.end:#x} is not a range of user space")
        if error.errno == errno.EINVAL:
            # All else that the kernel could object to is right by construction.
            return FeatureMissing(
                "pagemap_scan", "this kernel does not know all categories of the query", "soft_dirty: 6.8; guard: 6.16"
            )
        return error

    def _encode(self, query: Query) -> None:
        arg = self._arg
        self._encoded = None
        arg.category_inverted, arg.category_mask = query.inverted, query.mask
        arg.category_anyof_mask, arg.return_mask = query.anyof, query.returned
        self._encoded = query


def no_pagemap_scan() -> FeatureMissing:
    """The error where the kernel does not know the ioctl."""
    return FeatureMissing("pagemap_scan", "this kernel has no PAGEMAP_SCAN", "Linux 6.7 or newer has it")


def _check_arguments(start: int, end: int, max_pages: int, max_regions: int | None) -> None:
    if not is_page_aligned(start):
        raise InvalidArgument(f"start {start:#x} is not a multiple of the page size, {PAGE_SIZE}")
    if not 0 <= start <= end < 1 << 64:
        raise InvalidArgument(f"{start:#x}-{end:#x} is not a range: it must not end before it starts")
    if page_ceil(end) >> 64:
        raise InvalidArgument(f"{start:#x}-{end:#x} is not a range of user space")
    if max_pages < 0 or (max_regions is not None and max_regions < 0):
        raise InvalidArgument("max_pages and max_regions cannot be negative")
