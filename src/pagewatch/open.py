"""The composition root: the only place where trackers meet a world."""

import operator
import os
import warnings
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from pagewatch.linux.adapters import LiveHugePages, LiveLayout, MonotonicClock, OtherScanner
from pagewatch.linux.maps import MapsReader
from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.linux.process import Process
from pagewatch.linux.selftests import known_losses
from pagewatch.linux.userfaultfd import UserfaultFd, open_userfaultfd
from pagewatch.trackers.base import Tracker
from pagewatch.trackers.scope import Everything, Ranges, Scope
from pagewatch.trackers.uffd_async import UffdAsync
from pagewatch.trackers.write_watch import WriteWatch as RangeWatch
from pagewatch.vocab.addresses import page_ceil, page_floor
from pagewatch.vocab.buffers import buffer_of, buffer_span
from pagewatch.vocab.errors import InvalidArgument

METHODS = ("auto", "uffd-async")
"""What :func:`track` takes as ``method``."""


def track(
    target: Any,
    *,
    method: str = "auto",
    ranges: Sequence[tuple[int, int]] | None = None,
    strict: bool = False,
    collapse_on_close: bool = False,
) -> Tracker:
    """A tracker of a buffer, an address range or a process; arm it by entering it with ``with``.

    :param target: anything with the buffer protocol (an array, bytearray, mmap, shared memory; a CPU tensor), a
        (start, end) pair of addresses of this process, or a :class:`~pagewatch.linux.process.Process` (attached,
        unless it is this one). Edge pages count as a whole: what lies beside the buffer on them is tracked, too.
    :param method: "uffd-async", or "auto" for the best that this kernel has.
    :param ranges: (start, end) pairs of a process to which tracking is limited; default: all that it can write,
        including what it maps later.
    :param strict: report blind spots as written, too.
    :param collapse_on_close: put transparent huge pages that tracking split together again on close.
    :raises InvalidArgument: not a target, or a bad range or method.
    :raises FeatureMissing: this kernel cannot; see its hint.
    :raises NotPermitted: this user may not, or the process is not attached.
    """
    if method not in METHODS:
        raise InvalidArgument(f"unknown method {method!r}; this version has: {', '.join(METHODS)}")
    with ExitStack() as resources:
        if isinstance(target, Process):
            process = target
            follows = not process.is_self
            scope: Scope = Everything() if ranges is None else Ranges(_checked(ranges), follows_layout=follows)
            protection = _protection_of(process, resources)
        else:
            if ranges is not None:
                raise InvalidArgument("ranges go with a Process; pass a slice of the array instead")
            scope = Ranges([_span_of(target, resources)])
            process = None
            protection = resources.enter_context(UserfaultFd(open_userfaultfd(), os.getpid()))
        maps = resources.enter_context(MapsReader(process.pid if process else None))
        scanner = OtherScanner(process.pid) if process and not process.is_self else PagemapScanner()
        resources.callback(scanner.close)
        kept = resources.pop_all()
        tracker = UffdAsync(
            scanner=scanner,
            protection=protection,
            layout=LiveLayout(maps),
            huge_pages=LiveHugePages(maps),
            clock=MonotonicClock(),
            scope=scope,
            known_losses=known_losses(),
            strict=strict,
            collapse_on_close=collapse_on_close,
            release=kept.close,
        )
    give_back_when_dropped(tracker, kept, "a tracker")
    return tracker


def give_back_when_dropped(owner: object, kept: ExitStack, name: str) -> None:
    """See that what its owner closes is closed, with a warning, if nobody does: memory would stay armed for ever.

    :param name: of the owner, for the warning.
    """
    dropped = weakref.finalize(owner, _give_back, kept, name)
    dropped.atexit = False
    kept.callback(dropped.detach)


def _give_back(kept: ExitStack, name: str) -> None:
    kept.close()
    warnings.warn(f"{name} was dropped without being closed; use it with 'with'", ResourceWarning, stacklevel=1)


def _protection_of(process: Process, resources: ExitStack) -> UserfaultFd:
    """Trackers of this process each have a handle of their own; another process has one, for one tracker."""
    if process.is_self:
        return resources.enter_context(UserfaultFd(open_userfaultfd(), process.pid))
    protection = process.lend_protection()
    resources.callback(process.take_back_protection)
    return protection


def open_write_watch(target: Any, resources: ExitStack) -> tuple[tuple[int, int], PagemapScanner, RangeWatch]:
    """The page-aligned range of a target in this process, under watch, and the scanner that looks at it.

    :param resources: take over what it takes, the target included.
    :raises PagewatchError: as for :class:`pagewatch.watch.WriteWatch`.
    """
    span = _span_of(target, resources)
    protection = resources.enter_context(UserfaultFd(open_userfaultfd(), os.getpid()))
    scanner = resources.enter_context(PagemapScanner())
    return span, scanner, RangeWatch(*span, scanner=scanner, protection=protection)


def _span_of(target: Any, resources: ExitStack) -> tuple[int, int]:
    """The page-aligned range of a target in this process, which is kept from being freed or resized."""
    if isinstance(target, tuple):
        return _checked([target])[0]
    target = buffer_of(target)
    start, n_bytes = buffer_span(target)
    try:
        # An exported view keeps a bytearray from being resized and an mmap from being closed.
        resources.enter_context(memoryview(target))
    except (TypeError, ValueError, BufferError):
        # A tensor, or an element type that has no buffer format; a reference keeps its memory.
        resources.callback(id, target)
    return page_floor(start), page_ceil(start + n_bytes)


def _checked(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges rounded outward to pages, ascending, overlaps merged."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(map(_pair, ranges) if isinstance(ranges, Sequence) else [_pair(ranges)]):
        start, end = page_floor(first), page_ceil(last)
        if not 0 <= first < last < 1 << 63:
            raise InvalidArgument(f"{first:#x}-{last:#x} is not a range of user space, or is empty")
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    if not merged:
        raise InvalidArgument("no range is given: there is no page to watch")
    return merged


def _pair(bounds: Any) -> tuple[int, int]:
    try:
        first, last = map(operator.index, bounds)
    except (TypeError, ValueError):
        kinds = type(bounds).__name__
        raise InvalidArgument(f"a range is a pair (start, end) of addresses; this {kinds} is none") from None
    return first, last
