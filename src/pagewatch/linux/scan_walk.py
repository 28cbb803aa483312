"""The progress of one scan over several calls of PAGEMAP_SCAN."""

from functools import reduce
from operator import or_

import numpy as np
import numpy.typing as npt

from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.regions import Regions, merge_touching
from pagewatch.vocab.scan import Scan

_NOTHING = Regions()


class Walk:
    """What one scan has found and where it stands; its output comes in ascending order."""

    __slots__ = (
        "_pages",
        "_parts",
        "_regions",
        "done",
        "end",
        "first",
        "in_hand",
        "max_pages",
        "max_regions",
        "position",
    )

    def __init__(self, start: int, end: int, max_pages: int, max_regions: int | None) -> None:
        """:param end: bytes, page aligned.
        :param max_pages: 0 for no limit.
        :param max_regions: None for no limit.
        """
        self.first = self.position = start
        self.end = end
        self.max_pages = max_pages
        self.max_regions = max_regions
        self.done = max_regions == 0 and start < end
        self.in_hand: npt.NDArray[np.void] | None = None
        """Output that was not taken yet: what an exception in between must not lose."""
        self._parts: list[npt.NDArray[np.void]] = []
        self._pages = 0
        self._regions = 0

    @property
    def pages_left(self) -> int:
        """Pages that may still be output; also 0 where there is no limit, as the ioctl has it."""
        return self.max_pages - self._pages if self.max_pages else 0

    @property
    def regions_left(self) -> int | None:
        """Regions that may still be output; None where there is no limit."""
        return None if self.max_regions is None else self.max_regions - self._regions

    @property
    def limited(self) -> bool:
        """Whether the caller set a limit."""
        return bool(self.max_pages) or self.max_regions is not None

    def regions_wanted(self, capacity: int) -> int:
        """Regions to ask the kernel for, with a vector of that capacity."""
        return capacity if self.max_regions is None else min(capacity, self.max_regions - self._regions)

    def fills_pages(self, output: npt.NDArray[np.void]) -> bool:
        """Whether that output uses up ``max_pages``."""
        return bool(self.max_pages) and self._pages + _count_pages(output) >= self.max_pages

    def take(self, output: npt.NDArray[np.void]) -> None:
        """Add what an ioctl found."""
        if not len(output):
            self.in_hand = None
            return
        if self.max_pages:
            self._pages += _count_pages(output)
        if self.max_regions is not None:
            self._regions += len(output) - (bool(self._parts) and _touch(self._parts[-1], output))
        self._parts.append(output)
        self.in_hand = None

    def go_on_at(self, address: int) -> None:
        """Everything before ``address`` was walked."""
        self.position = address
        full = self.max_regions is not None and self._regions >= self.max_regions
        self.done = address >= self.end or full or (self.max_pages > 0 and not self.pages_left)

    def everything(self) -> Regions:
        """All that was found, taken or not; some of it may have been found twice."""
        parts = self._parts if self.in_hand is None else [*self._parts, self.in_hand]
        return reduce(or_, (Regions.from_kernel(part.copy()) for part in parts), Regions())

    def result(self) -> Scan:
        """Everything found so far."""
        if len(self._parts) == 1:
            regions = Regions.from_kernel(self._parts[0])
        elif self._parts:
            regions = Regions.from_kernel(merge_touching(np.concatenate(self._parts)))
        else:
            regions = _NOTHING
        return Scan(regions, self.position, self.position >= self.end)


def _touch(before: npt.NDArray[np.void], after: npt.NDArray[np.void]) -> bool:
    last, first = before[-1], after[0]
    return bool(last["end"] == first["start"] and last["categories"] == first["categories"])


def _count_pages(output: npt.NDArray[np.void]) -> int:
    return int((output["end"] - output["start"]).sum()) // PAGE_SIZE
