"""Page-out: what leaves, what stays, and what those see who still reach the page by an old way."""

from collections.abc import Callable, Iterator
from itertools import chain

import pytest

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel, Quirks
from pagewatch.model.arch.format import LEAF, SWAP
from pagewatch.model.file import FileMapping
from pagewatch.model.gup_fast import gup_fast
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.pins import Page, Want, release
from pagewatch.model.walk import seek
from support.hardware import try_store
from support.modelled import PAGE, Area
from support.schedules import interrupted_once


def kind(area: Area) -> int:
    """What stands in the entry of the first page."""
    return seek(area.process.mm, area.start).kind


def test_a_page_that_another_address_space_maps_stays() -> None:
    area = Area(1)
    area.store(0)
    child = area.process.fork()
    area.advise(Advice.PAGEOUT, 0, 1)
    assert kind(area) == LEAF
    child.munmap(area.start, PAGE)
    area.advise(Advice.PAGEOUT, 0, 1)
    assert kind(area) == SWAP
    assert area.load(0) == b"x"
    check(area.kernel.machine)


def test_a_file_page_that_was_written_goes_to_the_disk() -> None:
    kernel = Kernel()
    area = Area(1, process=kernel.spawn(), shared=True, file=(file := kernel.disk_file(PAGE)))
    area.store(0)
    area.advise(Advice.PAGEOUT, 0, 1)
    assert not file.folios
    assert area.load(0) == b"x"
    check(kernel.machine)


@pytest.mark.parametrize("make", [Kernel.disk_file, Kernel.memfd], ids=lambda make: make.__name__)
def test_what_is_written_to_a_file_while_its_page_leaves_is_read_back(
    make: Callable[[Kernel, int], FileMapping],
) -> None:
    made: list[FileMapping] = []

    def build() -> list[Callable[[], object]]:
        kernel = Kernel()
        file = make(kernel, PAGE)
        made.append(file)
        area = Area(1, process=kernel.spawn(), shared=True, file=file)
        area.store(0)
        return [lambda: area.advise(Advice.PAGEOUT, 0, 1), lambda: file.write(0, b"new")]

    cached = set()
    for run in chain(interrupted_once(build), enumerate_traces(build)):
        assert not run.errors
        assert not run.deadlocked
        cached.add(bool(made[-1].folios))
        assert made[-1].read(0, 3) == b"new"
    assert cached == {True, False}, "the page leaves after the write in some traces, before it in others"


def outcomes_of_a_store() -> Iterator[tuple[int, bool]]:
    """For every trace of a page-out and a store of a CPU that knows the page: what the entry is then, and if it stored.

    :raises AssertionError: a store that succeeded is not in memory afterwards.
    """
    made: list[tuple[Area, list[bool]]] = []

    def build() -> list[Callable[[], None]]:
        area, stored = Area(1), []
        made.append((area, stored))
        area.process.store(area.start, b"old", cpu=1)
        return [
            lambda: area.advise(Advice.PAGEOUT, 0, 1),
            lambda: stored.append(try_store(area.process, area.start, b"new", cpu=1)),
        ]

    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
        area, (stored,) = made[-1]
        found = kind(area)
        assert area.load(0, 3) == (b"new" if stored else b"old")
        check(area.kernel.machine)
        yield found, stored


def test_a_store_through_an_old_translation_is_paged_out_with_the_page_or_faults() -> None:
    assert set(outcomes_of_a_store()) == {(SWAP, True), (SWAP, False)}


class PinnedWhilePagedOut:
    """A thread that pages a page out, and one that takes it without any lock."""

    def __init__(self, *, broadcast: bool) -> None:
        self.area = Area(1, quirks=Quirks(flush_is_broadcast=broadcast))
        self.area.store(0)
        self.pages: list[Page] = []

    def page_out(self) -> None:
        self.area.advise(Advice.PAGEOUT, 0, 1)

    def pin(self) -> None:
        process = self.area.process
        self.pages = gup_fast(process.mm, self.area.kernel.machine.cpus[1], self.area.start, 1, Want.PIN | Want.WRITE)


@pytest.mark.parametrize("broadcast", [False, True], ids=["flush by interrupt", "flush by broadcast"])
def test_a_page_that_was_pinned_meanwhile_stays_the_page_of_its_address(*, broadcast: bool) -> None:
    races: list[PinnedWhilePagedOut] = []

    def build() -> list[Callable[[], None]]:
        race = PinnedWhilePagedOut(broadcast=broadcast)
        races.append(race)
        return [race.page_out, race.pin]

    seen = set()
    for run in chain(interrupted_once(build), interrupted_once(build, first=1)):
        assert not run.errors
        assert not run.deadlocked
        race = races[-1]
        seen.add((kind(race.area), bool(race.pages)))
        race.area.process.store(race.area.start, b"y")
        for folio, number in race.pages:
            assert folio.words[number][0].to_bytes(8, "little")[:1] == b"y"
            release(race.area.kernel.machine.memory, folio, Want.PIN | Want.WRITE)
        check(race.area.kernel.machine)
    assert seen == {(SWAP, False), (LEAF, True)}


@pytest.mark.parametrize("first", [0, 1])
def test_two_faults_on_one_swapped_page_both_find_it(first: int) -> None:
    """One may have looked at the entry, and come to the slot when the other has freed it."""

    def build() -> list[Callable[[], object]]:
        area = Area(1)
        area.store(0)
        area.advise(Advice.PAGEOUT, 0, 1)
        loaded.clear()
        return [lambda cpu=cpu: loaded.append(area.process.load(area.start, 1, cpu=cpu)) for cpu in (0, 1)]

    loaded: list[bytes] = []
    for run in interrupted_once(build, first=first):
        assert not run.errors
        assert not run.deadlocked
        assert loaded == [b"x", b"x"]


@pytest.mark.parametrize("first", [0, 1])
def test_two_faults_on_one_swapped_page_of_a_memfd_bring_in_the_same(first: int) -> None:
    """It enters the page cache in the step in which it was found missing there: no page is made twice."""
    areas: list[Area] = []

    def build() -> list[Callable[[], object]]:
        area = Area(1, shared=True)
        area.store(0)
        area.advise(Advice.PAGEOUT, 0, 1)
        areas.append(area)
        return [lambda cpu=cpu: loaded.append(area.process.load(area.start, 1, cpu=cpu)) for cpu in (0, 1)]

    loaded: list[bytes] = []
    for run in interrupted_once(build, first=first):
        assert not run.errors
        assert not run.deadlocked
        check(areas[-1].kernel.machine)
    assert set(loaded) == {b"x"}
