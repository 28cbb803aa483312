"""Non-present entries, at every level that can hold a leaf, of every format."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.model.arch.format import (
    DEVICE,
    DEVICE_EXCLUSIVE,
    DIRTY,
    EXCLUSIVE,
    HWPOISON,
    LEAF,
    MARKER,
    MARKER_GUARD,
    MARKER_POISON,
    MARKER_UFFD_WP,
    MIGRATION,
    NONE,
    SOFT_DIRTY,
    SWAP,
    TABLE,
    UFFD_WP,
    WRITE,
    YOUNG,
)
from pagewatch.vocab.errors import FeatureMissing, InvalidArgument
from support.formats import FORMATS, LEAF_PLACES, PLACES, Place, frames, leaf_flags, leaf_places

each_format = pytest.mark.parametrize("name", FORMATS)
each_leaf_place = pytest.mark.parametrize("place", LEAF_PLACES, ids=str)

SWAPLESS = {"ppc-e500", "ppc-e500-hugepd"}
"""Formats in which a swap entry above the PTEs would read as a table."""


def holds_swap(place: Place) -> bool:
    return place.entries.level == 0 or place.fmt.name not in SWAPLESS


def some_flags(place: Place, allowed: int) -> st.SearchStrategy[int]:
    """Any set of the allowed flags that the level supports."""
    flags = [1 << bit for bit in range(11) if allowed >> bit & 1 and place.entries.supported >> bit & 1]
    return st.sets(st.sampled_from(flags)).map(sum) if flags else st.just(0)


def pfn_entries(place: Place) -> st.SearchStrategy[tuple[int, int, int]]:
    """Kind, frame and flags of an entry that carries a frame number."""
    software = SOFT_DIRTY | UFFD_WP
    flags = {
        MIGRATION: st.builds(
            lambda how, rest: how | rest,
            st.sampled_from((0, WRITE, EXCLUSIVE)),
            some_flags(place, YOUNG | DIRTY | software),
        ),
        HWPOISON: some_flags(place, software),
        DEVICE: some_flags(place, WRITE | software),
        DEVICE_EXCLUSIVE: some_flags(place, software),
    }
    return st.sampled_from(sorted(flags)).flatmap(
        lambda kind: st.tuples(st.just(kind), frames(place, 1 << place.entries.page_shift), flags[kind])
    )


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_swap_entry_reads_back(name, data):
    place = data.draw(leaf_places(name), "place")
    entries = place.entries
    type_ = data.draw(st.integers(0, 23), "type")
    offset = data.draw(st.integers(1, (1 << 24) - 1), "offset")
    flags = data.draw(some_flags(place, EXCLUSIVE | SOFT_DIRTY | UFFD_WP), "flags")
    if not holds_swap(place):
        with pytest.raises(InvalidArgument, match="read as a table"):
            entries.swap_entry(type_, offset, flags)
        return
    entry = entries.swap_entry(type_, offset, flags)
    assert 0 < entry < 1 << 8 * entries.entry_bytes
    assert entries.kind(entry) == SWAP
    assert entries.swap(entry) == (type_, offset)
    assert entries.flags(entry) == flags
    with pytest.raises(InvalidArgument, match=r"swap entry .* carries no frame"):
        entries.pfn(entry)


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_swap_bits_change_alone(name, data):
    place = data.draw(leaf_places(name), "place")
    if not holds_swap(place):
        return
    entries = place.entries
    offset = data.draw(st.integers(1, (1 << 24) - 1), "offset")
    flags = data.draw(some_flags(place, EXCLUSIVE | SOFT_DIRTY | UFFD_WP), "flags")
    entry = entries.swap_entry(3, offset, flags)
    transforms = {
        EXCLUSIVE: (entries.swp_mkexclusive, entries.swp_clear_exclusive),
        SOFT_DIRTY: (entries.swp_mksoft_dirty, entries.swp_clear_soft_dirty),
        UFFD_WP: (entries.swp_mkuffd_wp, entries.swp_clear_uffd_wp),
    }
    for flag, (make, clear) in transforms.items():
        if entries.supported & flag:
            assert make(entry) == entries.swap_entry(3, offset, flags | flag)
            assert clear(entry) == entries.swap_entry(3, offset, flags & ~flag)


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_entry_with_a_frame_reads_back(name, data):
    place = data.draw(leaf_places(name), "place")
    entries = place.entries
    kind, pfn, flags = data.draw(pfn_entries(place))
    entry = entries.pfn_entry(kind, pfn, flags)
    assert 0 < entry < 1 << 8 * entries.entry_bytes
    assert entries.kind(entry) == kind
    assert entries.pfn(entry) == pfn
    assert entries.flags(entry) == flags
    assert entries.marker(entry) == 0


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_marker_reads_back(name, data):
    place = data.draw(leaf_places(name), "place")
    entries = place.entries
    payload = data.draw(st.integers(1, 7))
    if payload & MARKER_UFFD_WP and not entries.supported & UFFD_WP:
        with pytest.raises(FeatureMissing, match="uffd-wp"):
            entries.marker_entry(payload)
        return
    entry = entries.marker_entry(payload)
    assert entries.kind(entry) == MARKER
    assert entries.marker(entry) == payload
    assert entries.flags(entry) == (UFFD_WP if payload & MARKER_UFFD_WP else 0)
    with pytest.raises(InvalidArgument, match=r"marker entry .* carries no frame"):
        entries.pfn(entry)


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_no_two_kinds_share_an_entry(name, data):
    place = data.draw(leaf_places(name), "place")
    entries = place.entries
    size = data.draw(st.sampled_from(entries.leaf_sizes))
    drawn = {
        NONE: entries.empty,
        LEAF: entries.leaf(data.draw(frames(place, size)), data.draw(leaf_flags(entries)), size),
        MARKER: entries.marker_entry(data.draw(st.sampled_from((MARKER_POISON, MARKER_GUARD, 6)))),
    }
    if holds_swap(place):
        drawn[SWAP] = entries.swap_entry(data.draw(st.integers(0, 23)), data.draw(st.integers(1, 1 << 20)))
    if entries.level and entries is place.fmt.at[entries.level]:
        drawn[TABLE] = entries.table(data.draw(st.integers(0, (1 << 14) - 1)) << 16)
    for kind in (MIGRATION, HWPOISON, DEVICE, DEVICE_EXCLUSIVE):
        drawn[kind] = entries.pfn_entry(kind, data.draw(frames(place, 1 << entries.page_shift)))
    assert {kind: entries.kind(entry) for kind, entry in drawn.items()} == {kind: kind for kind in drawn}


@each_leaf_place
def test_impossible_entries_are_refused(place):
    entries = place.entries
    with pytest.raises(InvalidArgument):
        entries.swap_entry(24, 1)
    with pytest.raises(InvalidArgument):
        entries.swap_entry(0, 0)
    with pytest.raises(InvalidArgument):
        entries.swap_entry(0, 1 << 60)
    with pytest.raises(InvalidArgument, match="no such marker"):
        entries.marker_entry(0)
    with pytest.raises(InvalidArgument, match="no such marker"):
        entries.marker_entry(8)
    with pytest.raises(InvalidArgument, match="bits"):
        entries.pfn_entry(HWPOISON, 1 << 52)
    with pytest.raises(InvalidArgument, match="carries no frame number"):
        entries.pfn_entry(SWAP, 1)
    with pytest.raises(InvalidArgument, match="hwpoison entry cannot be write"):
        entries.pfn_entry(HWPOISON, 1, WRITE)


@pytest.mark.parametrize("place", [place for place in PLACES if not place.entries.leaf_sizes], ids=str)
def test_tables_without_leaves_hold_no_absent_entries(place):
    for build in (
        lambda: place.entries.marker_entry(MARKER_POISON),
        lambda: place.entries.pfn_entry(MIGRATION, 1),
        lambda: place.entries.swap_entry(1, 1),
    ):
        with pytest.raises(InvalidArgument):
            build()
