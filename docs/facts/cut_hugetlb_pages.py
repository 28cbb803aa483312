"""A hugetlb page that the range cuts is neither output nor protected, and a resume loop never gets past it.

As root: needs one free page of the hugetlb pool (sysctl vm.nr_hugepages), and says so if there is none.
"""

import sys

from raw import (
    ANONYMOUS,
    HUGETLB,
    PAGE,
    PRIVATE,
    WP_MATCHING,
    WRITTEN,
    bug,
    fact,
    mmap,
    register,
    scan,
    store,
    userfaultfd,
)

SIZE = 2 << 20
try:
    start = mmap(SIZE, PRIVATE | ANONYMOUS | HUGETLB)
except OSError:
    print("skip no free page in the hugetlb pool")
    sys.exit(77)
register(userfaultfd(), start, SIZE)
store(start)
regions, walk_end = scan(start, start + 3 * PAGE, mask=WRITTEN, returned=WRITTEN, flags=WP_MATCHING)
bug("nothing is output, and walk_end is the start", (regions, walk_end) == ([], start))
regions, _ = scan(start, start + SIZE, mask=WRITTEN, returned=WRITTEN, flags=WP_MATCHING)
fact("asked for as a whole it is", [r[:2] for r in regions] == [(start, start + SIZE)])
