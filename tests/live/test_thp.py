"""Transparent huge pages: their size, and collapsing split ones."""

import os
from pathlib import Path

import pytest

from pagewatch.linux.adapters import LiveHugePages
from pagewatch.linux.thp import collapse, huge_page_size
from support import libc, raw
from support.area import area
from support.forked import forked_child
from support.needs import requires

SIZE = huge_page_size()
pytestmark = [requires("thp"), pytest.mark.skipif(not SIZE, reason="this kernel has no transparent huge pages")]


@pytest.fixture
def pidfd():
    fd = os.pidfd_open(os.getpid())
    yield fd
    os.close(fd)


def is_huge(memory, page):
    return bool(raw.categories(memory.at(page), memory.at(page + 1)).get(memory.at(page), 0) & raw.HUGE)


def test_size_is_what_meminfo_counts_in():
    with area(2 * SIZE // raw.PAGE, align=SIZE) as memory:
        memory.advise(libc.MADV_HUGEPAGE)
        memory.store([0])
        if not is_huge(memory, 0):
            pytest.skip("the kernel gave no huge page")
        assert is_huge(memory, SIZE // raw.PAGE - 1)
        assert not is_huge(memory, SIZE // raw.PAGE)


def test_small_pages_become_huge(pidfd):
    with area(3 * SIZE // raw.PAGE, align=SIZE) as memory:
        memory.advise(libc.MADV_NOHUGEPAGE)
        memory.store(range(memory.n_pages), value=5)
        memory.advise(libc.MADV_HUGEPAGE)
        assert not is_huge(memory, 0)
        assert collapse(pidfd, memory.start, memory.end) == 3 * SIZE
        assert is_huge(memory, 0)
        assert memory.load(range(memory.n_pages)) == [5] * memory.n_pages


def test_pieces_that_the_kernel_declines_are_skipped(pidfd):
    with area(3 * SIZE // raw.PAGE, align=SIZE) as memory:
        memory.advise(libc.MADV_NOHUGEPAGE)
        memory.store(range(memory.n_pages))
        libc.munmap(memory.start + SIZE, SIZE)
        for first in (0, 2):
            memory.advise(libc.MADV_HUGEPAGE, first * SIZE // raw.PAGE, (first + 1) * SIZE // raw.PAGE)
        assert collapse(pidfd, memory.start, memory.end) == 2 * SIZE


def test_nothing_is_collapsed_in_a_process_that_is_gone():
    with forked_child(lambda: None) as (child, _):
        fd = os.pidfd_open(child)
    try:
        assert collapse(fd, 0, SIZE) == 0
    finally:
        os.close(fd)
    assert LiveHugePages(child).collapse(0, SIZE) == 0


def test_another_process_is_collapsed_from_outside():
    with area(SIZE // raw.PAGE, align=SIZE) as memory:
        memory.advise(libc.MADV_NOHUGEPAGE)

        def populate():
            memory.store(range(memory.n_pages))
            memory.advise(libc.MADV_HUGEPAGE)

        with forked_child(populate) as (child, _):
            assert LiveHugePages(child).collapse(memory.start, memory.end) == SIZE
            (found,) = raw.scan(memory.start, memory.end, mask=raw.HUGE, pid=child).regions
            assert found[:2] == (memory.start, memory.end)


def test_no_huge_pages_have_size_zero(monkeypatch):
    monkeypatch.setattr("pagewatch.linux.thp._SIZE_FILE", Path("/proc/no/such/file"))
    assert huge_page_size() == 0
    assert collapse(-1, 0, 1 << 30) == 0
