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
* A hugetlb page that the range or max_pages cuts is neither output nor protected, the walk goes on behind it and
  walk_end points at it, so that a resume loop never ends. Here the part in range is reported, stays unprotected
  and so is written in the next scan, too: over-reported, never lost.
* After exec or exit of the target a scan succeeds with no region at all. Whoever owns the target must ask whether
  it lives (:class:`pagewatch.linux.process.Process` does).
"""

import errno
import os
from functools import lru_cache
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from pagewatch.linux.abi.pagemap import (
    PAGEMAP_SCAN,
    PM_SCAN_CHECK_WPASYNC,
    PM_SCAN_WP_MATCHING,
    pm_scan_arg,
)
from pagewatch.linux.proc import open_proc
from pagewatch.linux.syscalls import ioctl, is_unknown_call
from pagewatch.vocab.addresses import PAGE_SIZE, is_page_aligned, page_ceil
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import FeatureMissing, InvalidArgument, RangeNotArmed, TrackerClosed
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import REGION, Regions, merge_touching
from pagewatch.vocab.scan import Scan

_FIRST_CAPACITY = 1024
_MAX_CAPACITY = 1 << 19
_GROWTH = 8
_LONG_OUTPUT = 2048
_ARG_BYTES = 96


class PagemapScanner:
    """PAGEMAP_SCAN on one process's pagemap; owns the descriptor. Not safe for several threads at once."""

    def __init__(self, pid: int | None = None) -> None:
        """:param pid: the process to look at; None for this one.

        :raises TargetGone: no such process, or one without memory (a kernel thread, a zombie).
        :raises NotPermitted: ptrace access is needed and not granted.
        """
        self._fd = open_proc(os.getpid() if pid is None else pid, "pagemap")
        self._arg = pm_scan_arg(size=_ARG_BYTES)
        self._probe_vector = np.zeros(1, REGION)
        self._probe = pm_scan_arg(size=_ARG_BYTES, vec=self._probe_vector.ctypes.data, vec_len=1)
        self._use_vector(_FIRST_CAPACITY)

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
        :raises InvalidArgument: the range is backwards, misaligned or outside user space, or a limit is negative.
        :raises FeatureMissing: the kernel has no PAGEMAP_SCAN (before 6.7).
        """
        _check_arguments(start, end, max_pages, max_regions)
        if self._fd < 0:
            raise TrackerClosed("the scanner is closed")
        arg = self._arg
        arg.flags = (PM_SCAN_WP_MATCHING if protect else 0) | (PM_SCAN_CHECK_WPASYNC if require_armed else 0)
        arg.category_inverted = query.inverted
        arg.category_mask = query.mask
        arg.category_anyof_mask = query.anyof
        arg.return_mask = query.returned
        walk = _Walk(start, page_ceil(end), max_pages, max_regions)
        while not walk.done:
            self._step(walk, query)
        return walk.result()

    def close(self) -> None:
        """Close the descriptor; closing twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _step(self, walk: "_Walk", query: Query) -> None:
        """One ioctl, its output moved into ``walk``."""
        arg = self._arg
        arg.start, arg.end, arg.max_pages = walk.position, walk.end, walk.pages_left
        arg.vec_len = capacity = walk.regions_wanted(len(self._vector))
        try:
            found = ioctl(self._fd, PAGEMAP_SCAN, arg)
        except OSError as error:
            walk.take(self._move_out(int(np.count_nonzero(self._vector["end"]))))
            raise self._translated(error, walk) from error
        output = self._move_out(found)
        walk.take(output)
        if found == capacity or (walk.max_pages and not walk.pages_left):
            walk.stopped_at(int(arg.walk_end))
            if found == len(self._vector) < _MAX_CAPACITY:
                self._use_vector(len(self._vector) * _GROWTH)
        elif arg.walk_end < walk.end and arg.flags & PM_SCAN_WP_MATCHING:
            self._report_cut_huge_pages(walk, query, output)
        else:
            walk.finished()

    def _report_cut_huge_pages(self, walk: "_Walk", query: Query, output: npt.NDArray[np.void]) -> None:
        """Report, unprotected, the parts of hugetlb pages that the range or max_pages cut, if there are any.

        The call did all the rest. It filled no limit and still left walk_end behind, so either it skipped such a
        page, or this is the stale walk_end of a long result.
        """
        huge = _huge_only(query)
        edges = (walk.position, walk.end - PAGE_SIZE)
        if huge is None or not (walk.max_pages or any(self._page_matches(page, huge) for page in edges)):
            walk.finished()
            return
        done = Regions(output).plain()
        cut = self._get(walk.position, walk.end, huge) - done
        walk.take_cut(cut)

    def _page_matches(self, page: int, query: Query) -> bool:
        """Whether one page matches. On the way of every long result, so without the ceremony of a scan."""
        probe = self._probe
        probe.start, probe.end = page, page + PAGE_SIZE
        probe.category_inverted, probe.category_mask = query.inverted, query.mask
        probe.category_anyof_mask = query.anyof
        return ioctl(self._fd, PAGEMAP_SCAN, probe) > 0

    def _get(self, start: int, end: int, query: Query) -> Regions:
        return PagemapScanner.scan(self, start, end, query).regions

    def _translated(self, error: OSError, walk: "_Walk") -> Exception:
        if is_unknown_call(error):
            return no_pagemap_scan()
        if error.errno == errno.EPERM:
            return RangeNotArmed(self._get(walk.first, walk.end, _UNARMED), walk.result())
        if error.errno == errno.EFAULT:
            return InvalidArgument(f"{walk.first:#x}-{walk.end:#x} is not a range of user space")
        return error

    def _use_vector(self, capacity: int) -> None:
        """A vector of zeroes; it stays zero beyond what a call used."""
        self._vector = np.zeros(capacity, REGION)
        self._arg.vec = self._vector.ctypes.data

    def _move_out(self, n_regions: int) -> npt.NDArray[np.void]:
        """The first regions of the vector, which then is all zeroes again.

        A long output is given away with its vector: a copy of it, onto fresh pages, would cost more.
        """
        used = self._vector[:n_regions]
        if n_regions > _LONG_OUTPUT:
            self._use_vector(len(self._vector))
            return used
        output = used.copy()
        used.view(np.uint64)[:] = 0
        return output


def no_pagemap_scan() -> FeatureMissing:
    """The error where the kernel does not know the ioctl."""
    return FeatureMissing("pagemap_scan", "this kernel has no PAGEMAP_SCAN", "Linux 6.7 or newer has it")


_UNARMED = Query(Category.WPALLOWED, Category.WPALLOWED)


class _Walk:
    """The progress of one scan over several ioctls."""

    __slots__ = (
        "_pages",
        "_parts",
        "_regions",
        "done",
        "end",
        "first",
        "max_pages",
        "max_regions",
        "position",
    )

    def __init__(self, start: int, end: int, max_pages: int, max_regions: int | None) -> None:
        self.first = self.position = start
        self.end = end
        self.max_pages = max_pages
        self.max_regions = max_regions
        self.done = max_regions == 0 and start < end
        self._parts: list[npt.NDArray[np.void]] = []
        self._pages = 0
        self._regions = 0

    @property
    def pages_left(self) -> int:
        """Pages that may still be output; also 0 where there is no limit, as the ioctl has it."""
        return self.max_pages - self._pages if self.max_pages else 0

    def regions_wanted(self, capacity: int) -> int:
        """Regions to ask the kernel for, with a vector of that capacity."""
        return capacity if self.max_regions is None else min(capacity, self.max_regions - self._regions)

    def take(self, output: npt.NDArray[np.void]) -> None:
        """Add what an ioctl found."""
        if not len(output):
            return
        if self.max_pages:
            self._pages += int((output["end"] - output["start"]).sum()) // PAGE_SIZE
        if self.max_regions is not None:
            self._regions += len(output) - (bool(self._parts) and _touch(self._parts[-1], output))
        self._parts.append(output)

    def take_cut(self, cut: Regions) -> None:
        """Add parts of huge pages that were skipped, as far as the limits allow, and go on behind them."""
        room = self.max_pages - self._pages if self.max_pages else cut.pages
        addresses = cut.page_addresses()[: max(room, 0)]
        if self.max_pages and len(addresses) < cut.pages:
            self.position = int(cut.page_addresses()[len(addresses)])
            self.done = True
        else:
            self.finished()
        bits = cut.array["categories"][np.searchsorted(cut.array["end"], addresses, side="right")]
        for value in np.unique(bits):
            part = Regions.from_pages(addresses[bits == value], Category(int(value)))
            self.take(part.array.copy())

    def stopped_at(self, walk_end: int) -> None:
        """A limit of the ioctl was filled: go on there, unless it is the caller's limit."""
        # A stale walk_end lies before what was output.
        self.position = max(walk_end, int(self._parts[-1]["end"][-1])) if self._parts else walk_end
        full = self.max_regions is not None and self._regions >= self.max_regions
        self.done = self.position >= self.end or full or (self.max_pages > 0 and not self.pages_left)

    def finished(self) -> None:
        """The whole range was walked."""
        self.position = self.end
        self.done = True

    def result(self) -> Scan:
        """Everything found so far."""
        if len(self._parts) == 1:
            regions = Regions.from_kernel(self._parts[0])
        elif self._parts:
            parts = np.concatenate(self._parts)
            parts.sort(order="start")
            regions = Regions.from_kernel(merge_touching(parts))
        else:
            regions = Regions()
        return Scan(regions=regions, walk_end=self.position, complete=self.position >= self.end)


def _touch(before: npt.NDArray[np.void], after: npt.NDArray[np.void]) -> bool:
    last, first = before[-1], after[0]
    return bool(last["end"] == first["start"] and last["categories"] == first["categories"])


@lru_cache(maxsize=64)
def _huge_only(query: Query) -> Query | None:
    """The query narrowed to huge pages; None where it excludes them."""
    huge = Category.HUGE
    if huge & query.inverted & query.mask:
        return None
    anyof = query.anyof
    if anyof & huge:
        # "not huge" is no alternative any more; plain "huge" makes the whole group true.
        anyof = anyof & ~huge if query.inverted & huge else Category(0)
        if query.inverted & huge and not anyof:
            return None
    return Query(query.inverted & ~huge, query.mask | huge, anyof, query.returned)


def _check_arguments(start: int, end: int, max_pages: int, max_regions: int | None) -> None:
    if not is_page_aligned(start):
        raise InvalidArgument(f"start {start:#x} is not a multiple of the page size, {PAGE_SIZE}")
    if not 0 <= start <= end < 1 << 64:
        raise InvalidArgument(f"{start:#x}-{end:#x} is not a range: it must not end before it starts")
    if max_pages < 0 or (max_regions is not None and max_regions < 0):
        raise InvalidArgument("max_pages and max_regions cannot be negative")
