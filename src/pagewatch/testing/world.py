"""What a world must offer to have its trackers tested."""

from collections.abc import Sequence
from typing import Protocol

from pagewatch.trackers.base import Tracker


class TrackedWorld(Protocol):
    """An address space that a test can change, and trackers of it. Addresses and lengths are bytes."""

    page_size: int

    def map(self, n_pages: int, *, shared: bool = False, at: int | None = None) -> int:
        """Map fresh memory, readable and writable, and return its start; ``at`` replaces what is there."""
        ...

    def unmap(self, start: int, n_pages: int) -> None:
        """Remove mappings."""
        ...

    def store(self, address: int, data: bytes) -> None:
        """Write as the program would."""
        ...

    def load(self, address: int, n_bytes: int) -> bytes:
        """Read as the program would."""
        ...

    def drop(self, start: int, n_pages: int) -> None:
        """MADV_DONTNEED."""
        ...

    def track(self, ranges: Sequence[tuple[int, int]] | None, *, strict: bool = False) -> Tracker:
        """A tracker of the ranges, or of everything the program has and will map."""
        ...
