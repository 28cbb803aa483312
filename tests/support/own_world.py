"""The memory of this very process as a TrackedWorld."""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pagewatch
from pagewatch.trackers.base import Tracker
from pagewatch.vocab.addresses import PAGE_SIZE
from support import libc


class OwnWorld:
    """Maps, stores and drops by itself; trackers are the public ones."""

    page_size = PAGE_SIZE

    def __init__(self) -> None:
        self._mapped: list[tuple[int, int]] = []
        self._process = pagewatch.Process()

    def map(self, n_pages: int, *, shared: bool = False, at: int | None = None) -> int:
        length = n_pages * self.page_size
        kind = libc.MAP_SHARED if shared else libc.MAP_PRIVATE
        if at is None:
            # A page without access on either side keeps the kernel from merging areas of two tests.
            room = libc.mmap(length + 2 * self.page_size, prot=libc.PROT_NONE)
            self._mapped.append((room, length + 2 * self.page_size))
            at = room + self.page_size
        return libc.mmap(length, flags=kind | libc.MAP_ANONYMOUS, at=at)

    def unmap(self, start: int, n_pages: int) -> None:
        libc.munmap(start, n_pages * self.page_size)

    def store(self, address: int, data: bytes) -> None:
        ctypes.memmove(address, data, len(data))

    def load(self, address: int, n_bytes: int) -> bytes:
        return ctypes.string_at(address, n_bytes)

    def drop(self, start: int, n_pages: int) -> None:
        libc.madvise(start, n_pages * self.page_size, libc.MADV_DONTNEED)

    def track(self, ranges: Sequence[tuple[int, int]] | None, *, strict: bool = False) -> Tracker:
        return pagewatch.track(self._process, ranges=ranges, strict=strict)

    def close(self) -> None:
        self._process.close()
        for start, length in self._mapped:
            libc.munmap(start, length)


@contextmanager
def own_world() -> Iterator[OwnWorld]:
    """A world that unmaps what it mapped."""
    world = OwnWorld()
    try:
        yield world
    finally:
        world.close()
