"""fork: sharing, copying, and what becomes of tracking."""

import pytest

from pagewatch.model import Signal
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.uffd.context import Feature
from support.modelled import PAGE, Area


def test_parent_and_child_see_only_their_own_later_stores() -> None:
    area = Area(4)
    area.store(0, 1)
    child = area.process.fork()
    area.process.store(area.start, b"parent")
    child.store(area.at(1), b"child")
    assert (area.load(0, 6), area.load(1, 5)) == (b"parent", b"x\0\0\0\0")
    assert (child.load(area.start, 6), child.load(area.at(1), 5)) == (b"x\0\0\0\0\0", b"child")
    check(area.kernel.machine)


def test_a_stale_writable_translation_cannot_reach_the_shared_page() -> None:
    area = Area(1)
    area.store(0, cpu=0)
    area.store(0, cpu=1)
    child = area.process.fork()
    for cpu in (0, 1):
        area.process.store(area.start, b"late", cpu=cpu)
    assert child.load(area.start, 4) == b"x\0\0\0"


def test_the_childs_memory_is_not_protected_and_the_parents_stays_so() -> None:
    area = Area(4)
    area.store(*range(4))
    area.armed()
    child = area.process.fork()
    assert area.pages() == []
    words = child.pagemap(area.start, 4)
    assert not any(word >> 57 & 1 for word in words)
    child.store(area.start, b"c")
    assert area.pages() == []
    area.store(2)
    assert area.pages() == [2]


def test_with_the_fork_event_the_child_keeps_its_protection() -> None:
    area = Area(2)
    area.store(0)
    uffd = area.armed(Feature.WP_ASYNC | Feature.EVENT_FORK)
    uffd.handle_with(uffd.read)
    child = area.process.fork()
    assert [word >> 57 & 1 for word in child.pagemap(area.start, 2)] == [1, 1]


def test_guards_are_inherited() -> None:
    area = Area(2)
    area.advise(Advice.GUARD_INSTALL, 1, 2)
    child = area.process.fork()
    with pytest.raises(Signal):
        child.load(area.at(1), 1)


def test_dontfork_leaves_out_and_wipeonfork_empties() -> None:
    area = Area(4)
    area.store(*range(4))
    area.advise(Advice.DONTFORK, 1, 2)
    area.advise(Advice.WIPEONFORK, 2, 3)
    child = area.process.fork()
    assert child.load(area.start, 1) == b"x"
    assert child.load(area.at(2), 1) == b"\0"
    with pytest.raises(Signal):
        child.load(area.at(1), 1)


def test_a_pinned_page_is_copied_for_the_child_at_once() -> None:
    area = Area(1)
    area.store(0)
    with area.process.pin(area.start, 1) as pin:
        child = area.process.fork()
        area.process.store(area.start, b"to the pinned page")
        assert pin.read(0, 18) == b"to the pinned page"
        assert pin.pages[0].folio.raw_mapcount == 1
        assert child.load(area.start, 1) == b"x"
    check(area.kernel.machine)


def test_a_swapped_page_is_shared_until_it_is_written() -> None:
    area = Area(1)
    area.store(0)
    area.advise(Advice.PAGEOUT, 0, 1)
    child = area.process.fork()
    area.process.store(area.start, b"p")
    assert child.load(area.start, 1) == b"x"
    child.store(area.start, b"c")
    assert area.load(0) == b"p"
    check(area.kernel.machine)
    child.munmap(area.start, PAGE)
    check(area.kernel.machine)
