"""8xx entries, literally, as pte-8xx.h of the kernel lays them out."""

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
    USER,
    WRITE,
    YOUNG,
)
from pagewatch.vocab.errors import InvalidArgument

NEW, OLD = ARCHES["ppc-8xx"], ARCHES["ppc-8xx-hugepd"]
PTE, PGD = NEW.at
EIGHT_M = 8 << 20


@pytest.mark.parametrize(
    ("flags", "bits"),
    [
        (USER, 0x601),
        (USER | WRITE, 0x001),
        (USER | YOUNG, 0x621),
        (USER | WRITE | DIRTY, 0x101),
        (USER | EXEC, 0x641),
        (USER | SPECIAL, 0x681),
        (WRITE, 0x005),
        (PROTNONE, 0x201),
    ],
)
def test_pte_bits(flags, bits):
    assert PTE.leaf(0x12345, flags) == 0x12345000 | bits


def test_bigger_pages_say_so_in_two_bits():
    assert PTE.leaf(4, USER | WRITE, 16 << 10) == 0x4009
    assert PTE.leaf(128, USER | WRITE, 512 << 10) == 0x80809
    assert [PTE.leaf_bytes(entry) for entry in (1, 9, 0x809)] == [4 << 10, 16 << 10, 512 << 10]


def test_only_the_directory_tells_8m_from_512k():
    table = PGD.below(PGD.table(0x5000, EIGHT_M))
    same_word = 0x800809
    assert PTE.leaf_bytes(same_word) == 512 << 10
    assert table.leaf_bytes(same_word) == EIGHT_M
    assert (table.level, table.shift, table.index_bits) == (0, 12, 10)


def test_directory_entries():
    for fmt in (NEW, OLD):
        root = fmt.root
        assert root.table(0x5000) == 0x5041
        assert root.table(0x5000, EIGHT_M) == 0x504D
        assert root.kind(0x504D) == TABLE
        assert root.entry_bytes == 4


def test_protnone_stays_closed_under_write_protection():
    entry = PTE.wrprotect(PTE.leaf(1, PROTNONE | YOUNG | DIRTY))
    assert PTE.flags(entry) == PROTNONE | YOUNG | DIRTY
    assert PTE.after_load(entry) is None


def test_first_store_faults_until_software_says_dirty():
    entry = PTE.leaf(1, USER | WRITE | YOUNG)
    assert PTE.after_load(entry) == entry
    assert PTE.after_store(entry) is None
    assert PTE.after_store(PTE.mkdirty(entry)) == entry | 0x100


def test_swap_layout():
    assert PTE.swap_entry(5, 0x1234) == 0x1234 << 8 | 5 << 3
    assert PTE.swap_entry(5, 0x1234, EXCLUSIVE) == 0x1234 << 8 | 5 << 3 | 4
    with pytest.raises(InvalidArgument, match="24 bits"):
        PTE.swap_entry(5, 1 << 24)


def test_nothing_looked_huge():
    assert PTE.kind(1) == LEAF
    assert not PGD.old_huge(0x504D)
