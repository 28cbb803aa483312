"""arm64 entries, literally, as pgtable-hwdef.h and pgtable-prot.h of the kernel lay them out."""

import pytest

from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.format import (
    DIRTY,
    EXCLUSIVE,
    EXEC,
    INVALID,
    LEAF,
    MIGRATION,
    PROTNONE,
    SOFT_DIRTY,
    SPECIAL,
    TABLE,
    UFFD_WP,
    USER,
    WRITE,
    YOUNG,
)
from pagewatch.vocab.errors import FeatureMissing, InvalidArgument

PTE, PMD, PUD, PGD = ARCHES["arm64-4k"].at
RAM = USER | EXEC
BASE = 1 << 53 | 1 << 11 | 3 << 8
"""PXN, nG, inner shareable: in every user leaf."""
RDONLY, DBM, SW_DIRTY, CONT, UXN = 1 << 7, 1 << 51, 1 << 55, 1 << 52, 1 << 54


@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        # The table above set_pte_at() in pgtable.h: dirty and writable against RDONLY, DBM, PTE_DIRTY.
        (RAM, RDONLY),
        (RAM | WRITE, RDONLY | DBM),
        (RAM | DIRTY, RDONLY | SW_DIRTY),
        (RAM | WRITE | DIRTY, DBM | SW_DIRTY),
        (RAM | YOUNG, RDONLY | 1 << 10),
        (RAM | SPECIAL, RDONLY | 1 << 56),
        (RAM | UFFD_WP, RDONLY | 1 << 58),
        (USER, RDONLY | UXN),
    ],
)
def test_pte_bits(flags, bits):
    assert PTE.leaf(0x12345, flags) == 0x12345000 | BASE | 0x43 | bits
    assert PMD.leaf(0x12200, flags) == 0x12200000 | BASE | 0x41 | bits


def test_dirt_that_only_hardware_recorded_is_seen_and_kept():
    clean = PTE.leaf(1, RAM | WRITE)
    written = PTE.after_store(clean)
    assert written == clean & ~RDONLY | 1 << 10
    assert not written & SW_DIRTY
    assert PTE.flags(written) & DIRTY
    protected = PTE.wrprotect(written)
    assert protected & (SW_DIRTY | RDONLY | DBM) == SW_DIRTY | RDONLY
    assert PTE.mkclean(written) & (SW_DIRTY | RDONLY | DBM) == RDONLY | DBM


def test_making_a_clean_leaf_writable_does_not_make_it_dirty():
    entry = PTE.mkwrite(PTE.leaf(1, RAM))
    assert PTE.flags(entry) == RAM | WRITE


def test_protnone_and_invalid_differ_in_their_rights_only():
    none = PMD.leaf(0x200, PROTNONE)
    assert none & (1 | 1 << 11 | 1 << 6 | UXN) == 1 << 11 | UXN
    torn = PMD.mkinvalid(PMD.leaf(0x200, RAM))
    assert torn & (1 | 1 << 11 | 1 << 6 | UXN) == 1 << 11 | 1 << 6
    assert PMD.kind(none) == PMD.kind(torn) == LEAF
    assert PMD.flags(none) == PROTNONE
    assert PMD.flags(torn) == RAM | INVALID
    with pytest.raises(InvalidArgument, match="reads as protnone"):
        PMD.leaf(0x200, INVALID)


def test_table_and_block_differ_in_bit_1():
    assert PMD.table(0x5000) == 0x5003 | 1 << 59
    assert PMD.kind(PMD.table(0x5000)) == TABLE
    assert PMD.kind(0x200001 | BASE) == LEAF


@pytest.mark.parametrize("name", ["arm64-4k", "arm64-16k", "arm64-64k"])
def test_contiguous_bit_is_set_in_blocks_only(name):
    for entries in ARCHES[name].at[:2]:
        single, block = entries.leaf_sizes
        assert not entries.leaf(0, RAM, single) & CONT
        assert entries.leaf(0, RAM, block) & CONT
        assert entries.leaf_bytes(entries.leaf(0, RAM, block)) == block


def test_swap_layout():
    """Exclusive in bit 2, uffd-wp in 3, type in 6 to 10, offset from 12; 0, 1 and 11 are zero."""
    for entries in (PTE, PMD, PUD):
        entry = entries.swap_entry(5, 0x1234)
        assert entry == 0x1234 << 12 | 5 << 6
        assert entries.swap_entry(5, 0x1234, EXCLUSIVE) ^ entry == 1 << 2
        assert entries.swap_entry(5, 0x1234, UFFD_WP) ^ entry == 1 << 3


def test_there_is_no_soft_dirty():
    with pytest.raises(FeatureMissing, match="soft-dirty: arm64-4k has no such bit in a PTE entry"):
        PTE.mksoft_dirty(PTE.leaf(1, RAM))
    assert PTE.mkdirty(PTE.leaf(1, RAM)) == PTE.leaf(1, RAM | DIRTY)
    assert not PTE.supported & SOFT_DIRTY


def test_old_huge_took_migration_entries_for_leaves():
    entry = PMD.pfn_entry(MIGRATION, 0x200, WRITE)
    assert PMD.kind(entry) == MIGRATION
    assert PMD.old_huge(entry)
    assert not PMD.old_huge(PMD.table(0x5000))
