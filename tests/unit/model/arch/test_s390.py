"""s390 entries, literally, by the tables of bit combinations in pgtable.h of the kernel."""

import pytest

from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.format import (
    DIRTY,
    EXCLUSIVE,
    EXEC,
    LEAF,
    NONE,
    PROTNONE,
    SOFT_DIRTY,
    SPECIAL,
    TABLE,
    USER,
    WRITE,
    YOUNG,
)
from pagewatch.vocab.errors import FeatureMissing

PTE, PMD, PUD, PGD = ARCHES["s390"].at

# The kernel's table: flags, then I and R of the hardware, then w, r, d, y of the software.
COMBINATIONS = [
    (PROTNONE, "11 0000"),
    (PROTNONE | YOUNG, "11 0001"),
    (PROTNONE | DIRTY, "11 0010"),
    (PROTNONE | DIRTY | YOUNG, "11 0011"),
    (0, "11 0100"),
    (YOUNG, "01 0101"),
    (DIRTY, "11 0110"),
    (DIRTY | YOUNG, "01 0111"),
    (WRITE, "11 1100"),
    (WRITE | YOUNG, "01 1101"),
    (WRITE | DIRTY, "10 1110"),
    (WRITE | DIRTY | YOUNG, "00 1111"),
]


@pytest.mark.parametrize(("flags", "pattern"), COMBINATIONS)
def test_pte_combinations(flags, pattern):
    invalid, protect, write, read, dirty, young = map(int, pattern.replace(" ", ""))
    exec_flag = 0 if flags & PROTNONE else EXEC
    expected = invalid << 10 | protect << 9 | write << 5 | read << 4 | dirty << 3 | young << 2 | 1
    entry = PTE.leaf(0x12345, flags | exec_flag)
    assert entry & ~0x100 == 0x12345000 | expected
    assert bool(entry & 0x100) == bool(flags & PROTNONE)


@pytest.mark.parametrize(("flags", "pattern"), COMBINATIONS)
def test_segment_and_region_combinations(flags, pattern):
    invalid, protect, write, read, dirty, young = map(int, pattern.replace(" ", ""))
    exec_flag = 0 if flags & PROTNONE else EXEC
    software = write << 15 | read << 14 | dirty << 13 | young << 12
    expected = software | 0x400 | protect << 9 | invalid << 5 | 1
    assert PMD.leaf(0x12300, flags | exec_flag) & ~0x100 == 0x12300000 | expected
    assert PUD.leaf(0x80000, flags | exec_flag) & ~0x100 == 0x80000000 | expected | 4


def test_the_bits_of_software_lead_those_of_hardware():
    entry = PTE.leaf(1, WRITE | EXEC)
    assert PTE.after_load(entry) is None
    entry = PTE.mkyoung(entry)
    assert PTE.after_load(entry) == entry
    assert PTE.after_store(entry) is None
    entry = PTE.mkdirty(entry)
    assert PTE.after_store(entry) == entry
    assert PTE.after_store(PTE.mkclean(entry)) is None
    assert PTE.after_load(PTE.mkold(entry)) is None


def test_empty_entries_are_not_zero():
    assert [entries.empty for entries in (PTE, PMD, PUD, PGD)] == [0x400, 0x20, 0x24, 0x28]
    assert all(entries.kind(entries.empty) == NONE for entries in (PTE, PMD, PUD, PGD))


def test_directory_entries_carry_the_type_of_their_table():
    assert PMD.table(0x5000) == 0x5001
    assert PUD.table(0x5000) == 0x5007
    assert PGD.table(0x5000) == 0x500B
    assert all(entries.kind(entries.table(0x5000)) == TABLE for entries in (PMD, PUD, PGD))


def test_page_tables_are_half_pages():
    assert PMD.table_address(PMD.table(0x5800)) == 0x5800


def test_swap_layouts():
    assert PTE.swap_entry(5, 0x1234) == 0x1234 << 12 | 0x600 | 5 << 2
    assert PTE.swap_entry(5, 0x1234, EXCLUSIVE | SOFT_DIRTY) == 0x1234 << 12 | 0xE00 | 5 << 2 | 2
    assert PMD.swap_entry(5, 0x1234) == 0x1234 << 12 | 5 << 6 | 0x30
    assert PUD.swap_entry(5, 0x1234, SOFT_DIRTY) == 0x1234 << 12 | 5 << 6 | 0x30 | 4 | 2


@pytest.mark.parametrize("flag", [USER, SPECIAL, EXCLUSIVE])
def test_what_segment_entries_lack(flag):
    assert PTE.supported & (SPECIAL | EXCLUSIVE) == SPECIAL | EXCLUSIVE
    with pytest.raises(FeatureMissing):
        PMD.leaf(0, flag)


def test_large_leaf_is_told_from_a_table_by_one_bit():
    assert PMD.kind(PMD.leaf(0x100, YOUNG)) == LEAF
    assert PMD.kind(PMD.leaf(0x100, YOUNG) & ~0x400) == TABLE
