"""Folding and unfolding of contiguous blocks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.contpte import can_fold, collected, fold, is_block, part_of, unfold
from pagewatch.model.arch.format import DIRTY, EXEC, PROTNONE, SPECIAL, UFFD_WP, USER, WRITE, YOUNG
from pagewatch.vocab.errors import InvalidArgument

PTE = ARCHES["arm64-4k"].at[0]
SIZE = 64 << 10
RAM = USER | EXEC | WRITE

young_and_dirty = st.lists(st.sampled_from((0, YOUNG, DIRTY, YOUNG | DIRTY)), min_size=16, max_size=16)


def block(tracking: list[int], *, pfn: int = 0x40) -> list[int]:
    """Sixteen single entries with their own young and dirty."""
    return [PTE.leaf(pfn + i, RAM | flags) for i, flags in enumerate(tracking)]


@given(tracking=young_and_dirty)
@settings(deadline=None)
def test_no_dirt_and_no_access_is_lost_on_the_way(tracking):
    total = 0
    for flags in tracking:
        total |= flags
    single = block(tracking)
    folded = fold(PTE, single, SIZE)
    assert {PTE.leaf_bytes(entry) for entry in folded} == {SIZE}
    assert {PTE.pfn(entry) for entry in folded} == {0x40}
    assert {PTE.flags(entry) for entry in folded} == {RAM | total}
    assert unfold(PTE, folded) == block([total] * 16)


def test_dirt_that_hardware_put_into_one_entry_is_that_of_the_block():
    folded = fold(PTE, block([0] * 16), SIZE)
    assert collected(PTE, folded) == 0
    stored = PTE.after_store(folded[5])
    assert stored is not None
    folded[5] = stored
    assert collected(PTE, folded) == YOUNG | DIRTY
    assert all(PTE.flags(entry) & DIRTY for entry in unfold(PTE, folded))


@pytest.mark.parametrize("name", ["arm64-4k", "arm64-16k", "arm64-64k"])
@pytest.mark.parametrize("level", [0, 1])
def test_every_granule_folds_whole_blocks(name, level):
    entries = ARCHES[name].at[level]
    span, size = entries.leaf_sizes
    pages = span >> entries.page_shift
    single = [entries.leaf(i * pages, RAM) for i in range(size // span)]
    assert can_fold(entries, 3 * size, single, size)
    assert unfold(entries, fold(entries, single, size)) == single


def test_what_keeps_a_block_apart():
    whole = block([YOUNG] * 16)
    assert can_fold(PTE, SIZE, whole, SIZE)
    assert not can_fold(PTE, SIZE + 4096, whole, SIZE)
    assert not can_fold(PTE, SIZE, whole[:-1], SIZE)
    assert not can_fold(PTE, SIZE, block([YOUNG] * 16, pfn=0x41), SIZE)
    assert not can_fold(PTE, SIZE, fold(PTE, whole, SIZE), SIZE)
    for i, odd in (
        (7, PTE.leaf(0x100, RAM)),
        (7, PTE.mkuffd_wp(whole[7])),
        (7, PTE.wrprotect(whole[7])),
        (0, PTE.swap_entry(1, 1)),
        (15, PTE.empty),
    ):
        assert not can_fold(PTE, SIZE, [*whole[:i], odd, *whole[i + 1 :]], SIZE)


def test_protecting_part_of_a_block_needs_single_entries():
    single = unfold(PTE, fold(PTE, block([DIRTY] * 16), SIZE))
    single[3] = PTE.mkuffd_wp(single[3])
    assert [bool(PTE.flags(entry) & UFFD_WP) for entry in single] == [i == 3 for i in range(16)]
    assert not can_fold(PTE, SIZE, single, SIZE)


@pytest.mark.parametrize("flags", [PROTNONE, PROTNONE | YOUNG, USER | SPECIAL])
def test_what_hardware_does_not_use_and_what_has_no_folio_is_not_folded(flags):
    assert not can_fold(PTE, SIZE, [PTE.leaf(0x40 + i, flags) for i in range(16)], SIZE)


@given(tracking=young_and_dirty)
@settings(deadline=None)
def test_an_entry_of_a_block_is_read_as_the_single_one_that_unfolding_makes(tracking):
    folded = fold(PTE, block([0] * 16), SIZE)
    folded = [entry | PTE.leaf(0, flags) & ~PTE.leaf(0, 0) for entry, flags in zip(folded, tracking, strict=True)]
    assert is_block(PTE, folded)
    assert [part_of(PTE, folded, at) for at in range(16)] == unfold(PTE, folded)


def test_a_block_that_is_just_being_changed_is_none():
    folded, other = (fold(PTE, block([YOUNG] * 16, pfn=pfn), SIZE) for pfn in (0x40, 0x50))
    assert is_block(PTE, folded)
    for at in range(16):
        for odd in (0, PTE.swap_entry(1, 1), PTE.mkuffd_wp(folded[at]), other[at], unfold(PTE, folded)[at]):
            assert not is_block(PTE, [*folded[:at], odd, *folded[at + 1 :]])
    assert not is_block(PTE, [*folded[3:], *other[:3]])
    assert not is_block(PTE, [0] * 16)


def test_impossible_blocks_are_refused():
    whole = block([0] * 16)
    with pytest.raises(InvalidArgument, match="cannot be folded"):
        fold(PTE, whole[:4], SIZE)
    with pytest.raises(InvalidArgument, match="not one block"):
        unfold(PTE, whole)
    folded = fold(PTE, whole, SIZE)
    with pytest.raises(InvalidArgument, match="not one block"):
        unfold(PTE, folded[:8])
