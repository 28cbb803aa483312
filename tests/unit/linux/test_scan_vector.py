"""The room for what scans find, filled by hand in the kernel's stead."""

import os
from pathlib import Path

import numpy as np
import pytest

from pagewatch.linux.scan_vector import ScanVector
from pagewatch.linux.scan_walk import Walk
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.regions import REGION

LONG = 1 << 19


def walk():
    return Walk(0, 1 << 40, 0, None)


def store(vector, n_regions):
    """What a call does: regions from the front, every second page."""
    array, address = vector.room
    assert array.ctypes.data == address
    vector.in_use = True
    array["start"][:n_regions] = np.arange(0, 2 * n_regions, 2) * PAGE_SIZE
    array["end"][:n_regions] = np.arange(1, 2 * n_regions, 2) * PAGE_SIZE
    array["categories"][:n_regions] = 2
    return array[:n_regions].tolist()


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("capacity", [1024, 8192, LONG])
@pytest.mark.parametrize("n_regions", [0, 1, 1024, 2049, 8192, LONG // 8, LONG // 2, LONG])
def test_output_is_moved_out_and_zeroes_are_left(capacity, n_regions):
    n_regions = min(n_regions, capacity)
    vector, holder = ScanVector(capacity), walk()
    stored = store(vector, n_regions)
    assert vector.count() == n_regions
    output = vector.move_out(n_regions, holder)
    assert output.tolist() == stored
    assert not n_regions or holder.in_hand is output
    assert (vector.count(), vector.in_use, len(vector.room[0])) == (0, False, capacity)
    assert not vector.room[0].view(np.uint64).any()


def test_later_output_does_not_change_what_was_moved_out():
    vector = ScanVector(4096)
    outputs, stored = [], []
    for n_regions in (4096, 100, 3000, 2000):
        stored.append(store(vector, n_regions))
        outputs.append(vector.move_out(n_regions, walk()))
    assert [output.tolist() for output in outputs] == stored


def test_a_vector_that_is_mostly_used_is_given_away_and_not_copied():
    vector = ScanVector(LONG)
    before, _ = vector.room
    store(vector, LONG // 2)
    assert np.shares_memory(vector.move_out(LONG // 2, walk()), before)


def test_outputs_that_are_kept_hold_little_more_than_their_regions():
    vector, n_regions, n_outputs = ScanVector(LONG), 2600, 100
    before = resident_bytes()
    kept = []
    for _ in range(n_outputs):
        store(vector, n_regions)
        kept.append(vector.move_out(n_regions, walk()))
    held = n_outputs * n_regions * REGION.itemsize
    # The vector itself has huge pages under it.
    assert resident_bytes() - before < 2 * held + (8 << 20)


def test_fresh_room_forgets_what_was_stored():
    vector = ScanVector(1024)
    store(vector, 5)
    vector.renew(8192)
    assert (vector.count(), vector.in_use, len(vector.room[0])) == (0, False, 8192)
