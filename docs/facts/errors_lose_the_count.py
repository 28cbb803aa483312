"""EPERM of CHECK_WPASYNC comes after earlier memory was protected already."""

from raw import ANONYMOUS, CHECK_WPASYNC, FIXED, PAGE, PRIVATE, WP_MATCHING, WRITTEN, armed, fact, mmap, scan, store

start = armed(8)
mmap(4 * PAGE, PRIVATE | ANONYMOUS | FIXED, at=start + 4 * PAGE)
store(start)
try:
    scan(start, start + 8 * PAGE, mask=WRITTEN, returned=WRITTEN, flags=WP_MATCHING | CHECK_WPASYNC)
    refused = False
except PermissionError:
    refused = True
fact("memory that is not armed fails the scan", refused)
fact("the written page before it was protected all the same", scan(start, start + 4 * PAGE, mask=WRITTEN)[0] == [])
