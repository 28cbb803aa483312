"""COPY, ZEROPAGE, CONTINUE and POISON."""

import errno
from signal import SIGBUS

import pytest

from pagewatch.model import Quirks, Signal
from pagewatch.model.uffd.context import Feature, Mode
from pagewatch.vocab.categories import Category
from support.modelled import PAGE, Area


def watched(n_pages: int, mode: Mode = Mode.MISSING, **options):
    area = Area(n_pages, **options)
    uffd = area.process.userfaultfd(Feature(0))
    uffd.register(area.start, n_pages * PAGE, mode)
    return area, uffd


def test_copy_fills_and_refuses_what_is_there() -> None:
    area, uffd = watched(4)
    assert uffd.copy(area.start, b"a" * PAGE + b"b" * PAGE) == 2 * PAGE
    assert area.load(1) == b"b"
    with pytest.raises(OSError, match="File exists"):
        uffd.copy(area.start, bytes(PAGE))


def test_a_copy_that_meets_a_page_in_the_middle_says_how_far_it_came() -> None:
    area, uffd = watched(4)
    uffd.copy(area.at(2), bytes(PAGE))
    assert uffd.copy(area.start, b"x" * 4 * PAGE) == 2 * PAGE


def test_copy_replaces_a_marker_and_its_protection_unless_asked_to_protect() -> None:
    area = Area(4)
    uffd = area.armed()
    uffd.copy(area.at(1), b"c" * PAGE)
    uffd.copy(area.at(2), b"c" * PAGE, protect=True)
    assert area.pages() == [1]


def test_copy_into_shared_memory_goes_through_the_page_cache() -> None:
    area, uffd = watched(4, shared=True)
    uffd.copy(area.at(1), b"s" * PAGE)
    assert area.process.areas[0].file.read(PAGE, 2) == b"ss"
    assert area.categories(1) & Category.FILE


def test_zeropage_maps_the_zero_page_but_not_over_a_marker() -> None:
    area, uffd = watched(4)
    assert uffd.zeropage(area.start, PAGE) == PAGE
    assert area.categories(0) & Category.PFNZERO
    armed = Area(4)
    with pytest.raises(OSError, match="File exists"):
        armed.armed().zeropage(armed.start, PAGE)


def test_continue_maps_what_the_page_cache_holds() -> None:
    area, uffd = watched(4, Mode.MINOR, shared=True)
    area.process.areas[0].file.write(0, b"cached")
    assert uffd.continue_(area.start, PAGE) == PAGE
    assert area.load(0, 6) == b"cached"
    with pytest.raises(OSError, match="Bad address"):
        uffd.continue_(area.at(1), PAGE)


@pytest.mark.parametrize(("memory_failure", "code"), [(False, 2), (True, 4)])
def test_poison_is_a_sigbus_until_a_copy_replaces_it(memory_failure: bool, code: int) -> None:
    area, uffd = watched(4, quirks=Quirks(memory_failure=memory_failure))
    uffd.poison(area.at(1), PAGE)
    with pytest.raises(Signal) as caught:
        area.load(1)
    assert (caught.value.signo, caught.value.code) == (SIGBUS, code)
    child = area.process.fork()
    with pytest.raises(Signal):
        child.load(area.at(1), 1)
    uffd.copy(area.at(1), b"k" * PAGE)
    assert area.load(1) == b"k"


def test_poison_is_dropped_by_dontneed() -> None:
    area, uffd = watched(4, Mode.WP)
    uffd.poison(area.at(1), PAGE)
    area.advise(4, 1, 2)
    assert area.load(1) == b"\0"


def test_outside_watched_areas_is_enoent_and_protection_needs_a_wp_area() -> None:
    area, uffd = watched(4)
    outside = area.process.mmap(PAGE)
    for call, number in (
        (lambda: uffd.copy(outside, bytes(PAGE)), errno.ENOENT),
        (lambda: uffd.copy(area.start, bytes(PAGE), protect=True), errno.EINVAL),
        (lambda: uffd.copy(area.start + 1, bytes(PAGE)), errno.EINVAL),
    ):
        with pytest.raises(OSError, match="UFFDIO_COPY") as caught:
            call()
        assert caught.value.errno == number
