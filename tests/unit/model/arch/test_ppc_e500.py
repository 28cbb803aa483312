"""e500 entries, literally, as pte-e500.h and hugetlb-e500.h of the kernel lay them out."""

import pytest

from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.format import (
    DIRTY,
    EXCLUSIVE,
    EXEC,
    HWPOISON,
    LEAF,
    NONE,
    PROTNONE,
    SPECIAL,
    TABLE,
    USER,
    WRITE,
    YOUNG,
)
from pagewatch.model.arch.ppc_e500 import HUGE_SIZES, psize
from pagewatch.vocab.errors import InvalidArgument

PTE, PMD, PUD, PGD = ARCHES["ppc64-e500"].at
OLD_PMD = ARCHES["ppc64-e500-hugepd"].at[1]
PTE32, PGD32 = ARCHES["ppc-e500"].at
OLD_PGD32 = ARCHES["ppc-e500-hugepd"].root
BASE = 0x200101
"""Coherent, 4K, present."""


@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        (USER, 0x00C),
        (USER | WRITE, 0x03C),
        (USER | EXEC, 0x08C),
        (USER | YOUNG, 0x4000C),
        (USER | WRITE | DIRTY, 0x103C),
        (USER | SPECIAL, 0x200C),
        (WRITE | EXEC, 0x054),
        (PROTNONE, 0),
    ],
)
def test_pte_bits(flags, bits):
    assert PTE.leaf(0x12345, flags) == 0x12345 << 24 | BASE | bits
    assert PTE32.leaf(0x12345, flags) == 0x12345 << 24 | BASE | bits


def test_size_field_counts_powers_of_two_of_a_kib():
    assert psize(4096) == 0x100
    assert [psize(size) for size in HUGE_SIZES] == [0x600, 0x700, 0x800, 0x900, 0xA00]
    entry = PMD.leaf(0x400, USER, 4 << 20)
    assert entry == 0x400 << 24 | 0x20060D
    assert PMD.leaf_bytes(entry) == 4 << 20


def test_directory_entries_are_kernel_addresses():
    assert PMD.table(0x5000) == 0xC000000000005000
    assert PGD32.table(0x5000) == 0xC0005000
    with pytest.raises(InvalidArgument, match="no kernel address"):
        PGD32.table(1 << 30)


def test_hugepd_entries_are_kernel_addresses_without_the_top_bit():
    entry = OLD_PMD.table(0x5000, 16 << 20)
    assert entry == 0x4000000000005000 | 24
    assert OLD_PMD.below(entry).shift == 24
    assert OLD_PGD32.table(0x5000, 4 << 20) == 0x40005000 | 22
    assert OLD_PGD32.entry_bytes == 4


def test_old_pmd_leaf_took_poison_for_a_leaf():
    """It said: the value is positive."""
    poison = PMD.pfn_entry(HWPOISON, 0x400)
    assert 0 < poison < 1 << 63
    assert PMD.kind(poison) == HWPOISON
    assert PMD.kind(PMD.leaf(0x400, USER, 4 << 20)) == LEAF
    assert PMD.kind(PMD.table(0x5000)) == TABLE
    assert PMD.kind(0) == NONE


def test_swap_layouts():
    assert PTE.swap_entry(5, 0x1234) == 0x1234 << 24 | 5 << 2
    assert PTE.swap_entry(5, 0x1234, EXCLUSIVE) == 0x1234 << 24 | 5 << 2 | 0x80
    assert PTE32.swap_entry(5, 0x1234) == 0x1234 << 8 | 5 << 3
    assert PTE32.swap_entry(5, 0x1234, EXCLUSIVE) == 0x1234 << 8 | 5 << 3 | 4
    with pytest.raises(InvalidArgument, match="would read as a table"):
        PGD32.swap_entry(5, 0x1234)


def test_first_store_faults_until_software_says_dirty():
    entry = PTE.leaf(1, USER | WRITE | YOUNG)
    assert PTE.after_load(entry) == entry
    assert PTE.after_store(entry) is None
    assert PTE.after_store(PTE.mkdirty(entry)) == PTE.mkdirty(entry)


def test_nothing_looked_huge():
    assert not PMD.old_huge(PMD.leaf(0x400, USER, 4 << 20))
