"""Scratch memory of this process, for probes and self-tests that must see an effect rather than believe a version."""

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.linux.pagemap_words import pagemap_words
from pagewatch.linux.userfaultfd import UserfaultFd, open_userfaultfd
from pagewatch.vocab.addresses import PAGE_SIZE, page_ceil


class Scratch:
    """A piece [start, end) of a mapping; offsets are bytes from ``start``."""

    def __init__(self, memory: mmap.mmap, *, n_bytes: int, align: int = PAGE_SIZE) -> None:
        """:param memory: not owned; at least ``n_bytes`` long from its first multiple of ``align``."""
        self._memory = memory
        self._view = ctypes.c_char.from_buffer(memory)
        base = ctypes.addressof(self._view)
        self.start = page_ceil(base, align)
        self.end = self.start + n_bytes
        self._skip = self.start - base

    def store(self, offset: int) -> None:
        """Change the byte at ``offset``."""
        position = self._skip + offset
        self._memory[position] = (self._memory[position] + 1) & 0xFF

    def populate(self) -> None:
        """Store into every page."""
        for offset in range(0, self.end - self.start, PAGE_SIZE):
            self.store(offset)

    def advise(self, advice: int, offset: int = 0, n_bytes: int | None = None) -> None:
        """madvise(2) on [offset, offset + n_bytes), by default on all of it.

        :raises OSError: the kernel does not know the advice, or declines.
        """
        self._memory.madvise(advice, self._skip + offset, self.end - self.start if n_bytes is None else n_bytes)

    def writable_view(self, offset: int, n_bytes: int) -> memoryview:
        """A view to be written through; release it before the memory is closed."""
        position = self._skip + offset
        return memoryview(self._memory)[position : position + n_bytes]

    def pagemap(self) -> npt.NDArray[np.uint64]:
        """The words of /proc/self/pagemap for [start, end), one a page."""
        return pagemap_words(os.getpid(), self.start, self.end)

    def release(self) -> None:
        """Let go of the mapping, which can then be closed."""
        del self._view


@contextmanager
def anonymous(n_bytes: int, *, align: int = PAGE_SIZE, flags: int = 0) -> Iterator[Scratch]:
    """Private anonymous memory that begins at a multiple of ``align`` bytes.

    :param flags: further flags of mmap(2).
    :raises OSError: there is no such memory.
    """
    spare = align if align > PAGE_SIZE else 0
    memory = mmap.mmap(-1, n_bytes + spare, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags)
    with _closing(memory, Scratch(memory, n_bytes=n_bytes, align=align)) as scratch:
        yield scratch


@contextmanager
def shared_file(fd: int, n_bytes: int) -> Iterator[Scratch]:
    """A shared mapping of a file's first bytes; the descriptor stays the caller's."""
    memory = mmap.mmap(fd, n_bytes)
    with _closing(memory, Scratch(memory, n_bytes=n_bytes)) as scratch:
        yield scratch


@contextmanager
def armed(start: int, end: int) -> Iterator[PagemapScanner]:
    """Memory of this process under asynchronous write-protection, with a scanner to look at it.

    :raises FeatureMissing: no asynchronous write-protection.
    :raises NotPermitted: no userfaultfd for this user.
    """
    with UserfaultFd(open_userfaultfd(), 0) as protection, PagemapScanner() as scanner:
        protection.register(start, end)
        protection.protect(start, end)
        yield scanner


@contextmanager
def _closing(memory: mmap.mmap, scratch: Scratch) -> Iterator[Scratch]:
    try:
        yield scratch
    finally:
        scratch.release()
        memory.close()
