"""The live kernel as the ports of trackers."""

import os
import time

import pytest

from pagewatch.linux.adapters import LiveHugePages, LiveLayout, MonotonicClock, OtherScanner
from pagewatch.linux.maps import MapsReader
from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.linux.thp import huge_page_size
from pagewatch.linux.userfaultfd import UserfaultFd, open_userfaultfd
from pagewatch.ports import Clock, HugePages, Layout, Scanner, WriteProtection
from pagewatch.vocab.errors import TargetGone
from pagewatch.vocab.query import Query
from support import raw
from support.area import area
from support.forked import forked_child
from support.needs import requires

PRESENT = Query.where("present")


@requires("uffd_wp_async", "pagemap_scan")
def test_every_port_is_offered():
    with MapsReader() as maps, PagemapScanner() as scanner, UserfaultFd(open_userfaultfd(), os.getpid()) as protection:
        ports: tuple[Scanner, WriteProtection, Layout, HugePages, Clock] = (
            scanner,
            protection,
            LiveLayout(maps),
            LiveHugePages(os.getpid()),
            MonotonicClock(),
        )
        for port, offered in zip((Scanner, WriteProtection, Layout, HugePages, Clock), ports, strict=True):
            asked = {name for name in vars(port) if not name.startswith("_")}
            assert asked
            assert asked <= set(dir(offered))


@requires("pagemap_scan")
def test_a_target_that_is_gone_is_told_from_one_without_matches():
    with area(4) as memory:
        with forked_child(lambda: None) as (child, _):
            maps = MapsReader(child)
            scanner = OtherScanner(maps)
            assert len(scanner.scan(memory.start, memory.end, PRESENT).regions) == 0
        with maps, scanner, pytest.raises(TargetGone) as caught:
            scanner.scan(memory.start, memory.end, PRESENT)
        assert caught.value.pid == child


def test_the_layout_is_that_of_the_maps():
    with forked_child(lambda: None) as (child, _), MapsReader(child) as maps:
        assert LiveLayout(maps).mappings() is maps.mappings()


def test_the_budget_for_page_tables_is_a_part_of_free_memory():
    with MapsReader() as maps:
        budget = LiveLayout(maps).table_budget_bytes()
    assert 0 < budget < os.sysconf("SC_PHYS_PAGES") * raw.PAGE


def test_the_clock_runs_forward_in_nanoseconds():
    clock = MonotonicClock()
    before, now, after = time.monotonic_ns(), clock.now_ns(), time.monotonic_ns()
    assert before <= now <= after


def test_huge_pages_have_the_size_of_the_kernel():
    assert LiveHugePages(os.getpid()).huge_page_size() == huge_page_size()
