"""The model as a world for the conformance suites: everything through its public calls."""

from collections.abc import Sequence

from pagewatch.model import Kernel, Process
from pagewatch.model.adapters import ModelHugePages, ModelLayout, ModelProtection, ModelScanner, StepClock
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.trackers.base import Tracker
from pagewatch.trackers.scope import Everything, Ranges
from pagewatch.trackers.uffd_async import UffdAsync


class ModelWorld:
    """One process of a modelled kernel, and trackers of it."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self.kernel = kernel or Kernel()
        self.process: Process = self.kernel.spawn()
        self.page_size = self.kernel.machine.page_bytes

    def map(self, n_pages: int, *, shared: bool = False, at: int | None = None) -> int:
        return self.process.mmap(n_pages * self.page_size, shared=shared, at=at)

    def unmap(self, start: int, n_pages: int) -> None:
        self.process.munmap(start, n_pages * self.page_size)

    def store(self, address: int, data: bytes) -> None:
        self.process.store(address, data)

    def load(self, address: int, n_bytes: int) -> bytes:
        return self.process.load(address, n_bytes)

    def drop(self, start: int, n_pages: int) -> None:
        self.process.madvise(start, n_pages * self.page_size, Advice.DONTNEED)

    def track(self, ranges: Sequence[tuple[int, int]] | None, *, strict: bool = False, **options: object) -> Tracker:
        protection = ModelProtection(self.process)
        return UffdAsync(
            scanner=ModelScanner(self.process),
            protection=protection,
            layout=ModelLayout(self.process),
            huge_pages=ModelHugePages(self.process),
            clock=StepClock(),
            scope=Everything() if ranges is None else Ranges(ranges),
            strict=strict,
            release=protection.close,
            **options,
        )

    def check(self) -> None:
        """Every invariant of the kernel holds."""
        check(self.kernel.machine)
