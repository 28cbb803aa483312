"""Flags of mmap(2) and madvise(2) that Python's mmap module lacks (include/uapi/asm-generic/mman-common.h)."""

MAP_HUGETLB = 0x40000
MADV_POPULATE_WRITE = 23  # since Linux 5.14
MADV_GUARD_INSTALL = 102  # since Linux 6.13 for anonymous memory
