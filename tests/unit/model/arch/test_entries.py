"""Leaves and directory entries of every level of every format."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.model.arch.format import (
    DIRTY,
    EXCLUSIVE,
    EXEC,
    FLAG_NAMES,
    INVALID,
    LEAF,
    NONE,
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
from support.formats import FORMATS, LEAF_PLACES, PLACES, Place, frames, leaf_flags, leaf_places, places_of

each_place = pytest.mark.parametrize("place", PLACES, ids=str)
each_format = pytest.mark.parametrize("name", FORMATS)
each_leaf_place = pytest.mark.parametrize("place", LEAF_PLACES, ids=str)

ACCESS = WRITE | USER | EXEC | PROTNONE


def drawn_leaf(data: st.DataObject, place: Place) -> tuple[int, int, int, int]:
    """An entry with its first frame, flags and size in bytes."""
    size = data.draw(st.sampled_from(place.entries.leaf_sizes), "size")
    pfn = data.draw(frames(place, size), "pfn")
    flags = data.draw(leaf_flags(place.entries), "flags")
    return place.entries.leaf(pfn, flags, size), pfn, flags, size


def is_users(place: Place, flags: int) -> bool:
    """Whether user mode may access; where no bit says so, the address space does."""
    return bool(flags & USER) or not place.entries.supported & USER


@each_place
def test_empty_is_none(place):
    entries = place.entries
    assert entries.kind(entries.empty) == NONE
    assert entries.kind(0) == NONE
    assert entries.flags(entries.empty) == 0


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_leaf_reads_back(name, data):
    place = data.draw(leaf_places(name), "place")
    entry, pfn, flags, size = drawn_leaf(data, place)
    entries = place.entries
    assert 0 < entry < 1 << 8 * entries.entry_bytes
    assert entries.kind(entry) == LEAF
    assert (entries.pfn(entry), entries.flags(entry), entries.leaf_bytes(entry)) == (pfn, flags, size)


@each_leaf_place
def test_single_entry_leaf_is_the_default_size(place):
    entries = place.entries
    if 1 << entries.shift in entries.leaf_sizes:
        assert entries.leaf(0, WRITE | DIRTY) == entries.leaf(0, WRITE | DIRTY, 1 << entries.shift)
    else:
        with pytest.raises(InvalidArgument, match="it has"):
            entries.leaf(0, WRITE | DIRTY)


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_transforms_change_their_flag_and_nothing_else(name, data):
    place = data.draw(leaf_places(name), "place")
    entry, pfn, flags, size = drawn_leaf(data, place)
    entries = place.entries
    dirtied = DIRTY | SOFT_DIRTY & entries.supported
    expected = {
        entries.mkclean: flags & ~DIRTY,
        entries.mkdirty: flags | dirtied,
        entries.mkyoung: flags | YOUNG,
        entries.mkold: flags & ~YOUNG,
        entries.wrprotect: flags & ~WRITE,
    }
    if not flags & PROTNONE:
        expected[entries.mkwrite] = flags | WRITE
    if entries.supported & SPECIAL:
        expected[entries.mkspecial] = flags | SPECIAL
    if entries.supported & SOFT_DIRTY:
        expected[entries.mksoft_dirty] = flags | SOFT_DIRTY
        expected[entries.clear_soft_dirty] = flags & ~SOFT_DIRTY
    if entries.supported & UFFD_WP:
        expected[entries.mkuffd_wp] = flags & ~WRITE | UFFD_WP
        expected[entries.clear_uffd_wp] = flags & ~UFFD_WP
    for transform, wanted in expected.items():
        changed = transform(entry)
        assert entries.flags(changed) == wanted, transform.__name__
        assert entries.kind(changed) == LEAF
        assert (entries.pfn(changed), entries.leaf_bytes(changed)) == (pfn, size)


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_dirt_recorded_by_hardware_survives_write_protection(name, data):
    place = data.draw(leaf_places(name), "place")
    entry, _, flags, _ = drawn_leaf(data, place)
    entries = place.entries
    stored = entries.after_store(entry)
    if stored is None:
        return
    assert entries.flags(stored) == flags | YOUNG | DIRTY
    protected = entries.wrprotect(stored)
    assert entries.flags(protected) & (DIRTY | WRITE) == DIRTY
    assert entries.flags(entries.mkwrite(protected)) & (DIRTY | WRITE) == DIRTY | WRITE
    assert not entries.flags(entries.mkclean(protected)) & DIRTY


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_hardware_respects_the_rights(name, data):
    place = data.draw(leaf_places(name), "place")
    entry, _, flags, _ = drawn_leaf(data, place)
    entries, features = place.entries, place.fmt.features
    reachable = not flags & (PROTNONE | INVALID) and is_users(place, flags)
    may_load = reachable and ("hw-young" in features or flags & YOUNG)
    may_store = (
        reachable
        and flags & WRITE
        and ("hw-young" in features or flags & YOUNG)
        and ("hw-dirty" in features or flags & DIRTY)
    )
    loaded, stored = entries.after_load(entry), entries.after_store(entry)
    assert (loaded is not None) == bool(may_load)
    assert (stored is not None) == bool(may_store)
    if loaded is not None:
        assert entries.flags(loaded) == flags | YOUNG


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_fault_resolution_lets_the_access_through(name, data):
    """What the kernel does after a permitted access faulted: young, and for a store dirty."""
    place = data.draw(leaf_places(name), "place")
    entry, _, flags, _ = drawn_leaf(data, place)
    entries = place.entries
    if flags & (PROTNONE | INVALID) or not is_users(place, flags):
        return
    assert entries.after_load(entries.mkyoung(entry)) is not None
    assert entries.after_store(entries.mkwrite(entries.mkdirty(entries.mkyoung(entry)))) is not None


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_modify_replaces_the_rights_only(name, data):
    place = data.draw(leaf_places(name), "place")
    entry, pfn, flags, size = drawn_leaf(data, place)
    entries = place.entries
    if flags & INVALID:
        return
    rights = data.draw(leaf_flags(entries), "rights") & ~INVALID & ACCESS
    changed = entries.modify(entry, rights)
    assert entries.flags(changed) == flags & ~ACCESS | rights
    assert (entries.pfn(changed), entries.leaf_bytes(changed)) == (pfn, size)


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_invalid_leaf_is_a_leaf_that_hardware_cannot_use(name, data):
    place = data.draw(leaf_places(name), "place")
    entry, pfn, flags, size = drawn_leaf(data, place)
    entries = place.entries
    if not entries.supported & INVALID:
        with pytest.raises(FeatureMissing, match="invalid"):
            entries.mkinvalid(entry)
        return
    if not flags & USER:
        return
    changed = entries.mkinvalid(entry)
    assert entries.kind(changed) == LEAF
    assert entries.flags(changed) == flags | INVALID
    assert (entries.pfn(changed), entries.leaf_bytes(changed)) == (pfn, size)
    assert entries.after_load(changed) is None
    assert entries.after_store(changed) is None
    assert entries.mkinvalid(changed) == changed


@each_leaf_place
def test_missing_flags_are_refused_by_name(place):
    entries = place.entries
    for bit, name in enumerate(FLAG_NAMES):
        if not entries.supported >> bit & 1:
            with pytest.raises(FeatureMissing, match=f"{name}: {place.fmt.name} has no such bit"):
                entries.leaf(0, 1 << bit, entries.leaf_sizes[0])
    lacking = {
        SOFT_DIRTY: (entries.mksoft_dirty, entries.clear_soft_dirty, entries.swp_mksoft_dirty),
        UFFD_WP: (entries.mkuffd_wp, entries.clear_uffd_wp, entries.swp_mkuffd_wp),
        SPECIAL: (entries.mkspecial,),
        EXCLUSIVE: (entries.swp_mkexclusive, entries.swp_clear_exclusive),
    }
    leaf = entries.leaf(0, YOUNG, entries.leaf_sizes[0])
    for flag, transforms in lacking.items():
        for transform in transforms:
            if not entries.supported & flag:
                with pytest.raises(FeatureMissing):
                    transform(leaf)


@each_leaf_place
def test_contradictions_are_refused(place):
    entries = place.entries
    for right in (WRITE, EXEC):
        with pytest.raises(InvalidArgument, match="protnone excludes"):
            entries.leaf(0, PROTNONE | right, entries.leaf_sizes[0])
    if entries.supported & EXCLUSIVE:
        with pytest.raises(InvalidArgument, match="cannot be exclusive"):
            entries.leaf(0, EXCLUSIVE, entries.leaf_sizes[0])


@each_leaf_place
def test_frames_out_of_range_or_misaligned_are_refused(place):
    entries = place.entries
    for size in entries.leaf_sizes:
        for pfn in (-1, 1 << 60):
            with pytest.raises(InvalidArgument, match="out of range"):
                entries.leaf(pfn, YOUNG, size)
        if size > 1 << entries.page_shift and entries.shift > entries.page_shift:
            with pytest.raises(InvalidArgument, match="aligned"):
                entries.leaf(1, YOUNG, size)


@each_format
@settings(deadline=None, max_examples=25)
@given(data=st.data(), table=st.integers(0, (1 << 18) - 1))
def test_table_entry_reads_back(name, data, table):
    place = data.draw(st.sampled_from(places_of(name)), "place")
    entries = place.entries
    address = table << 12 if entries.page_shift == 12 else table << 16 & (1 << 30) - 1
    if entries is not place.fmt.at[entries.level] or entries.level == 0:
        with pytest.raises(InvalidArgument):
            entries.table(address)
        with pytest.raises(InvalidArgument, match="no table below"):
            entries.below(0)
        return
    entry = entries.table(address)
    assert 0 < entry < 1 << 8 * entries.entry_bytes
    assert entries.kind(entry) == TABLE
    assert entries.flags(entry) == 0
    assert entries.table_address(entry) == address
    assert entries.below(entry) is place.fmt.at[entries.level - 1]
    with pytest.raises(InvalidArgument, match="no frame number"):
        entries.pfn(entry)


@pytest.mark.parametrize("place", [place for place in PLACES if place.entries.directories], ids=str)
@pytest.mark.parametrize("table", [0, 1, (1 << 18) - 1])
def test_special_directory_reads_back(place, table):
    entries = place.entries
    for size, below in entries.directories.items():
        entry = entries.table(table << 12, size)
        assert 0 < entry < 1 << 8 * entries.entry_bytes
        assert entries.kind(entry) == TABLE
        assert entries.table_address(entry) == table << 12
        assert entries.below(entry) is below


@each_place
def test_unknown_directories_and_addresses_are_refused(place):
    entries = place.entries
    with pytest.raises(InvalidArgument):
        entries.table(0, 12345)
    with pytest.raises(InvalidArgument):
        entries.table(1)
    with pytest.raises(InvalidArgument):
        entries.table(1 << 70)


@each_format
@settings(deadline=None, max_examples=25)
@given(address=st.integers(0, (1 << 57) - 1))
def test_index_is_the_position_within_the_table(name, address):
    for place in places_of(name):
        entries = place.entries
        assert entries.index(address) == address // (1 << entries.shift) % (1 << entries.index_bits)
