"""mremap of watched memory next to other watched memory takes the watch off both."""

from common import ANONYMOUS, PAGE, PRIVATE, Watch, categories, checked, store

MAYMOVE_FIXED = 3
READ_WRITE = 3

# Out of a reservation, so that it merges with nothing: memory that had a page before is moved with its old offset.
start = checked("mmap", 0, 11 * PAGE, 0, PRIVATE | ANONYMOUS, -1, 0) + PAGE
checked("mprotect", start, 9 * PAGE, READ_WRITE)
checked("munmap", start + 8 * PAGE, PAGE)
watch = Watch()
watch.register(start, 8)
watch.protect(start, 8)
print("page 7, armed:                          ", *categories(start + 7 * PAGE))
checked("mremap", start, PAGE, PAGE, MAYMOVE_FIXED, start + 8 * PAGE)
print("page 7, when page 0 moved to page 8:    ", *categories(start + 7 * PAGE))
store(start + 7 * PAGE)
print("page 7, then written:                   ", *categories(start + 7 * PAGE))
