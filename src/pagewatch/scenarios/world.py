"""What the statements of a scenario act on: a modelled kernel, its processes, and what was named and seen so far.

Pages are written ``a[3]`` (page 3 of area ``a``), ``a[1:4]`` or ``a`` (all of it).
"""

import re
from typing import TYPE_CHECKING, NamedTuple

from pagewatch.model import Kernel, Process, Quirks
from pagewatch.vocab.errors import InvalidArgument, PagewatchError

if TYPE_CHECKING:
    from pagewatch.model.dirty_helpers import Bitmap
    from pagewatch.model.pins import Pin
    from pagewatch.model.uffd.fd import Userfaultfd
    from pagewatch.model.vma import Vma
    from pagewatch.trackers.base import Tracker

_PAGES = re.compile(r"(\w+)(?:\[(\d+)(?::(\d+))?\])?")


class Broken(PagewatchError):
    """An expectation does not hold; the message says which."""


class Pages(NamedTuple):
    """Some pages of an area, as bytes [start, end)."""

    area: str
    first: int
    start: int
    end: int

    @property
    def n_bytes(self) -> int:
        """How long they are."""
        return self.end - self.start


class World:
    """A kernel with two CPUs and one process, or a family of them; statements act on the one whose turn it is."""

    def __init__(self, *, arch: str, quirks: Quirks | None) -> None:
        """:param arch: a key of ``pagewatch.model.arch.ARCHES``."""
        self.kernel = Kernel(arch, cpus=2, quirks=quirks)
        self.parent: Process = self.kernel.spawn()
        self.children: list[Process] = []
        self.page_bytes = self.kernel.machine.page_bytes
        self.areas: dict[str, tuple[int, int]] = {}
        """Each area's start (bytes) and number of pages."""
        self.attempts: list[bool] = []
        """Whether each store or fill that was tried took place."""
        self.seen: set[int] = set()
        """Pages (bytes) that a collect reported."""
        self.named: set[int] = set()
        """Pages (bytes) that a tracker called a blind spot."""
        self.pins: dict[int, Pin] = {}
        """What is pinned, by address (bytes)."""
        self.bitmaps: dict[str, Bitmap] = {}
        """What ``clean`` recorded of each area."""
        self.kept: dict[tuple[str, int], bytes] = {}
        """The content that ``clean`` kept, by area and page."""
        self.uffd: Userfaultfd | None = None
        self.tracker: Tracker | None = None

    def pages(self, text: str) -> Pages:
        """What ``a``, ``a[2]`` or ``a[1:3]`` stands for.

        :raises InvalidArgument: there is no such area, or no such page in it.
        """
        match = _PAGES.fullmatch(text)
        if match is None or match[1] not in self.areas:
            raise InvalidArgument(f"{text!r}: no such area; mapped are: {', '.join(self.areas) or 'none'}")
        start, n_pages = self.areas[match[1]]
        first = int(match[2] or 0)
        last = int(match[3]) if match[3] else first + 1 if match[2] else n_pages
        if not first < last <= n_pages:
            raise InvalidArgument(f"{text!r}: {match[1]} has pages 0 to {n_pages - 1}")
        return Pages(match[1], first, start + first * self.page_bytes, start + last * self.page_bytes)

    def page_names(self, area: str, addresses: list[int]) -> str:
        """Pages of an area as statements write them, those in a row together; "none" for none."""
        numbers = sorted((address - self.areas[area][0]) // self.page_bytes for address in addresses)
        runs: list[list[int]] = []
        for number in numbers:
            if runs and runs[-1][1] == number:
                runs[-1][1] += 1
            else:
                runs.append([number, number + 1])
        return ", ".join(_run_name(area, first, last) for first, last in runs) or "none"

    def area_of(self, process: Process, text: str) -> "Vma":
        """The area of a process behind a name.

        :raises InvalidArgument: nothing is mapped there any more.
        """
        vma = process.mm.vmas.at(self.pages(text).start)
        if vma is None:
            raise InvalidArgument(f"{text} is not mapped any more")
        return vma


def _run_name(area: str, first: int, last: int) -> str:
    """Few pages one by one, as they are spoken of; many as a range."""
    if last - first > 4:
        return f"{area}[{first}:{last}]"
    return ", ".join(f"{area}[{number}]" for number in range(first, last))


def hold(holds: bool, otherwise: str) -> str:  # noqa: FBT001 - it is the very thing that is asked
    """The answer of an expectation.

    :raises Broken: it does not hold.
    """
    if not holds:
        raise Broken(otherwise)
    return "holds"
