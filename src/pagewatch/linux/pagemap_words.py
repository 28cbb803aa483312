"""/proc/PID/pagemap as it was before PAGEMAP_SCAN: one 64-bit word a page, bits named in ``abi.pagemap``."""

import os

import numpy as np
import numpy.typing as npt

from pagewatch.linux.proc import open_proc
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.errors import TargetGone

_WORD_BYTES = 8


def pagemap_words(pid: int, start: int, end: int) -> npt.NDArray[np.uint64]:
    """The words of the pages of [start, end), bytes and page aligned.

    :raises TargetGone: there is no such process, or it ended, or it replaced its memory while it was read.
    :raises NotPermitted: ptrace access is needed and not granted.
    """
    fd = open_proc(pid, "pagemap")
    try:
        text = os.pread(fd, (end - start) // PAGE_SIZE * _WORD_BYTES, start // PAGE_SIZE * _WORD_BYTES)
    finally:
        os.close(fd)
    words = np.frombuffer(text, np.uint64)
    # Every address has a word, mapped or not; a short read means that the address space is gone.
    if len(words) * PAGE_SIZE != end - start:
        raise TargetGone(pid, "exited, or replaced its memory by exec")
    return words
