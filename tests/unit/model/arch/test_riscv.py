"""riscv64 entries, literally, as pgtable-bits.h and pgtable-64.h of the kernel lay them out."""

import pytest

from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.format import (
    DIRTY,
    EXCLUSIVE,
    EXEC,
    LEAF,
    PROTNONE,
    SPECIAL,
    TABLE,
    UFFD_WP,
    USER,
    WRITE,
    YOUNG,
)
from pagewatch.vocab.errors import FeatureMissing

PTE, PMD, PUD, PGD = ARCHES["riscv64"].at


@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        (USER, 0x13),
        (USER | WRITE, 0x17),
        (USER | EXEC, 0x1B),
        (USER | YOUNG, 0x53),
        (USER | WRITE | DIRTY, 0x97),
        (USER | DIRTY, 0x93),
        (USER | SPECIAL, 0x113),
        (PROTNONE, 0x22),
    ],
)
def test_pte_bits(flags, bits):
    assert PTE.leaf(0x12345, flags) == 0x12345 << 10 | bits
    assert PMD.leaf(0x12200, flags) == 0x12200 << 10 | bits


def test_pointer_is_present_without_rights():
    entry = PMD.table(0x5000)
    assert entry == 5 << 10 | 1
    assert PMD.kind(entry) == TABLE
    assert PMD.kind(entry | 2) == LEAF


def test_napot_hides_the_order_in_the_frame_number():
    entry = PTE.leaf(0x4F, USER, 1 << 16)
    assert entry == 1 << 63 | 0x48 << 10 | 0x13
    assert PTE.pfn(entry) == 0x40
    assert PTE.leaf_bytes(entry) == 1 << 16


def test_invalidated_huge_leaf_keeps_only_its_rights():
    entry = PMD.mkinvalid(PMD.leaf(0x200, USER | WRITE))
    assert entry == 0x200 << 10 | 0x16
    assert PMD.kind(entry) == LEAF


def test_swap_layout():
    """Exclusive in bit 6, type in 7 to 11, offset from 12; V, R, W, X and G are zero."""
    for entries in (PTE, PMD, PUD):
        assert entries.swap_entry(5, 0x1234) == 0x1234 << 12 | 5 << 7
        assert entries.swap_entry(5, 0x1234, EXCLUSIVE) == 0x1234 << 12 | 5 << 7 | 1 << 6


def test_there_is_no_uffd_wp():
    with pytest.raises(FeatureMissing, match="uffd-wp"):
        PTE.leaf(1, UFFD_WP)
