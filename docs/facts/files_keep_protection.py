"""Protection of file memory outlives the pages: content can change without a write."""

import os

from raw import MADV_REMOVE, PAGE, SHARED, WRITTEN, armed, fact, load, madvise, scan, store

fd = os.memfd_create("fact")
os.ftruncate(fd, 4 * PAGE)
os.pwrite(fd, b"old bytes", 0)
os.pwrite(fd, b"old bytes", PAGE)
start = armed(4, SHARED, fd)
load(start)
madvise(start, PAGE, MADV_REMOVE)
fact("MADV_REMOVE changes the bytes", load(start, 3) == bytes(3))
os.pwrite(fd, b"new", PAGE)
fact("write(2) to the file changes the bytes", load(start + PAGE, 3) == b"new")
fact("neither reads as written", scan(start, start + 4 * PAGE, mask=WRITTEN)[0] == [])
store(start + 2 * PAGE)
fact("a store through the mapping does", len(scan(start, start + 4 * PAGE, mask=WRITTEN)[0]) == 1)
