"""Pages of every size, written entry by entry and read back from any one of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.blocks import addresses, block, directories, expand
from pagewatch.model.arch.format import DIRTY, LEAF, USER, WRITE, YOUNG, PageTableFormat
from pagewatch.vocab.errors import InvalidArgument
from support.formats import FORMATS, leaf_flags
from support.page_tables import PageTables

K, M, G = 1 << 10, 1 << 20, 1 << 30
FLAGS = WRITE | YOUNG | DIRTY

each_page = pytest.mark.parametrize(
    ("fmt", "size"),
    [pytest.param(fmt, size, id=f"{name}-{size}") for name, fmt in FORMATS.items() for size in fmt.shapes],
)

LAYOUTS = [
    ("ppc-8xx-hugepd", "ppc-8xx", 8 * M),
    *(("ppc-e500-hugepd", "ppc-e500", size) for size in (4 * M, 16 * M, 64 * M, 256 * M, 1 * G)),
    *(("ppc64-e500-hugepd", "ppc64-e500", size) for size in (4 * M, 16 * M, 64 * M, 256 * M, 1 * G)),
    *(("ppc64-hash-4k-hugepd", "ppc64-hash-4k", size) for size in (16 * M, 16 * G)),
]
"""Old layout, new layout, and the sizes that changed from one to the other."""


def mapping(data: st.DataObject, fmt: PageTableFormat, size: int) -> tuple[int, int]:
    """Virtual address and first frame of a page of that size, not too high for 32 bits."""
    address = data.draw(st.integers(0, (1 << 32) // size - 1 if size < 1 << 32 else 3), "page") * size
    pfn = data.draw(st.integers(0, max(1, (1 << 32) // size) - 1), "frame") * (size >> fmt.at[0].page_shift)
    return address, pfn


@each_page
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_what_was_mapped_is_what_a_walk_finds(fmt, size, data):
    address, pfn = mapping(data, fmt, size)
    flags = data.draw(leaf_flags(fmt.at[0]), "flags") & fmt.at[-2].supported | YOUNG
    tables = PageTables(fmt)
    tables.map(address, pfn, size, flags)
    for offset in {0, size - 1, data.draw(st.integers(0, size - 1), "offset")}:
        expected = pfn + (offset >> fmt.at[0].page_shift), size
        assert tables.translate(address + offset) == expected
        entries, entry = tables.walk(address + offset)
        assert entries.flags(entry) == flags
    assert tables.translate((address + size) % (1 << fmt.address_bits)) is None


@each_page
def test_any_entry_of_a_block_tells_all_of_it(fmt, size):
    address = size * 3 if size * 4 <= 1 << fmt.address_bits else 0
    pages = size >> fmt.at[0].page_shift
    for entries, at, entry in expand(fmt, address, 5 * pages, size, FLAGS):
        assert entries.kind(entry) == LEAF
        assert block(entries, at, entry) == (address, size, 5 * pages)
        last = at + (1 << entries.shift) - 1
        assert block(entries, last, entry) == (address, size, 5 * pages)


@each_page
def test_number_of_entries_is_that_of_the_shape(fmt, size):
    shape = fmt.shape(size)
    tables = PageTables(fmt)
    leaves = tables.map(0, 0, size, FLAGS)
    if not shape.n_tables:
        assert len(leaves) == shape.n_entries
        assert {slot.format.level for slot in leaves} == {shape.level}
    else:
        assert len(directories(fmt, 0, size, range(0, shape.n_tables << 16, 1 << 16))) == shape.n_entries
        assert len(leaves) == max(1, size >> leaves[0].format.shift)


@pytest.mark.parametrize(("old", "new", "size"), LAYOUTS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_both_layouts_of_a_mapping_translate_alike(old, new, size, data):
    old_tables, new_tables = PageTables(ARCHES[old]), PageTables(ARCHES[new])
    address, pfn = mapping(data, ARCHES[new], size)
    flags = data.draw(leaf_flags(ARCHES[new].at[0]), "flags")
    assert len(old_tables.map(address, pfn, size, flags)) == 1
    new_tables.map(address, pfn, size, flags)
    for offset in data.draw(st.lists(st.integers(0, size - 1), min_size=1), "offsets"):
        assert old_tables.translate(address + offset) == new_tables.translate(address + offset)
        seen = [entries.flags(entry) for entries, entry in (t.walk(address + offset) for t in (old_tables, new_tables))]
        assert seen == [flags, flags]


def test_8xx_8m_fills_two_flagged_tables():
    fmt = ARCHES["ppc-8xx"]
    first, second = directories(fmt, 8 * M, 8 * M, [0x10000, 0x20000])
    assert (first.address, first.entry) == (8 * M, 0x10000 | 0x4D)
    assert (second.address, second.entry) == (12 * M, 0x20000 | 0x4D)
    leaves = expand(fmt, 8 * M, 0x800, 8 * M, WRITE | USER | YOUNG | DIRTY)
    assert len(leaves) == 2048
    assert [slot.entry for slot in leaves[:2]] == [0x00800929, 0x00801929]
    assert leaves[-1].entry == 0x00FFF929


def test_hash_16m_is_eight_pmds_or_one_of_sixteen_slots():
    leaves = expand(ARCHES["ppc64-hash-4k"], 16 * M, 0x1000, 16 * M, FLAGS)
    assert [slot.entry >> 12 & 0xFFFFF for slot in leaves] == [0x1000 + 512 * i for i in range(8)]
    (old,) = expand(ARCHES["ppc64-hash-4k-hugepd"], 16 * M, 0x1000, 16 * M, FLAGS)
    assert (old.format.index_bits, old.format.index(old.address)) == (4, 1)


def test_svnapot_entries_are_identical():
    entries = {slot.entry for slot in expand(ARCHES["riscv64"], 64 * K, 0x40, 64 * K, FLAGS | USER)}
    assert entries == {1 << 63 | (0x40 | 0x8) << 10 | 0xD7}


def test_arm64_block_entries_advance():
    leaves = expand(ARCHES["arm64-4k"], 64 * K, 0x40, 64 * K, FLAGS | USER)
    assert [slot.entry >> 12 & 0xFFFFF for slot in leaves] == list(range(0x40, 0x50))
    assert all(slot.entry >> 52 & 1 for slot in leaves)


def test_addresses_are_one_span_apart():
    fmt = ARCHES["arm64-4k"]
    assert list(addresses(fmt.at[0], 0, 64 * K)) == list(range(0, 64 * K, 4 * K))
    assert list(addresses(fmt.at[1], 2 * M, 2 * M)) == [2 * M]


def test_impossible_pages_are_refused():
    fmt = ARCHES["arm64-4k"]
    with pytest.raises(InvalidArgument, match="arm64-4k has no 16K pages; it has 4K, 64K, 2M, 32M, 1G"):
        expand(fmt, 0, 0, 16 * K, FLAGS)
    with pytest.raises(InvalidArgument, match="not aligned"):
        expand(fmt, 4 * K, 0, 64 * K, FLAGS)
    with pytest.raises(InvalidArgument, match="not aligned"):
        expand(fmt, 0, 1, 64 * K, FLAGS)
    with pytest.raises(InvalidArgument, match="out of range"):
        expand(fmt, 1 << 48, 0, 64 * K, FLAGS)
    with pytest.raises(InvalidArgument, match="needs 2 tables of its own, not 1"):
        directories(ARCHES["ppc-8xx"], 0, 8 * M, [0x10000])
    assert directories(fmt, 0, 64 * K, []) == []
