"""More than 512 regions leave walk_end behind, although the walk was complete."""

from raw import PAGE, PRESENT, bug, fact, mmap, scan, store

PAGES = 4096
start = mmap(PAGES * PAGE)
end = start + PAGES * PAGE
for count in (512, 513):
    for page in range(0, 2 * count, 2):
        store(start + page * PAGE)
    regions, walk_end = scan(start, end, mask=PRESENT, returned=PRESENT)
    if count == 512:
        fact("512 regions: walk_end is the end of the range", (len(regions), walk_end) == (512, end))
    else:
        bug("513 regions, all of them returned: walk_end is before the end", len(regions) == 513 and walk_end < end)
        bug("so a loop that resumes at walk_end reads regions twice", any(walk_end < b for _, b, _ in regions))
