"""UFFDIO_WRITEPROTECT: errnos, partial effects, and resolving."""

import errno
from collections.abc import Callable

import pytest

from pagewatch.model.uffd.context import Feature
from pagewatch.vocab.categories import Category
from support.modelled import PAGE, Area


def number_of(call: Callable[[], object]) -> int:
    with pytest.raises(OSError, match="UFFDIO_WRITEPROTECT") as caught:
        call()
    return caught.value.errno or 0


def test_an_unregistered_area_is_enoent_and_what_came_before_is_protected() -> None:
    area = Area(8)
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.start, 4 * PAGE)
    assert number_of(lambda: uffd.writeprotect(area.start, 8 * PAGE)) == errno.ENOENT
    assert area.pages(last=4) == []


def test_gaps_are_fine_but_nothing_at_all_is_enoent() -> None:
    area = Area(8)
    uffd = area.armed()
    area.process.munmap(area.at(2), 2 * PAGE)
    uffd.writeprotect(area.start, 8 * PAGE)
    area.process.munmap(area.start, 8 * PAGE)
    assert number_of(lambda: uffd.writeprotect(area.start, 8 * PAGE)) == errno.ENOENT


@pytest.mark.parametrize(("start", "length"), [(1, PAGE), (0, 1), (0, 0)])
def test_bad_ranges_are_einval(start: int, length: int) -> None:
    area = Area(4)
    uffd = area.armed()
    assert number_of(lambda: uffd.writeprotect(area.start + start, length)) == errno.EINVAL


def test_an_exited_process_is_esrch() -> None:
    area = Area(4)
    uffd = area.armed()
    area.process.exit()
    assert number_of(lambda: uffd.writeprotect(area.start, PAGE)) == errno.ESRCH


def test_resolving_in_async_mode_makes_all_written_and_drops_markers() -> None:
    area = Area(4)
    area.store(1)
    uffd = area.armed()
    uffd.writeprotect(area.start, 4 * PAGE, protect=False)
    assert area.pages() == [0, 1, 2, 3]
    assert area.categories(0) == Category.WPALLOWED | Category.WRITTEN


def test_protection_survives_mprotect_split_merge_and_swap() -> None:
    area = Area(8)
    area.store(*range(8))
    area.armed()
    area.process.mprotect(area.at(2), 2 * PAGE, 1)
    area.process.mprotect(area.at(2), 2 * PAGE, 3)
    area.advise(21, 0, 8)
    assert area.pages() == []
    area.load(3)
    assert area.pages() == []
    area.store(3)
    assert area.pages() == [3]


def test_a_page_armed_under_prot_none_is_seen_when_it_is_written_later() -> None:
    area = Area(4)
    area.store(1)
    area.process.mprotect(area.start, 4 * PAGE, 0)
    area.armed()
    area.process.mprotect(area.start, 4 * PAGE, 3)
    area.store(1)
    assert area.pages() == [1]


def test_without_markers_anonymous_memory_that_is_not_there_is_not_protected() -> None:
    area = Area(4)
    area.store(1)
    uffd = area.process.userfaultfd(Feature(0))
    uffd.register(area.start, 4 * PAGE)
    uffd.writeprotect(area.start, 4 * PAGE)
    assert area.process.pagemap(area.start, 2) == [0, 1 << 63 | 1 << 57 | 1 << 56]
