"""The live kernel as the ports that trackers stand on (``pagewatch.ports``)."""

import os
import time
from collections.abc import Sequence

from pagewatch.linux import thp
from pagewatch.linux.maps import MapsReader
from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.linux.pins import pinned_spots
from pagewatch.linux.proc import ADDRESS_SPACE_GONE, available_bytes, read_field
from pagewatch.vocab.blindspots import BlindSpot
from pagewatch.vocab.errors import TargetGone
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.query import Query
from pagewatch.vocab.scan import Scan

# Page tables cannot be swapped out; an eighth of what is free is what a guest may take of its host.
_TABLE_SHARE = 8


class OtherScanner(PagemapScanner):
    """PAGEMAP_SCAN of another process: notices that it is gone, which not every kernel's call does."""

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
        if not len(scan.regions) and not self.address_space_exists():
            raise TargetGone(self._pid, ADDRESS_SPACE_GONE)
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
        """See :meth:`pagewatch.ports.Layout.pins`; looks at descriptors only where something is pinned at all."""
        try:
            text = read_field(f"/proc/{self._maps.pid}/status", "VmPin")
        except OSError:
            return self._pins
        # The amount alone does not tell: one buffer may have taken the place of another.
        if text != self._pinned_text or text not in ("", "0 kB"):
            self._pinned_text = text
            pins = pinned_spots(self._maps.pid)
            self._pins = self._pins if pins == self._pins else pins
        return self._pins

    def table_budget_bytes(self) -> int:
        """See :meth:`pagewatch.ports.Layout.table_budget_bytes`."""
        return available_bytes() // _TABLE_SHARE


class LiveHugePages:
    """Transparent huge pages of one process."""

    def __init__(self, maps: MapsReader) -> None:
        """:param maps: of the address space; not owned."""
        self._maps = maps

    def huge_page_size(self) -> int:
        """See :meth:`pagewatch.ports.HugePages.huge_page_size`."""
        return thp.huge_page_size()

    def collapse(self, start: int, end: int) -> int:
        """See :meth:`pagewatch.ports.HugePages.collapse`."""
        try:
            pidfd = os.pidfd_open(self._maps.pid)
        except ProcessLookupError:
            return 0
        try:
            self._maps.check_alive()
            return thp.collapse(pidfd, start, end)
        finally:
            os.close(pidfd)


class MonotonicClock:
    """CLOCK_MONOTONIC."""

    def now_ns(self) -> int:
        """See :meth:`pagewatch.ports.Clock.now_ns`."""
        return time.monotonic_ns()
