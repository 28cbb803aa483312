"""Without a vector, protecting ignores the masks and max_pages."""

from raw import PAGE, PRESENT, WP_MATCHING, WRITTEN, fact, mmap, pages, register, scan, store, userfaultfd

start = mmap(8 * PAGE)
end = start + 8 * PAGE
register(userfaultfd(), start, 8 * PAGE)
for page in (1, 5):
    store(start + page * PAGE)
scan(start, end, mask=PRESENT, flags=WP_MATCHING, max_pages=1)
left = pages(scan(start, end, mask=WRITTEN)[0], start)
fact("with a vector, one present page is protected", left == [0, 2, 3, 4, 5, 6, 7])
scan(start, end, mask=PRESENT, flags=WP_MATCHING, max_pages=1, capacity=0)
fact("without one, every page is", scan(start, end, mask=WRITTEN)[0] == [])
