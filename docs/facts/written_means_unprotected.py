"""WRITTEN says only that an entry lacks the protection bit: so arm before you ask."""

from raw import MADV_DONTNEED, PAGE, SWAPPED, WP_MATCHING, WRITTEN, armed, fact, load, madvise, mmap, pages, scan, store

plain = mmap(4 * PAGE)
store(plain + PAGE)
fact("a page that was never armed reads as written", 1 in pages(scan(plain, plain + 4 * PAGE, mask=WRITTEN)[0], plain))

start = armed(4)
end = start + 4 * PAGE
fact("armed memory reads as not written", scan(start, end, mask=WRITTEN)[0] == [])
fact(
    "an armed page that does not exist yet reads as swapped (its marker)",
    len(pages(scan(start, end, mask=SWAPPED)[0], start)) == 4,
)
load(start)
fact("reading an armed page does not make it written", scan(start, end, mask=WRITTEN)[0] == [])
store(start + PAGE)
seen = scan(start, end, mask=WRITTEN, returned=WRITTEN, flags=WP_MATCHING)[0]
fact("the first store makes it written", pages(seen, start) == [1])
fact("a scan that reports it protects it again", scan(start, end, mask=WRITTEN)[0] == [])
madvise(start + PAGE, PAGE, MADV_DONTNEED)
fact("dropping it with MADV_DONTNEED makes it written", pages(scan(start, end, mask=WRITTEN)[0], start) == [1])
