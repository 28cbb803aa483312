"""System calls and structures as the driver makes them.

It stands for the kernel in comparisons, so nothing here is the library's: numbers and layouts are written
down again.
"""

import ctypes
import errno
from collections.abc import Callable
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_int, _long, _u64, _pointer = ctypes.c_int, ctypes.c_long, ctypes.c_uint64, ctypes.c_void_p
_FAILED = (1 << 64) - 1

MAP_FIXED = 0x10
MADV_RANDOM = 1
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
FALLOC_PUNCH_HOLE = 3
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE."""
USERFAULTFD = {"x86_64": 323, "aarch64": 282}
"""The number of the system call; it has no function in the C library."""
UNSET = 0x5E5E_5E5E_5E5E_5E5E
"""Stands in output fields until the kernel writes them."""

UFFDIO_API = 0xC018AA3F
UFFDIO_REGISTER = 0xC020AA00
UFFDIO_UNREGISTER = 0x8010AA01
UFFDIO_COPY = 0xC028AA03
UFFDIO_ZEROPAGE = 0xC020AA04
UFFDIO_MOVE = 0xC028AA05
UFFDIO_WRITEPROTECT = 0xC018AA06
UFFDIO_CONTINUE = 0xC020AA07
UFFDIO_POISON = 0xC020AA08
PAGEMAP_SCAN = 0xC0606610


class ScanArg(ctypes.Structure):
    """``struct pm_scan_arg``."""

    _fields_ = tuple(
        (name, _u64)
        for name in (
            *("size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages"),
            *("inverted", "mask", "anyof", "returned"),
        )
    )


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., int]:
    found = getattr(_libc, name)
    found.restype, found.argtypes = result, arguments

    def call(*values: Any) -> int:
        got: int = found(*values)
        if got in (-1, _FAILED):
            raise OSError(ctypes.get_errno(), name)
        return got

    return call


mmap = _function("mmap", _u64, _u64, _u64, _int, _int, _int, _long)
munmap = _function("munmap", _int, _u64, _u64)
mprotect = _function("mprotect", _int, _u64, _u64, _int)
madvise = _function("madvise", _int, _u64, _u64, _int)
mremap = _function("mremap", _u64, _u64, _u64, _u64, _int, _u64)
fallocate = _function("fallocate", _int, _int, _int, _long, _long)
prctl = _function("prctl", _int, _int, ctypes.c_ulong)
syscall = _function("syscall", _long, _long, _long)
sigaction = _function("sigaction", _int, _int, _pointer, _pointer)
ioctl = _function("ioctl", _int, _int, ctypes.c_ulong, _pointer)


def words_ioctl(fd: int, request: int, *words: int) -> tuple[int, ...]:
    """An ioctl whose structure is a row of 64-bit words; returns the words afterwards.

    :raises OSError: with the words in ``words``.
    """
    row = (_u64 * len(words))(*words)
    try:
        ioctl(fd, request, row)
    except OSError as error:
        error.words = tuple(row)  # fields may have been written nevertheless
        raise
    return tuple(row)


def filled(fd: int, request: int, *words: int) -> int:
    """A userfaultfd ioctl that fills pages and says in its last word how many bytes, or a negative errno.

    :raises OSError: nothing was filled.
    """
    try:
        row = words_ioctl(fd, request, *words, UNSET)
    except OSError as error:
        row = error.words
        if row[-1] == UNSET or row[-1] >> 63:
            raise OSError(error.errno, "fill") from None
        if error.errno != errno.EAGAIN:
            raise AssertionError(f"partly filled, but errno {error.errno}") from None
    return row[-1]
