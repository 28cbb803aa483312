"""hugetlb pages on demand: the old number comes back when the test is over."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.machine import machine_lock


def default_size() -> int:
    """Bytes of a page of the default hugetlb size; 0 where there is none."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Hugepagesize:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def hugetlb_pages(n_pages: int, *, size: int | None = None) -> Iterator[int]:
    """Have at least that many free hugetlb pages; gives their size in bytes. Skips where they cannot be had.

    :param size: bytes of a page; by default those of the default hugetlb size.
    """
    size = default_size() if size is None else size
    count = Path(f"/sys/kernel/mm/hugepages/hugepages-{size >> 10}kB/nr_hugepages")
    if not count.exists():
        pytest.skip(f"this kernel has no hugetlb pages of {size} bytes" if size else "this kernel has no hugetlb pages")
    with machine_lock(fcntl.LOCK_EX):
        before = int(count.read_text())
        try:
            count.write_text(str(before + n_pages))
        except OSError as error:
            pytest.skip(f"cannot reserve hugetlb pages: {error}")
        try:
            if int(count.read_text()) < before + n_pages:
                pytest.skip(f"the kernel could not find {n_pages} free pages of {size} bytes")
            yield size
        finally:
            count.write_text(str(before))


_KHUGEPAGED = Path("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs")
_LONG_MS = (1 << 32) - 1


@contextmanager
def khugepaged_asleep() -> Iterator[None]:
    """Keep the daemon that makes pages huge from doing so meanwhile, without a lock: it may take long.

    Where that is not allowed it is left to luck; a round of the daemon takes far longer than what it could disturb.
    """
    try:
        before = _KHUGEPAGED.read_text()
        _KHUGEPAGED.write_text(str(_LONG_MS))
    except OSError:
        yield  # no huge pages, or no rights
        return
    try:
        yield
    finally:
        if int(before) != _LONG_MS:  # else somebody came before us, and puts it back
            _KHUGEPAGED.write_text(before)
