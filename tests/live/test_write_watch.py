"""Write watch on the running kernel: get, get and reset, reset alone."""

import os

from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.linux.userfaultfd import UserfaultFd, open_userfaultfd
from pagewatch.trackers.write_watch import WriteWatch
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.scan import Scan
from support.needs import requires
from support.own_world import own_world


@requires("uffd_wp_async", "pagemap_scan")
def test_writes_are_told_once_and_reset_forgets_them():
    with (
        own_world() as world,
        PagemapScanner() as scanner,
        UserfaultFd(open_userfaultfd(), os.getpid()) as protection,
    ):
        start = world.map(8)
        end = start + 8 * PAGE_SIZE
        watch = WriteWatch(start, end, scanner=scanner, protection=protection)

        def pages(scan: Scan) -> list[int]:
            return [(int(address) - start) // PAGE_SIZE for address in scan.regions.page_addresses()]

        for page in (1, 2, 6):
            world.store(start + page * PAGE_SIZE, b"x")
        assert pages(watch.get()) == [1, 2, 6]
        assert pages(watch.get(reset=True, max_pages=2)) == [1, 2]
        assert pages(watch.get(reset=True)) == [6]
        world.store(start, b"x")
        watch.reset()
        assert pages(watch.get()) == []
        watch.close()
