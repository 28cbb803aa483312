"""UFFDIO_MOVE where no live kernel is asked: pins, swap, races, and the books afterwards."""

import pytest

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.vocab.categories import Category
from support.modelled import PAGE, Area

HALF = 4


def area_with_target() -> Area:
    """Pages 0 to 3, and watched ones from 4 to 7."""
    area = Area(2 * HALF)
    area.uffd = area.process.userfaultfd()
    area.uffd.register(area.at(HALF), HALF * PAGE)
    return area


def test_the_frame_itself_moves() -> None:
    area = area_with_target()
    area.store(0)
    frame = area.process.pagemap(area.start, 1, show_frames=True)[0] & (1 << 55) - 1
    assert area.uffd.move(area.at(HALF), area.start, PAGE) == PAGE
    assert area.process.pagemap(area.at(HALF), 1, show_frames=True)[0] & (1 << 55) - 1 == frame
    assert area.load(HALF) == b"x"
    assert area.load(0) == b"\0"
    check(area.kernel.machine)


def test_a_pinned_page_stays() -> None:
    area = area_with_target()
    area.store(0)
    pin = area.process.pin(area.start, 1)
    with pytest.raises(OSError, match="Device or resource busy"):
        area.uffd.move(area.at(HALF), area.start, PAGE)
    assert area.load(0) == b"x"
    pin.release()
    assert area.uffd.move(area.at(HALF), area.start, PAGE) == PAGE
    check(area.kernel.machine)


def test_a_page_in_swap_moves_without_being_read() -> None:
    area = area_with_target()
    area.store(0)
    area.advise(Advice.PAGEOUT, 0, 1)
    assert area.uffd.move(area.at(HALF), area.start, PAGE) == PAGE
    assert area.categories(HALF) & Category.SWAPPED
    assert area.load(HALF) == b"x"
    check(area.kernel.machine)


def test_a_fork_after_a_move_finds_the_page_at_its_new_place() -> None:
    area = area_with_target()
    area.store(0)
    area.uffd.move(area.at(HALF), area.start, PAGE)
    child = area.process.fork()
    child.store(area.at(HALF), b"y")
    assert area.load(HALF) == b"x"
    check(area.kernel.machine)


def test_a_store_that_races_with_a_move_is_at_one_of_both_places_in_every_trace() -> None:
    made: list[Area] = []

    def build() -> list[object]:
        made[:] = [area] = [area_with_target()]
        area.store(0)
        area.store(0, cpu=1)
        return [
            lambda: area.uffd.move(area.at(HALF), area.start, PAGE),
            lambda: area.process.store(area.start, b"y", cpu=1),
        ]

    places = set()
    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
        check(made[0].kernel.machine)
        places.add((made[0].load(0), made[0].load(HALF)))
    assert places == {(b"\0", b"y"), (b"y", b"x")}
