"""What a world offers to trackers: narrow Protocols, one per mechanism.

A world is the live kernel (``pagewatch.linux.adapters``) or a model of it. Trackers, and whatever else
must run on both, depend on these and never on a world. Addresses are bytes, page aligned.
"""

from collections.abc import Sequence
from typing import Protocol

from pagewatch.vocab.blindspots import BlindSpot
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import Regions
from pagewatch.vocab.scan import Scan


class Scanner(Protocol):
    """PAGEMAP_SCAN of one address space."""

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
        """Report the pages of [start, end) that match; with ``protect`` also re-arm those, atomically.

        Per page, report and re-arm happen as one step: a write is in this result or makes the page
        WRITTEN again for the next. The result as a whole is not one instant.

        :param max_pages: stop after that many pages; 0 for no limit.
        :param max_regions: stop after that many regions; None for no limit.
        :raises RangeNotArmed: with ``require_armed``, mapped memory in the range is not armed; the error
            carries what was scanned.
        :raises TargetGone: the address space no longer exists.
        """
        ...

    def latest(self) -> Regions:
        """What the latest protecting scan has found, also where an exception (Ctrl-C) kept its result from you."""
        ...

    def forget(self) -> None:
        """What was found so far has arrived: until the next protecting scan :meth:`latest` is nothing."""
        ...


class WriteProtection(Protocol):
    """A userfaultfd in asynchronous write-protect mode, bound to one address space."""

    def register(self, start: int, end: int) -> None:
        """Put the mappings in the range under asynchronous write-protection; nothing is protected yet.

        :raises RangeNotTrackable: the kernel refuses one of the mappings, or another owns it.
        :raises TargetGone: the address space no longer exists.
        """
        ...

    def protect(self, start: int, end: int) -> None:
        """Write-protect every page of a registered range, populated or not.

        :raises RangeNotArmed: part of the range is not registered (any more).
        """
        ...

    def unregister(self, start: int, end: int) -> None:
        """Lift registration and protection; ranges that are gone already are no error."""
        ...


class Layout(Protocol):
    """What an address space has mapped."""

    def mappings(self) -> Sequence[Mapping]:
        """All mappings, ascending; the same object as before as long as nothing changed.

        :raises TargetGone: the address space no longer exists.
        """
        ...

    def pins(self) -> Sequence[BlindSpot]:
        """Memory that devices or io_uring hold pinned now: their writes bypass the page tables.

        The same object as before as long as nothing changed. A spot of unknown place spans everything.
        """
        ...

    def table_budget_bytes(self) -> int:
        """How many bytes of page tables arming one mapping may cost at most."""
        ...


class HugePages(Protocol):
    """Putting split transparent huge pages together again."""

    def huge_page_size(self) -> int:
        """Bytes of a transparent huge page; 0 where there are none."""
        ...

    def collapse(self, start: int, end: int) -> int:
        """Try to make [start, end) huge again; returns the bytes that now are."""
        ...


class Clock(Protocol):
    """A monotonic clock."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary start."""
        ...
