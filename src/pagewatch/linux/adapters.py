"""The live kernel as the ports that trackers stand on (``pagewatch.ports``)."""

import os
import time
from collections.abc import Sequence

from pagewatch.linux import thp
from pagewatch.linux.maps import MapsReader
from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.linux.pins import pinned_spots
from pagewatch.linux.proc import available_bytes, read_fields
from pagewatch.vocab.blindspots import BlindSpot
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.query import Query
from pagewatch.vocab.scan import Scan

# Page tables cannot be swapped out; an eighth of what is free is what a guest may take of its host.
_TABLE_SHARE = 8


class OtherScanner(PagemapScanner):
    """PAGEMAP_SCAN of another process: notices that it is gone, which the raw call does not."""

    def __init__(self, maps: MapsReader) -> None:
        """:param maps: a reader opened on the same address space; not owned."""
        super().__init__(maps.pid)
        self._maps = maps

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

        :raises TargetGone: nothing was found because the address space is gone.
        """
        scan = super().scan(
            start,
            end,
            query,
            protect=protect,
            require_armed=require_armed,
            max_pages=max_pages,
            max_regions=max_regions,
        )
        if not len(scan.regions):
            self._maps.check_alive()
        return scan


class LiveLayout:
    """Mappings, pins and page-table budget of one process."""

    def __init__(self, maps: MapsReader) -> None:
        """:param maps: not owned."""
        self._maps = maps
        self._pinned_text = ""
        self._pins: Sequence[BlindSpot] = ()

    def mappings(self) -> Sequence[Mapping]:
        """See :meth:`pagewatch.ports.Layout.mappings`."""
        return self._maps.mappings()

    def pins(self) -> Sequence[BlindSpot]:
        """See :meth:`pagewatch.ports.Layout.pins`; looks at descriptors only when the pinned amount changed."""
        try:
            text = read_fields(f"/proc/{self._maps.pid}/status").get("VmPin", "")
        except OSError:
            return self._pins
        if text != self._pinned_text:
            self._pinned_text = text
            self._pins = pinned_spots(self._maps.pid)
        return self._pins

    def table_budget_bytes(self) -> int:
        """See :meth:`pagewatch.ports.Layout.table_budget_bytes`."""
        return available_bytes() // _TABLE_SHARE


class LiveHugePages:
    """Transparent huge pages of one process."""

    def __init__(self, pid: int) -> None:
        """:param pid: a process that exists."""
        self._pid = pid

    def huge_page_size(self) -> int:
        """See :meth:`pagewatch.ports.HugePages.huge_page_size`."""
        return thp.huge_page_size()

    def collapse(self, start: int, end: int) -> int:
        """See :meth:`pagewatch.ports.HugePages.collapse`."""
        try:
            pidfd = os.pidfd_open(self._pid)
        except ProcessLookupError:
            return 0
        try:
            return thp.collapse(pidfd, start, end)
        finally:
            os.close(pidfd)


class MonotonicClock:
    """CLOCK_MONOTONIC."""

    def now_ns(self) -> int:
        """See :meth:`pagewatch.ports.Clock.now_ns`."""
        return time.monotonic_ns()
