"""Collects that are interrupted at any moment, as by Ctrl-C, lose nothing and leave nothing broken."""

import ctypes
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

import pagewatch
from pagewatch.testing.epoch_contract import written_pages
from pagewatch.vocab.addresses import PAGE_SIZE
from support import libc
from support.needs import requires

pytestmark = requires("uffd_wp_async", "pagemap_scan")

_PAGES = 8192
_ROUNDS = 300


class _InterruptedError(Exception):
    pass


@contextmanager
def _interrupting() -> Iterator[None]:
    """SIGALRM raises in whatever runs."""

    def interrupt(*_: object) -> None:
        raise _InterruptedError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _collect_interrupted(tracker: pagewatch.Tracker, after_s: float) -> pagewatch.Epoch | None:
    """The epoch, unless the interruption came before it was delivered."""
    epoch = None
    # An alarm may also come while it is being switched off, or in between.
    with suppress(_InterruptedError):
        with suppress(_InterruptedError):
            signal.setitimer(signal.ITIMER_REAL, after_s)
            epoch = tracker.collect()
        signal.setitimer(signal.ITIMER_REAL, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return epoch


@pytest.mark.parametrize("stride", [2, 509], ids=["long outputs", "short outputs"])
def test_every_write_is_reported_however_often_the_collects_are_interrupted(stride):
    chance = random.Random(stride)
    start = libc.mmap(_PAGES * PAGE_SIZE)
    libc.madvise(start, _PAGES * PAGE_SIZE, libc.MADV_NOHUGEPAGE)
    ctypes.memset(start, 1, _PAGES * PAGE_SIZE)
    interrupted = 0
    try:
        with pagewatch.track((start, start + _PAGES * PAGE_SIZE)) as tracker, _interrupting():
            for _ in range(_ROUNDS):
                stored = set(range(chance.randrange(stride), _PAGES, stride))
                for page in stored:
                    ctypes.memset(start + page * PAGE_SIZE, 7, 1)
                epoch = _collect_interrupted(tracker, chance.uniform(1e-6, 0.002))
                interrupted += epoch is None
                reported = set(written_pages(epoch, start, PAGE_SIZE)) if epoch else set()
                reported |= set(written_pages(tracker.collect(), start, PAGE_SIZE))
                assert reported == stored
    finally:
        libc.munmap(start, _PAGES * PAGE_SIZE)
    assert interrupted > 10
