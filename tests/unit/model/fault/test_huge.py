"""Faults that a huge page answers, or stands in the way of."""

from collections.abc import Callable

import pytest

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel, Process, Quirks
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.uffd.context import Feature, Mode
from pagewatch.model.walk import seek
from pagewatch.vocab.categories import Category
from support.letters import H, P, W, Z
from support.modelled import PAGE, Area
from support.schedules import interrupted_once

N = 512


def huge_area(n_huge: int = 1) -> Area:
    """Anonymous memory that asks for huge pages, its first page written."""
    area = Area(n_huge * N)
    area.advise(Advice.HUGEPAGE, 0, n_huge * N)
    area.store(0)
    return area


def level_at(area: Area, page: int) -> int:
    return seek(area.process.mm, area.at(page)).level


def test_a_first_write_maps_a_whole_huge_page_where_the_area_asks_for_one() -> None:
    area = huge_area(2)
    assert area.rows() == [(0, N, H | P | W), (N, 2 * N, Category(0))]
    plain = Area(N)
    plain.store(0)
    assert plain.rows(last=1) == [(0, 1, P | W)]


@pytest.mark.parametrize(("setting", "level"), [("always", 1), ("madvise", 0), ("never", 0)])
def test_the_setting_decides_for_areas_that_ask_for_nothing(setting: str, level: int) -> None:
    area = Area(N, quirks=Quirks(thp_enabled=setting))
    area.store(0)
    assert level_at(area, 0) == level


def test_an_area_without_room_for_an_aligned_huge_page_gets_small_ones() -> None:
    area = Area(N - 1, quirks=Quirks(thp_enabled="always"))
    area.store(0)
    assert level_at(area, 0) == 0


def test_a_read_maps_the_huge_zero_page_and_a_write_replaces_it() -> None:
    area = Area(N, quirks=Quirks(thp_enabled="always"))
    area.load(3)
    assert area.rows() == [(0, N, H | Z | P | W)]
    area.store(5)
    assert area.rows() == [(0, N, H | P | W)]
    assert area.load(5) == b"x"
    assert area.load(4) == b"\0"


def test_before_6_13_a_write_split_the_huge_zero_page() -> None:
    area = Area(N, quirks=Quirks(thp_enabled="always", thp_replaces_zero_page=False))
    area.load(3)
    area.store(5)
    assert area.rows() == [(0, 5, Z | P | W), (5, 6, P | W), (6, N, Z | P | W)]


def test_a_userfaultfd_that_waits_for_missing_pages_is_told_before_a_huge_page_is_mapped() -> None:
    area = Area(N)
    area.advise(Advice.HUGEPAGE, 0, N)
    uffd = area.process.userfaultfd(Feature(0))
    uffd.register(area.start, N * PAGE, Mode.MISSING)
    told = []

    def answer() -> None:
        told.append(uffd.read().address)
        uffd.copy(area.at(5), b"c" * PAGE)

    uffd.handle_with(answer)
    assert area.load(5) == b"c"
    assert told == [area.at(5)]
    assert level_at(area, 5) == 0
    check(area.kernel.machine)


def test_a_write_to_a_shared_huge_page_splits_it_and_copies_one_page() -> None:
    area = huge_area()
    child = area.process.fork()
    child.store(area.at(3), b"c")
    assert seek(child.mm, area.at(4)).level == 0
    words = child.pagemap(area.at(2), 3, show_frames=True)
    mine = area.process.pagemap(area.at(2), 3, show_frames=True)
    frames = (1 << 55) - 1
    assert [a & frames == b & frames for a, b in zip(words, mine, strict=True)] == [True, False, True]


# Races


class Race:
    """A huge page's range on a machine with small tables, with nothing mapped yet."""

    def __init__(self) -> None:
        self.kernel = Kernel("ppc64-radix-64k", cpus=2, quirks=Quirks(thp_enabled="always"))
        self.process: Process = self.kernel.spawn()
        self.page = self.kernel.machine.page_bytes
        self.n_bytes = self.kernel.machine.thp_bytes
        self.start = self.process.mmap(self.n_bytes)

    def store(self, page: int, cpu: int) -> Callable[[], None]:
        return lambda: self.process.store(self.start + page * self.page, bytes([page + 1]), cpu=cpu)

    def byte(self, page: int) -> int:
        return self.process.load(self.start + page * self.page, 1)[0]


def test_two_first_writes_to_one_huge_page_map_it_once_whoever_wins() -> None:
    races: list[Race] = []

    def build() -> list[Callable[[], object]]:
        race = Race()
        races.append(race)
        return [race.store(1, 0), race.store(2, 1)]

    n = 0
    for run in interrupted_once(build):
        assert not run.errors
        assert not run.deadlocked
        race = races[-1]
        assert (race.byte(1), race.byte(2)) == (2, 3)
        assert sum(folio.order > 0 for folio in race.kernel.machine.memory.folios.values()) == 1
        check(race.kernel.machine)
        n += 1
    assert n > 10


@pytest.mark.parametrize("first", [0, 1], ids=["store interrupted", "split interrupted"])
def test_a_store_beside_a_split_is_in_the_small_page(first: int) -> None:
    races: list[Race] = []

    def build() -> list[Callable[[], object]]:
        race = Race()
        race.store(0, 0)()
        races.append(race)
        cut = race.start + 5 * race.page
        return [race.store(1, 1), lambda: race.process.madvise(cut, race.page, Advice.DONTNEED)]

    for run in interrupted_once(build, first=first):
        assert not run.errors
        assert not run.deadlocked
        race = races[-1]
        assert (race.byte(0), race.byte(1), race.byte(5)) == (1, 2, 0)
        check(race.kernel.machine)


def test_no_interleaving_of_two_stores_over_the_huge_zero_page_loses_one() -> None:
    races: list[Race] = []

    def build() -> list[Callable[[], object]]:
        race = Race()
        race.process.load(race.start, 1)
        races.append(race)
        return [race.store(1, 0), race.store(2, 1)]

    n = 0
    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
        assert (races[-1].byte(1), races[-1].byte(2)) == (2, 3)
        check(races[-1].kernel.machine)
        n += 1
    assert n > 10
