"""Pagemap tells of all pages of a huge leaf how often the first is mapped, and calls the huge zero page a file's."""

import ctypes
import os

from common import ANONYMOUS, PAGE, PRIVATE, SHARED, checked, mapped

N = 512
HUGEPAGE, POPULATE_READ, COLLAPSE = 14, 22, 25
EXCLUSIVE, FILE = 1 << 56, 1 << 61


def word(start: int, page: int) -> int:
    """The pagemap word of a page."""
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    try:
        return int.from_bytes(os.pread(fd, 8, (start // PAGE + page) * 8), "little")
    finally:
        os.close(fd)


def exclusive(start: int) -> str:
    """Which of three pages pagemap calls mapped once."""
    return ", ".join(f"{page}: {'once' if word(start, page) & EXCLUSIVE else 'more often'}" for page in (0, 2, 511))


file = os.memfd_create("file")
os.ftruncate(file, N * PAGE)
huge = mapped(N, SHARED, file, 0x20_0000_0000)
checked("madvise", huge, N * PAGE, POPULATE_READ)
checked("madvise", huge, N * PAGE, COLLAPSE)
again = mapped(N, SHARED, file, 0x20_4000_0000)
for page in (2, 0):
    checked("munmap", again, N * PAGE)
    checked("mmap", again, PAGE, 1, SHARED | 0x10, file, page * PAGE)
    ctypes.string_at(again, 1)
    print(f"page {page} is mapped elsewhere, too:", exclusive(huge))

memory = mapped(N, PRIVATE | ANONYMOUS, at=0x20_8000_0000)
checked("madvise", memory, N * PAGE, HUGEPAGE)
ctypes.string_at(memory, 1)
print("the huge zero page:", "a file's" if word(memory, 0) & FILE else "not a file's")
