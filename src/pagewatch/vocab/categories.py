"""What PAGEMAP_SCAN says of a page, one bit each.

The numbers are the kernel's own (``PAGE_IS_*`` in include/uapi/linux/fs.h), so an array the kernel
filled is read without translation.
"""

from enum import IntFlag


class Category(IntFlag):
    """Categories of a page; several can hold at once.

    WRITTEN means only "the entry does not carry the userfaultfd write-protect bit": memory that was
    never armed reads as written, too.
    """

    WPALLOWED = 0x1
    """The mapping is registered for asynchronous write-protection."""
    WRITTEN = 0x2
    """Written since it was last protected, or never protected."""
    FILE = 0x4
    """Backed by a file or by shared memory."""
    PRESENT = 0x8
    """Mapped to memory now."""
    SWAPPED = 0x10
    """A non-empty entry that is not present: swap, migration, or a marker."""
    PFNZERO = 0x20
    """The shared zero page."""
    HUGE = 0x40
    """Mapped by a huge leaf (THP or hugetlb)."""
    SOFT_DIRTY = 0x80
    """The soft-dirty bit is set (since Linux 6.8)."""
    GUARD = 0x100
    """A guard marker (since Linux 6.16)."""


ALL_CATEGORIES = Category(0x1FF)
"""Every category this library knows."""
