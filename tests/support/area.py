"""A piece of this process's memory with free space around it, so that no neighbour merges with it."""

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from support import libc
from support.raw import PAGE

MAP_HUGETLB = libc.MAP_HUGETLB


@dataclass(frozen=True)
class Area:
    """``n_pages`` pages from ``start``; pages are named by their index."""

    start: int
    n_pages: int

    @property
    def end(self) -> int:
        return self.start + self.n_pages * PAGE

    def at(self, page: int) -> int:
        return self.start + page * PAGE

    def store(self, pages: Iterable[int], value: int = 1) -> None:
        for page in pages:
            ctypes.memset(self.at(page) + 8, value, 1)

    def load(self, pages: Iterable[int]) -> list[int]:
        return [ctypes.string_at(self.at(page) + 8, 1)[0] for page in pages]

    def advise(self, advice: int, first: int = 0, last: int | None = None) -> None:
        last = self.n_pages if last is None else last
        libc.madvise(self.at(first), (last - first) * PAGE, advice)

    def index(self, address: int) -> int:
        assert (address - self.start) % PAGE == 0
        return (address - self.start) // PAGE

    def pages(self, regions: Iterable[tuple[int, int, int]]) -> list[int]:
        """Every page of the regions by index, in the order they come; a page that comes twice is listed twice."""
        return [self.index(at) for start, end, _ in regions for at in range(start, end, PAGE)]


@contextmanager
def area(n_pages: int, *, flags: int = 0, shared: bool = False, align: int = PAGE) -> Iterator[Area]:
    """Anonymous memory, unmapped at the end whatever became of it."""
    n_bytes = n_pages * PAGE
    room = libc.mmap(n_bytes + 2 * align, prot=libc.PROT_NONE)
    try:
        start = -(-(room + PAGE) // align) * align
        kind = libc.MAP_SHARED if shared else libc.MAP_PRIVATE
        libc.mmap(n_bytes, flags=kind | libc.MAP_ANONYMOUS | flags, at=start)
        yield Area(start, n_pages)
    finally:
        libc.munmap(room, n_bytes + 2 * align)
