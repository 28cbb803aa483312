"""mremap of watched memory next to other watched memory takes the watch off both."""

from common import PAGE, Watch, categories, checked, mapped, store

MAYMOVE_FIXED = 3

start = mapped(9)
checked("munmap", start + 8 * PAGE, PAGE)
watch = Watch()
watch.register(start, 8)
watch.protect(start, 8)
print("page 7, armed:                          ", *categories(start + 7 * PAGE))
checked("mremap", start, PAGE, PAGE, MAYMOVE_FIXED, start + 8 * PAGE)
print("page 7, when page 0 moved to page 8:    ", *categories(start + 7 * PAGE))
store(start + 7 * PAGE)
print("page 7, then written:                   ", *categories(start + 7 * PAGE))
