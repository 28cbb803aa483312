"""Categories carry the kernel's numbers; here they are literals, copied by hand from include/uapi/linux/fs.h."""

from pagewatch.vocab.categories import ALL_CATEGORIES, Category


def test_numbers_are_the_kernels():
    assert {bit.name: int(bit) for bit in Category} == {
        "WPALLOWED": 1,
        "WRITTEN": 2,
        "FILE": 4,
        "PRESENT": 8,
        "SWAPPED": 16,
        "PFNZERO": 32,
        "HUGE": 64,
        "SOFT_DIRTY": 128,
        "GUARD": 256,
    }


def test_all_is_the_union_of_every_bit():
    assert int(ALL_CATEGORIES) == 511


def test_a_bit_of_a_newer_kernel_is_kept():
    assert int(Category(0x200 | 0x2)) == 0x202
