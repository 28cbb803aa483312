"""The tables that describe a level."""

from pagewatch.model.arch.layout import Geometry, bits


def test_bits_includes_both_ends():
    assert bits(3, 0) == 0xF
    assert bits(51, 12) == 0x000FFFFFFFFFF000
    assert bits(5, 5) == 0x20


def test_span_is_what_one_entry_covers():
    level = Geometry(arch="x", name="PMD", level=1, page_shift=12, shift=21, index_bits=9, pfn_mask=0, pfn_shift=12)
    assert level.span_bytes == 2 << 20
