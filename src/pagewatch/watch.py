"""GetWriteWatch and ResetWriteWatch, as Windows has them, for memory of this process."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from pagewatch.open import give_back_when_dropped, open_write_watch
from pagewatch.vocab.addresses import PAGE_SIZE, page_ceil, page_floor
from pagewatch.vocab.closing import Closing
from pagewatch.vocab.errors import InvalidArgument, TrackerBusy, TrackerClosed
from pagewatch.vocab.regions import Regions


class WriteWatch(Closing):
    """Which pages of a buffer or range were written since they were last reset; a context manager.

    Two differences to Windows: a system call counts for the pages that it really wrote, and MADV_DONTNEED of private
    memory is a write. Addresses are absolute, in bytes. Safe to use from several threads. Where an error or Ctrl-C
    keeps a scan's answer from you, what it had reset is in the next answer.
    """

    granularity: int = PAGE_SIZE
    """Bytes that one answer stands for."""

    def __init__(self, buffer_or_range: Any) -> None:
        """Watch from here on.

        :param buffer_or_range: what :func:`pagewatch.track` takes of this process's memory; whole pages are watched.
        :raises InvalidArgument: it is neither a buffer nor a range.
        :raises RangeNotTrackable: the kernel cannot protect it, nothing is mapped there, or it is watched already.
        :raises FeatureMissing: this kernel cannot.
        :raises NotPermitted: this user may not.
        """
        # Reentrant, so that a signal handler is told that it may not enter instead of waiting for its own thread.
        self._lock = threading.RLock()
        self._busy = self._closed = False
        self._owner_pid = os.getpid()
        self._pending = Regions()
        with ExitStack() as resources:
            (self._start, self._end), self._scanner, self._watch = open_write_watch(buffer_or_range, resources)
            self._resources = resources.pop_all()
        give_back_when_dropped(self, self._resources, "a write watch")

    def get(
        self, start: int | None = None, end: int | None = None, *, reset: bool = False, max_count: int | None = None
    ) -> npt.NDArray[np.uint64]:
        """The addresses of written pages in [start, end), ascending; by default in all that is watched.

        :param start: bytes; the page that it lies in counts. So for ``end``, which is exclusive.
        :param reset: watch just the pages of the answer anew, each in one step with reading it.
        :param max_count: no more than so many; the others stay written.
        :raises InvalidArgument: the range is empty or not within what is watched, or no page is asked for.
        :raises RangeNotArmed: some of the memory was mapped anew, and is not watched.
        """
        bounds = self._bounds(start, end)
        if max_count is not None and max_count <= 0:
            raise InvalidArgument(f"max_count is a positive number of pages or None, not {max_count}")
        with self._turn():
            if reset:
                self._scanner.forget()
            try:
                found = self._watch.get(*bounds, reset=reset, max_pages=max_count or 0).regions
            except BaseException:
                if reset:
                    self._pending |= self._scanner.latest()
                raise
            found |= self._pending.clip(*bounds)
            pages = found.page_addresses()[:max_count]
            if reset:
                self._pending = (self._pending | found) - Regions.from_pages(pages)
        return pages

    def reset(self, start: int | None = None, end: int | None = None) -> None:
        """Watch [start, end) anew, and forget what was written there; by default in all that is watched.

        :raises InvalidArgument: the range is empty or not within what is watched.
        :raises RangeNotArmed: some of the memory was mapped anew, and is not watched.
        """
        bounds = self._bounds(start, end)
        with self._turn():
            self._watch.reset(*bounds)
            self._pending -= Regions([bounds])

    def close(self) -> None:
        """Watch no more. Closing twice is no error."""
        if os.getpid() != self._owner_pid:
            # Not the child's to lift; its copy of the lock may be held by a thread that it does not have.
            return
        with self._lock:
            if not self._closed:
                self._closed = True
                try:
                    self._watch.close()
                finally:
                    self._resources.close()

    def _bounds(self, start: int | None, end: int | None) -> tuple[int, int]:
        first, last = self._start if start is None else start, self._end if end is None else end
        if not self._start <= first < last <= self._end:
            raise InvalidArgument(
                f"{first:#x}-{last:#x} is empty or not within what is watched, {self._start:#x}-{self._end:#x}"
            )
        return page_floor(first), page_ceil(last)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if os.getpid() != self._owner_pid:
            raise TrackerClosed(f"this write watch belongs to process {self._owner_pid}; make one in the forked child")
        with self._lock:
            if self._busy:
                raise TrackerBusy("a signal handler called the write watch while its thread was using it")
            if self._closed:
                raise TrackerClosed("the write watch is closed")
            try:
                self._busy = True
                yield
            finally:
                self._busy = False
