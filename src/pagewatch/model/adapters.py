"""The model as the ports that trackers stand on (:mod:`pagewatch.ports`)."""

import errno
from collections.abc import Sequence
from contextlib import suppress

from pagewatch.model.kernel import Process
from pagewatch.model.madvise import Advice
from pagewatch.model.uffd.context import Feature, Mode
from pagewatch.model.vma import VM_EXEC, VM_READ, VM_SHARED, VM_WRITE, Vma
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.errors import RangeNotArmed, RangeNotTrackable, TargetGone
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import Regions
from pagewatch.vocab.scan import Scan


class ModelScanner:
    """PAGEMAP_SCAN of one process of the model."""

    def __init__(self, process: Process) -> None:
        """:param process: not owned."""
        self._process = process
        self._latest = Regions()

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
        """See :meth:`pagewatch.ports.Scanner.scan`."""
        scan = self._process.scan(
            start,
            end,
            query,
            protect=protect,
            require_armed=require_armed,
            max_pages=max_pages,
            max_regions=max_regions,
        )
        if protect:
            self._latest = scan.regions
        return scan

    def latest(self) -> Regions:
        """See :meth:`pagewatch.ports.Scanner.latest`."""
        return self._latest

    def forget(self) -> None:
        """See :meth:`pagewatch.ports.Scanner.forget`."""
        self._latest = Regions()


class ModelProtection:
    """An asynchronous userfaultfd of one process of the model; owns it."""

    def __init__(self, process: Process) -> None:
        """:param process: not owned."""
        self._process = process
        self._uffd = process.userfaultfd(Feature.WP_ASYNC)

    def register(self, start: int, end: int) -> None:
        """See :meth:`pagewatch.ports.WriteProtection.register`."""
        try:
            self._uffd.register(start, end - start, Mode.WP)
        except OSError as error:
            if self._process.mm.dead:
                raise TargetGone(self._process.mm.id) from error
            raise RangeNotTrackable(start, end, _REFUSALS.get(error.errno or 0, str(error))) from error

    def protect(self, start: int, end: int) -> None:
        """See :meth:`pagewatch.ports.WriteProtection.protect`."""
        try:
            self._uffd.writeprotect(start, end - start)
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise TargetGone(self._process.mm.id) from error
            page = self._process.mm.machine.page_bytes
            raise RangeNotArmed(Regions([(start, end)], page_size=page)) from error

    def unregister(self, start: int, end: int) -> None:
        """See :meth:`pagewatch.ports.WriteProtection.unregister`."""
        for vma in self._process.mm.vmas.overlapping(start, end):
            if vma.uffd is self._uffd.context:
                first, last = max(start, vma.start), min(end, vma.end)
                self._uffd.unregister(first, last - first)

    def close(self) -> None:
        """Close the descriptor: what is left is lifted."""
        self._uffd.close()


_REFUSALS = {
    errno.EINVAL: "the kernel cannot write-protect this kind of mapping",
    errno.EPERM: "it maps a file that may not be written",
    errno.EBUSY: "another userfaultfd watches it",
}


class ModelLayout:
    """Mappings and pins of one process of the model."""

    def __init__(self, process: Process) -> None:
        """:param process: not owned."""
        self._process = process
        self._mappings: tuple[Mapping, ...] = ()
        self._pins: tuple[BlindSpot, ...] = ()

    def mappings(self) -> Sequence[Mapping]:
        """See :meth:`pagewatch.ports.Layout.mappings`."""
        mm = self._process.mm
        if mm.dead:
            raise TargetGone(mm.id)
        found = tuple(_mapping(vma, mm.machine.page_shift) for vma in mm.vmas)
        if found != self._mappings:
            self._mappings = found
        return self._mappings

    def pins(self) -> Sequence[BlindSpot]:
        """See :meth:`pagewatch.ports.Layout.pins`; the model knows exactly what is pinned."""
        page = self._process.mm.machine.page_bytes
        pages = Regions([(at, at + page) for at in self._process.pinned_addresses()], page_size=page).plain()
        found = tuple(BlindSpot(part.start, part.end, BlindReason.PINNED) for part in pages)
        if found != self._pins:
            self._pins = found
        return self._pins

    def table_budget_bytes(self) -> int:
        """See :meth:`pagewatch.ports.Layout.table_budget_bytes`."""
        return 1 << 30


class ModelHugePages:
    """Transparent huge pages of one process of the model."""

    def __init__(self, process: Process) -> None:
        """:param process: not owned."""
        self._process = process

    def huge_page_size(self) -> int:
        """See :meth:`pagewatch.ports.HugePages.huge_page_size`."""
        return self._process.mm.machine.thp_bytes

    def collapse(self, start: int, end: int) -> int:
        """See :meth:`pagewatch.ports.HugePages.collapse`."""
        size = self.huge_page_size()
        if not size:
            return 0
        n_bytes = 0
        for at in range(start, end, size):
            with suppress(OSError):  # pinned, watched, or not fit for one
                self._process.madvise(at, size, Advice.COLLAPSE)
                n_bytes += size
        return n_bytes


class StepClock:
    """A clock that ticks whenever it is read: deterministic, and strictly monotonic."""

    def __init__(self) -> None:
        self._now_ns = 0

    def now_ns(self) -> int:
        """See :meth:`pagewatch.ports.Clock.now_ns`."""
        self._now_ns += 1
        return self._now_ns


def _mapping(vma: Vma, page_shift: int) -> Mapping:
    letters = "".join(
        letter if vma.flags & flag else "-" for flag, letter in ((VM_READ, "r"), (VM_WRITE, "w"), (VM_EXEC, "x"))
    )
    return Mapping(
        start=vma.start,
        end=vma.end,
        permissions=letters + ("s" if vma.flags & VM_SHARED else "p"),
        offset=0 if vma.file is None else vma.pgoff << page_shift,
        inode=0 if vma.file is None else vma.file.number,
        name=vma.name,
        page_size=vma.page_bytes,
    )
