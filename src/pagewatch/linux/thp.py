"""Transparent huge pages: their size, and putting split ones together again."""

import ctypes
import errno
from pathlib import Path

from pagewatch.linux.syscalls import syscall

_MADV_COLLAPSE = 25
_SIZE_FILE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
# Locked or pinned, no free huge page, not fit for one, not ours to change, or the process is gone.
_DECLINED = frozenset({errno.EAGAIN, errno.EBUSY, errno.ENOMEM, errno.EINVAL, errno.EPERM, errno.ESRCH})


def huge_page_size() -> int:
    """Bytes of a PMD-sized transparent huge page; 0 where the kernel has none."""
    try:
        return int(_SIZE_FILE.read_text())
    except (OSError, ValueError):
        return 0


def collapse(pidfd: int, start: int, end: int) -> int:
    """Try to make each huge-page-sized piece of [start, end) huge (MADV_COLLAPSE, Linux 6.1).

    :returns: bytes that are huge now; pieces the kernel declines are skipped.
    """
    size = huge_page_size()
    return sum(size for piece in range(start, end, size) if _collapse_one(pidfd, piece, size)) if size else 0


def _collapse_one(pidfd: int, start: int, size: int) -> bool:
    vector = (ctypes.c_uint64 * 2)(start, size)
    try:
        syscall("process_madvise", pidfd, ctypes.addressof(vector), 1, _MADV_COLLAPSE, 0)
    except OSError as error:
        if error.errno in _DECLINED:
            return False
        raise
    return True
