"""The C library's memory calls, for tests that need an address and a choice of flags."""

import ctypes
import os

PROT_NONE, PROT_READ, PROT_WRITE = 0, 1, 2
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE, MAP_HUGETLB = 1, 2, 0x10, 0x20, 0x4000, 0x40000
MADV_DONTNEED, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_PAGEOUT, MADV_COLLAPSE = 4, 14, 15, 21, 25
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mremap.restype = ctypes.c_void_p
_FAILED = ctypes.c_void_p(-1).value


def mmap(
    length: int,
    *,
    prot: int = PROT_READ | PROT_WRITE,
    flags: int = MAP_PRIVATE | MAP_ANONYMOUS,
    fd: int = -1,
    offset: int = 0,
    at: int | None = None,
) -> int:
    """The start of a new mapping; ``at`` replaces what is there."""
    flags |= MAP_FIXED if at is not None else 0
    address = _libc.mmap(ctypes.c_void_p(at), ctypes.c_size_t(length), prot, flags, fd, ctypes.c_long(offset))
    return _checked(address, "mmap")


def munmap(start: int, length: int) -> None:
    """Remove mappings."""
    _checked(_libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(length)), "munmap")


def madvise(start: int, length: int, advice: int) -> None:
    """Give advice."""
    _checked(_libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), advice), "madvise")


def mprotect(start: int, length: int, prot: int) -> None:
    """Change access."""
    _checked(_libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(length), prot), "mprotect")


def mremap(start: int, length: int, new_length: int, flags: int = MREMAP_MAYMOVE, to: int = 0) -> int:
    """Move or resize a mapping; its new start."""
    moved = _libc.mremap(
        ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_size_t(new_length), flags, ctypes.c_void_p(to)
    )
    return _checked(moved, "mremap")


def _checked(result: int | None, name: str) -> int:
    if result in (-1, _FAILED):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result or 0
