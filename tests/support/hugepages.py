"""hugetlb pages on demand: the old number comes back when the test is over."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.machine import machine_lock

_COUNT = Path("/proc/sys/vm/nr_hugepages")


def default_size() -> int:
    """Bytes of a page of the default hugetlb size; 0 where there is none."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Hugepagesize:"):
            return int(line.split()[1]) * 1024
    return 0


@contextmanager
def hugetlb_pages(n_pages: int) -> Iterator[int]:
    """Have at least that many free hugetlb pages; gives their size in bytes. Skips where they cannot be had."""
    size = default_size()
    if not size:
        pytest.skip("this kernel has no hugetlb pages")
    with machine_lock(fcntl.LOCK_EX):
        before = int(_COUNT.read_text())
        try:
            _COUNT.write_text(str(before + n_pages))
        except PermissionError:
            pytest.skip("/proc/sys/vm/nr_hugepages is not writable: run as root")
        try:
            if int(_COUNT.read_text()) < before + n_pages:
                pytest.skip(f"the kernel could not find {n_pages} free pages of {size} bytes")
            yield size
        finally:
            _COUNT.write_text(str(before))
