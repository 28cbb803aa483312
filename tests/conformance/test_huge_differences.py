"""Differences that random histories found in memory with huge pages; see ``test_differences``.

Page 0 begins one huge page, page 512 the next; the files end six pages behind it.
"""

HUGEPAGE, POPULATE_READ, COLLAPSE = 14, 22, 25
READ, READ_WRITE = 1, 3
HUGE = 0x40
EXCLUSIVE, FILE = 1 << 1, 1 << 6
"""Bits 55 and up of pagemap words."""


def mapped(kind="anon", prot=READ_WRITE):
    """All pages as one area, that may have huge pages."""
    return (("mmap", 0, 0, 1040, kind, prot, 0), ("madvise", 0, 0, 1040, HUGEPAGE))


def is_huge(outcome, page):
    address = 0x10_8000_0000 + (page - 512) * 4096
    return any(bits & HUGE and start <= address < end for start, end, bits in outcome[1][0])


def word(outcome, page):
    """The flag bits of the pagemap word of a place."""
    places = (0, 1, 2, 255, 256, 511, 512, 513, 514, 700, 1022, 1023, 1024, 1025, 1028, 1032)
    return outcome[1][1][places.index(page)]


class TestPagemapWords:
    def test_the_huge_zero_page_counts_as_a_files(self, both_large):
        *_, loaded = both_large(*mapped(), ("load", 0, 1))
        assert is_huge(loaded, 0)
        assert word(loaded, 0) & FILE

    def test_the_first_page_of_a_huge_leaf_says_for_all_whether_they_are_exclusive(self, both_large):
        huge = (*mapped("shared"), ("madvise", 0, 0, 512, POPULATE_READ), ("madvise", 0, 0, 512, COLLAPSE))
        apart = (("fork", 0, 1), ("load", 1, 0), ("munmap", 0, 2, 510), ("load", 0, 0))
        *_, child = both_large(*huge, *apart, ("load", 1, 0))
        assert is_huge(child, 511)
        assert not word(child, 511) & EXCLUSIVE
