"""The self-tests for kernel bugs against the same experiment done by hand, with raw calls."""

import ctypes
import errno
import os

import pytest

from pagewatch.linux import selftests
from pagewatch.vocab.blindspots import BlindReason
from support import libc, raw
from support.area import area
from support.needs import requires

pytestmark = requires("uffd_wp_async", "pagemap_scan")

P = raw.PAGE


def written_pages(memory):
    return memory.pages(raw.scan(memory.start, memory.end, mask=raw.WRITTEN).regions)


def test_dropped_pages():
    with area(2) as memory:
        memory.store([0, 1])
        with raw.armed((memory.start, memory.end)):
            memory.advise(libc.MADV_DONTNEED, 1, 2)
            assert selftests.reports_dropped_pages() == (written_pages(memory) == [1])


@requires("thp")
def test_dropped_huge_pages():
    with area(512, align=512 * P) as memory:
        memory.advise(libc.MADV_HUGEPAGE)
        memory.store(range(512))
        with raw.armed((memory.start, memory.end)):
            memory.advise(libc.MADV_DONTNEED)
            seen = written_pages(memory) == list(range(512))
    assert selftests.reports_dropped_huge_pages() == seen
    assert selftests.known_losses() == (() if seen else (BlindReason.ZAP_UNSEEN,))


def test_writes_by_system_calls():
    reading, writing = os.pipe()
    os.write(writing, b"x")
    os.close(writing)
    with area(2) as memory, open(reading, "rb", buffering=0) as source:  # noqa: PTH123 - owns the descriptor
        memory.store([0, 1])
        with raw.armed((memory.start, memory.end)):
            source.readinto((ctypes.c_char * 1).from_address(memory.at(1)))
            assert selftests.reports_kernel_writes() == (written_pages(memory) == [1])


@pytest.mark.parametrize("n_regions", [512, 513])
def test_the_end_of_long_scans(n_regions):
    """Exact up to 512 regions on every kernel, so the self-test must ask for more."""
    with area(2 * n_regions) as memory:
        memory.advise(libc.MADV_NOHUGEPAGE)
        memory.store(range(0, 2 * n_regions, 2))
        answer = raw.scan(memory.start, memory.end, mask=raw.PRESENT, returned=raw.PRESENT)
    assert len(answer.regions) == n_regions
    exact = answer.walk_end == memory.end
    assert exact if n_regions == 512 else exact == selftests.reports_exact_walk_end()


def test_an_unexpected_error_is_no_verdict(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "PAGEMAP_SCAN: odd")

    monkeypatch.setattr(selftests, "ioctl", refuse)
    with pytest.raises(OSError, match="odd"):
        selftests.reports_exact_walk_end()
