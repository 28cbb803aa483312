"""clear_refs: what it tracks, and why it over-reports."""

import pytest

from pagewatch.model import Quirks
from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query
from support.modelled import PAGE, Area

TRACKED = Quirks(soft_dirty=True)
DIRTY = Query(mask=Category.SOFT_DIRTY, returned=Category.SOFT_DIRTY)


def test_only_pages_stored_to_since_are_dirty() -> None:
    area = Area(8, quirks=TRACKED)
    area.store(*range(8))
    area.process.clear_refs("4")
    area.load(1)
    area.store(3)
    assert area.pages(DIRTY) == [3]
    assert [word >> 55 & 1 for word in area.process.pagemap(area.start, 8)] == [0, 0, 0, 1, 0, 0, 0, 0]


def test_a_new_mapping_is_dirty_as_a_whole_and_a_merge_spreads_that() -> None:
    area = Area(4, quirks=TRACKED)
    area.process.clear_refs("4")
    assert area.pages(DIRTY) == []
    area.process.mmap(4 * PAGE, at=area.start - 4 * PAGE)
    assert len(area.process.areas) == 1
    assert area.pages(DIRTY) == [0, 1, 2, 3]


def test_a_moved_page_is_dirty() -> None:
    area = Area(2, quirks=TRACKED)
    area.store(0)
    area.process.clear_refs("4")
    target = area.process.mremap(area.start, PAGE, PAGE, flags=3, target=area.start - 16 * PAGE)
    assert area.process.pagemap(target, 1)[0] >> 55 & 1


def test_the_bit_survives_swap_and_writing_there_sets_it() -> None:
    area = Area(2, quirks=TRACKED)
    area.store(0, 1)
    area.process.clear_refs("4")
    area.store(1)
    area.advise(21, 0, 2)
    assert area.pages(DIRTY) == [1]
    area.load(0)
    assert area.pages(DIRTY) == [1]
    area.store(0)
    assert area.pages(DIRTY) == [0, 1]


def test_a_pinned_page_stays_writable_and_dirty() -> None:
    area = Area(1, quirks=TRACKED)
    area.store(0)
    with area.process.pin(area.start, 1):
        area.process.clear_refs("4")
        assert area.pages(DIRTY) == [0]


@pytest.mark.parametrize(("cleared_there", "seen"), [(True, []), (False, [0])], ids=["on the device", "before"])
def test_soft_dirty_cannot_see_a_store_to_a_page_that_was_on_a_device_when_it_was_cleared(
    *, cleared_there: bool, seen: list[int]
) -> None:
    """clear_soft_dirty() takes the write bit from present entries alone; a device entry with it comes back writable."""
    area = Area(1, quirks=TRACKED)
    area.store(0)
    for clears in (not cleared_there, cleared_there):
        if clears:
            area.process.clear_refs("4")
        area.process.migrate_to_device(area.start, PAGE)
    assert area.pages(DIRTY) == []
    area.process.store(area.start, b"new")
    assert area.load(0, 3) == b"new"
    assert area.pages(DIRTY) == seen


def test_without_the_option_it_succeeds_and_tracks_nothing() -> None:
    area = Area(2)
    area.process.clear_refs("4")
    area.store(0)
    assert area.pages(DIRTY) == []


@pytest.mark.parametrize("text", ["0", "6", "x", "", "4 4"])
def test_anything_but_one_to_five_is_einval(text: str) -> None:
    with pytest.raises(OSError, match="clear_refs: Invalid argument"):
        Area(1).process.clear_refs(text)


def test_white_space_around_the_number_is_fine() -> None:
    area = Area(2, quirks=TRACKED)
    area.store(0, 1)
    area.process.clear_refs(" 4\n")
    assert area.pages(DIRTY) == []
