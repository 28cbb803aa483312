"""x86-64 entries, literally, as pgtable_types.h and pgtable_64.h of the kernel lay them out."""

import pytest

from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.format import (
    DIRTY,
    EXCLUSIVE,
    EXEC,
    HWPOISON,
    LEAF,
    MARKER_POISON,
    MARKER_UFFD_WP,
    MIGRATION,
    PROTNONE,
    SOFT_DIRTY,
    SPECIAL,
    SWAP,
    TABLE,
    UFFD_WP,
    USER,
    WRITE,
    YOUNG,
)
from pagewatch.model.arch.x86 import x86_64
from pagewatch.vocab.errors import FeatureMissing

PTE, PMD, PUD, PGD = ARCHES["x86_64"].at
RAM = USER | EXEC
NX = 1 << 63
SAVED_DIRTY = 1 << 58
PFN_MASK = (1 << 52) - (1 << 12)


@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        (RAM, 0x005),
        (RAM | WRITE, 0x007),
        (RAM | YOUNG, 0x025),
        (RAM | WRITE | DIRTY, 0x047),
        (RAM | DIRTY, 0x005 | SAVED_DIRTY),
        (RAM | SPECIAL, 0x205),
        (RAM | UFFD_WP, 0x405),
        (RAM | SOFT_DIRTY, 0x805),
        (USER, 0x005 | NX),
        (EXEC, 0x001),
    ],
)
def test_pte_bits(flags, bits):
    assert PTE.leaf(0x12345, flags) == 0x12345000 | bits
    assert PMD.leaf(0x12200, flags) == 0x12200000 | bits | 0x80
    assert PUD.leaf(0x40000, flags) == 0x40000000 | bits | 0x80


def test_write_protection_moves_dirty_out_of_the_way_and_back():
    written = PTE.leaf(1, RAM | WRITE | DIRTY)
    protected = PTE.wrprotect(written)
    assert protected == 0x1005 | SAVED_DIRTY
    assert PTE.mkwrite(protected) == written
    assert PTE.mkclean(protected) == 0x1005
    assert PTE.mkdirty(0x1005) == 0x1005 | SAVED_DIRTY | 0x800


def test_hardware_sets_its_own_dirty_bit_and_no_soft_dirty():
    assert PTE.after_store(0x1007) == 0x1067
    assert PTE.after_load(0x1007) == 0x1027
    assert PTE.after_store(0x1005) is None
    assert PTE.after_load(0x1003) is None


def test_protnone_hides_the_frame_from_speculation():
    entry = PTE.leaf(0x12345, PROTNONE | YOUNG)
    assert entry & 0xFFF == 0x120
    assert entry & PFN_MASK == ~0x12345000 & PFN_MASK
    assert PTE.kind(entry) == LEAF
    assert PTE.pfn(entry) == 0x12345


def test_invalidated_huge_leaf_stays_present_by_pse():
    entry = PMD.mkinvalid(PMD.leaf(0x200, RAM | WRITE))
    assert entry & 0xFFF == 0x086
    assert PMD.kind(entry) == LEAF
    assert PMD.pfn(entry) == 0x200
    with pytest.raises(FeatureMissing):
        PTE.mkinvalid(PTE.leaf(1, RAM))


def test_bit_7_is_a_leaf_only_above_the_pte():
    table = PMD.table(0x5000)
    assert table == 0x5067
    assert PMD.kind(table) == TABLE
    assert PMD.kind(table | 0x80) == LEAF
    assert PTE.kind(0x5067 | 0x80) == LEAF
    assert PGD.kind(table) == TABLE


def test_swap_layout():
    """Type in bits 59 to 63, the inverted offset in 9 to 58, then E, F and SD from bit 3 down to 1."""
    offset_mask = (1 << 59) - (1 << 9)
    for entries in (PTE, PMD, PUD):
        entry = entries.swap_entry(5, 0x1234)
        assert entry >> 59 == 5
        assert entry & offset_mask == ~(0x1234 << 9) & offset_mask
        assert entry & 0x1FF == 0
        assert entries.swap_entry(5, 0x1234, EXCLUSIVE) ^ entry == 8
        assert entries.swap_entry(5, 0x1234, UFFD_WP) ^ entry == 4
        assert entries.swap_entry(5, 0x1234, SOFT_DIRTY) ^ entry == 2


def test_types_of_entries_that_are_no_swap():
    assert PTE.pfn_entry(HWPOISON, 1) >> 59 == 24
    assert [PTE.pfn_entry(MIGRATION, 1, how) >> 59 for how in (0, EXCLUSIVE, WRITE)] == [25, 26, 27]
    assert PTE.swap(PTE.marker_entry(MARKER_UFFD_WP)) == (31, 1)
    assert PTE.swap(PTE.marker_entry(MARKER_POISON)) == (31, 2)


def test_migration_keeps_young_and_dirty_above_the_frame_number():
    assert PTE.swap(PTE.pfn_entry(MIGRATION, 7, YOUNG)) == (25, 1 << 34 | 7)
    assert PTE.swap(PTE.pfn_entry(MIGRATION, 7, DIRTY)) == (25, 2 << 34 | 7)
    la57 = ARCHES["x86_64-la57"].at[0]
    assert la57.swap(la57.pfn_entry(MIGRATION, 7, DIRTY)) == (25, 2 << 40 | 7)


def test_pud_swap_entry_is_never_a_leaf_but_was_huge_once():
    """The bug class behind ``pud_leaf``: whether it is swap has to be asked before whether it is a leaf."""
    for entry in (
        PUD.swap_entry(1, 1 << 40),
        PUD.pfn_entry(MIGRATION, 0x40000, WRITE),
        PUD.pfn_entry(HWPOISON, 0x40000),
    ):
        assert PUD.kind(entry) != LEAF
        assert PUD.old_huge(entry)
    assert PUD.kind(PUD.swap_entry(1, 1 << 40)) == SWAP
    assert PUD.old_huge(PUD.leaf(0x40000, RAM))
    assert not PUD.old_huge(PUD.table(0x5000))
    assert not PUD.old_huge(0)
    assert not PTE.old_huge(PTE.leaf(1, RAM))


def test_compiled_out_features_leave_no_bits():
    pte = x86_64(lacking=SOFT_DIRTY).at[0]
    assert pte.mkdirty(0x1007) == 0x1047
    assert not pte.supported & SOFT_DIRTY
    with pytest.raises(FeatureMissing, match="soft-dirty"):
        pte.leaf(1, SOFT_DIRTY)
    with pytest.raises(FeatureMissing, match="soft-dirty"):
        pte.swp_mksoft_dirty(pte.swap_entry(0, 1))
