import ctypes
import mmap
import os
import subprocess
from pathlib import Path

import pytest

from pagewatch.linux.abi.pagemap import PM_PRESENT
from pagewatch.linux.pagemap_words import pagemap_words
from pagewatch.vocab.errors import TargetGone
from support import libc

P = mmap.PAGESIZE


def present(start: int, n_pages: int) -> list[int]:
    words = pagemap_words(os.getpid(), start, start + n_pages * P)
    return [page for page, word in enumerate(words.tolist()) if word & PM_PRESENT]


def test_pages_that_were_touched_are_present() -> None:
    start = libc.mmap(8 * P)
    try:
        libc.madvise(start, 8 * P, libc.MADV_NOHUGEPAGE)
        assert present(start, 8) == []
        for page in (1, 5):
            ctypes.memset(start + page * P, 1, 1)
        assert present(start, 8) == [1, 5]
        libc.madvise(start + P, P, libc.MADV_DONTNEED)
        assert present(start, 8) == [5]
        libc.munmap(start + 5 * P, P)
        assert present(start, 8) == [], "what is not mapped has a word, too"
    finally:
        libc.munmap(start, 8 * P)


def test_an_empty_range_has_no_words() -> None:
    assert len(pagemap_words(os.getpid(), P, P)) == 0


def test_a_process_that_is_gone_is_said_to_be() -> None:
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    with pytest.raises(TargetGone):
        pagemap_words(ended.pid, P, 2 * P)


def test_kernel_threads_have_no_memory() -> None:
    """Which older kernels tell when the file is read, newer ones when it is opened."""
    if not Path("/proc/2").exists() or Path("/proc/2/comm").read_text() != "kthreadd\n":
        pytest.skip("process 2 is no kernel thread in this process namespace")
    with pytest.raises(TargetGone, match=r"no memory|exited"):
        pagemap_words(2, P, 2 * P)
