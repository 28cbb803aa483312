"""book3s64 entries, literally, as book3s/64/pgtable.h and hash-4k.h of the kernel lay them out."""

import pytest

from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.format import (
    DIRTY,
    EXCLUSIVE,
    EXEC,
    HWPOISON,
    LEAF,
    MIGRATION,
    PROTNONE,
    SOFT_DIRTY,
    SPECIAL,
    SWAP,
    TABLE,
    USER,
    WRITE,
    YOUNG,
)

NAMES = ["ppc64-hash-4k", "ppc64-hash-64k", "ppc64-radix-4k", "ppc64-radix-64k"]
PRESENT, PTE_BIT, INVALID_BIT = 1 << 63, 1 << 62, 1 << 61


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        (USER, 0x004),
        (USER | WRITE, 0x006),
        (USER | EXEC, 0x005),
        (USER | YOUNG, 0x104),
        (USER | WRITE | DIRTY, 0x086),
        (USER | SOFT_DIRTY, 0x204),
        (USER | SPECIAL, 0x404),
        (WRITE, 0x00E),
        (PROTNONE, 0x008),
    ],
)
def test_pte_bits(name, flags, bits):
    pte = ARCHES[name].at[0]
    assert pte.leaf(0x12345, flags) == PRESENT | PTE_BIT | 0x12345 << pte.page_shift | bits


@pytest.mark.parametrize("name", NAMES)
def test_one_bit_tells_leaves_from_pointers(name):
    pmd = ARCHES[name].at[1]
    leaf = pmd.leaf(0x10000, USER, pmd.leaf_sizes[0])
    assert pmd.kind(leaf) == LEAF
    assert pmd.kind(leaf & ~PTE_BIT) == TABLE


@pytest.mark.parametrize("name", NAMES)
def test_leaf_being_torn_down_trades_present_for_invalid(name):
    pmd = ARCHES[name].at[1]
    leaf = pmd.leaf(0x10000, USER | WRITE, pmd.leaf_sizes[0])
    assert pmd.mkinvalid(leaf) == leaf ^ PRESENT ^ INVALID_BIT


def test_radix_pointers_carry_the_size_of_the_lower_table():
    _, pmd, pud, pgd = ARCHES["ppc64-radix-64k"].at
    assert [level.table(0x50000) for level in (pmd, pud, pgd)] == [PRESENT | 0x50000 | n for n in (5, 9, 9)]
    assert ARCHES["ppc64-hash-64k"].at[1].table(0x50000) == PRESENT | 0x50000


def test_hugepd_entries_carry_the_page_size_by_its_number():
    _, pmd, pud, pgd = ARCHES["ppc64-hash-4k-hugepd"].at
    assert pud.table(0x5000, 16 << 20) == PRESENT | 0x5000 | 10 << 2
    assert pgd.table(0x5000, 16 << 30) == PRESENT | 0x5000 | 14 << 2
    assert pud.below(pud.table(0x5000)) is pmd
    assert (pud.below(pud.table(0x5000, 16 << 20)).shift, pud.directories[16 << 20].index_bits) == (24, 4)
    assert (pgd.below(pgd.table(0x5000, 16 << 30)).shift, pgd.directories[16 << 30].index_bits) == (34, 3)
    assert not pmd.directories


def test_hash_4k_has_no_leaf_of_one_entry_above_the_pte():
    _, pmd, pud, _ = ARCHES["ppc64-hash-4k"].at
    assert (pmd.leaf_sizes, pud.leaf_sizes) == ((16 << 20,), (16 << 30,))


@pytest.mark.parametrize("name", NAMES)
def test_swap_layout(name):
    pte = ARCHES[name].at[0]
    entry = pte.swap_entry(5, 0x1234)
    assert entry == PTE_BIT | 0x1234 << pte.page_shift | 5
    assert pte.swap_entry(5, 0x1234, EXCLUSIVE) ^ entry == 0x20
    assert pte.swap_entry(5, 0x1234, SOFT_DIRTY) ^ entry == 0x200
    assert pte.kind(entry) == SWAP


def test_old_huge_looked_at_one_bit_that_swap_entries_have_too():
    for name in ("ppc64-hash-64k", "ppc64-radix-4k", "ppc64-radix-64k"):
        pud = ARCHES[name].at[2]
        entry = pud.pfn_entry(HWPOISON, 0x40000)
        assert pud.old_huge(entry)
        assert pud.kind(entry) == HWPOISON
    pmd = ARCHES["ppc64-hash-4k"].at[1]
    assert not pmd.old_huge(pmd.leaf(0x10000, USER, 16 << 20))
    assert pmd.kind(pmd.pfn_entry(MIGRATION, 0x10000)) == MIGRATION
