"""Where PAGEMAP_SCAN stores the regions it finds."""

import mmap
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from pagewatch.linux.scan_walk import Walk
from pagewatch.vocab.regions import REGION

_LONG_OUTPUT = 16384
_LEAST_SHARE = 4
_HUGE_BYTES = 4 << 20
_NO_OUTPUT = np.zeros(0, REGION)


class ScanVector:
    """Room for regions. What a call does not store there is zero, so that the output of an aborted one can be counted.

    An exception (Ctrl-C) can come between any two steps; while ``in_use``, a call may have left output here.
    """

    __slots__ = ("in_use", "room")

    in_use: bool
    """To be set before a call that stores here."""
    room: tuple[npt.NDArray[np.void], int]
    """The array and its address."""

    def __init__(self, capacity: int) -> None:
        """:param capacity: in regions."""
        self.renew(capacity)

    def renew(self, capacity: int) -> None:
        """Fresh room; what was stored is forgotten, though not by whoever it was given to."""
        array = _zeroed(capacity)
        # One assignment: were they two, an exception in between would leave the address of freed memory.
        self.room = (array, array.ctypes.data)
        self.in_use = False

    def count(self) -> int:
        """How many regions are stored; for when the call did not say."""
        return int(np.count_nonzero(self.room[0]["end"]))

    def move_out(self, n_regions: int, walk: Walk) -> npt.NDArray[np.void]:
        """The first regions, given into the walk's hand; everything here then is zeroes again.

        A long output is given away with all of the room, which a copy onto fresh pages would cost more than: but
        not if it fills only little, since whoever keeps it keeps all.
        """
        array, _ = self.room
        if not n_regions:
            self.in_use = False
            return _NO_OUTPUT
        used = array[:n_regions]
        words = used.view(np.uint64)
        with_room = n_regions > _LONG_OUTPUT and n_regions * _LEAST_SHARE >= len(array)
        # As words, since numpy copies structures one by one.
        output = used if with_room else words.copy().view(REGION)
        walk.in_hand = output
        if with_room:
            self.renew(len(array))
        else:
            words[:] = 0
            self.in_use = False
        return output


def _zeroed(capacity: int) -> npt.NDArray[np.void]:
    """An array of zeroes. A long one lies on fresh huge pages: the heap would zero all of it by hand each time."""
    nbytes = capacity * REGION.itemsize
    if nbytes < _HUGE_BYTES:
        return np.zeros(capacity, REGION)
    pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, REGION)
