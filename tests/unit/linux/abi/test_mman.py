"""Flags of memory calls, copied by hand from the kernel's headers."""

from pagewatch.linux.abi import mman


def test_numbers_are_the_kernels():
    assert (mman.MAP_HUGETLB, mman.MADV_POPULATE_WRITE, mman.MADV_GUARD_INSTALL) == (0x40000, 23, 102)
