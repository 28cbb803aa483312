"""Zapping: one area and one notifier bracket a call, what stays behind, and nothing released before the flush."""

from collections.abc import Callable
from enum import Enum

import pytest

from pagewatch.model import Kernel, Quirks
from pagewatch.model.arch.format import MARKER_UFFD_WP
from pagewatch.model.gather import Zap
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.notifier import Event, SecondaryMmu
from pagewatch.model.scan.call import WP_MATCHING
from pagewatch.model.uffd.context import Feature
from pagewatch.model.uffd.fd import Userfaultfd
from pagewatch.steps import observed
from support.modelled import PAGE, Area
from support.zapping import Watch, area_of, entry_of, folio_of, zap

N = 512
HUGE = N * PAGE


class Brackets(SecondaryMmu):
    """Every start and end, in order, in pages of an area."""

    def __init__(self, area: Area) -> None:
        super().__init__(area.process.mm)
        self.area = area
        self.log: list[tuple[Event | str, float, float]] = []

    def invalidate_start(self, event: Event, start: int, end: int) -> None:
        super().invalidate_start(event, start, end)
        self.log.append((event, *self.pages(start, end)))

    def invalidate_end(self, start: int, end: int) -> None:
        super().invalidate_end(start, end)
        self.log.append(("end", *self.pages(start, end)))

    def pages(self, start: int, end: int) -> tuple[float, float]:
        return (start - self.area.start) / PAGE, (end - self.area.start) / PAGE


def pairs(event: Event, *ranges: tuple[int, int]) -> list[tuple[Event | str, float, float]]:
    return [entry for bounds in ranges for entry in ((event, *bounds), ("end", *bounds))]


def file_area(n_pages: int, *, shared: bool = False, **quirks: bool) -> Area:
    """Pages of a memfd that hold bytes."""
    kernel = Kernel(cpus=2, quirks=Quirks(**quirks))
    file = kernel.memfd(n_pages * PAGE)
    for page in range(n_pages):
        file.write(page * PAGE, b"file")
    area = Area(n_pages, process=kernel.spawn(), file=file, shared=shared)
    area.kernel = kernel
    return area


@pytest.mark.parametrize("how", Zap)
def test_a_call_is_one_bracket_that_says_whether_the_mapping_goes(how: Zap) -> None:
    area = file_area(4)
    area.store(*range(4))
    brackets = Brackets(area)
    zap(area, how, 1, 3)
    assert brackets.log == pairs(Event.UNMAP if how is Zap.UNMAP else Event.CLEAR, (1, 3))


def test_nothing_populated_is_a_bracket_all_the_same() -> None:
    area = Area(4)
    brackets = Brackets(area)
    zap(area, Zap.DONTNEED)
    assert brackets.log == pairs(Event.CLEAR, (0, 4))


def test_advice_for_three_areas_is_three_calls_each_closed_before_the_next() -> None:
    area = Area(8)
    area.store(*range(8))
    area.process.mprotect(area.at(2), 3 * PAGE, 1)
    assert len(area.process.areas) == 3
    brackets = Brackets(area)
    area.advise(Advice.DONTNEED, 1, 7)
    assert brackets.log == pairs(Event.CLEAR, (1, 2), (2, 5), (5, 7))


@pytest.mark.parametrize("change", ["punch", "truncate"])
def test_what_leaves_a_file_is_one_call_for_each_area_that_maps_it(change: str) -> None:
    area = file_area(8, shared=True)
    file, process = area_of(area).file, area.process
    assert file is not None
    lower = process.mmap(4 * PAGE, shared=True, file=file, at=area.at(-16))
    process.mmap(4 * PAGE, shared=True, file=file, offset=4 * PAGE, at=area.at(-32))
    brackets = Brackets(area)
    if change == "punch":
        area.kernel.punch_hole(file, 3 * PAGE, 2 * PAGE)
        expected = [(3, 5), (-13, -12), (-32, -31)]
    else:
        area.kernel.truncate(file, 5 * PAGE)
        expected = [(5, 8), (-31, -28)]
    assert lower == area.at(-16)
    assert brackets.log == pairs(Event.CLEAR, *expected)


def test_an_exit_is_a_bracket_for_each_area_within_one_around_all() -> None:
    area = Area(4)
    area.process.mprotect(area.at(2), 2 * PAGE, 1)
    brackets = Brackets(area)
    area.process.exit()
    everything = brackets.pages(0, area.process.mm.top)
    assert brackets.log == [(Event.RELEASE, *everything), *pairs(Event.UNMAP, (0, 2), (2, 4)), ("end", *everything)]


def registered(area: Area) -> Userfaultfd:
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.start, area.end - area.start)
    return uffd


def poison_page(area: Area) -> None:
    area.store(0)
    area.kernel.memory_failure(folio_of(area).pfn)


PREPARED: dict[str, Callable[[Area], object]] = {
    "copy": lambda area: (area.store(0), area.armed()),
    "copy, written": lambda area: (area.armed(), area.store(0)),
    "page": lambda area: (area.load(0), area.armed()),
    "marker": lambda area: area.armed(),
    "swapped": lambda area: (area.store(0), area.armed(), area.advise(Advice.PAGEOUT, 0, 1)),
    "swapped, written": lambda area: (area.store(0), area.advise(Advice.PAGEOUT, 0, 1)),
    "device": lambda area: (area.store(0), area.armed(), area.process.migrate_to_device(area.start, PAGE)),
    "guard": lambda area: area.advise(Advice.GUARD_INSTALL, 0, 1),
    "armed guard": lambda area: (
        area.advise(Advice.GUARD_INSTALL, 0, 1),
        registered(area),
        area.raw(flags=WP_MATCHING),
    ),
    "poison": lambda area: registered(area).poison(area.start, PAGE),
    "failed": poison_page,
}
"""What the first page of private memory is, before it is zapped."""


class After(Enum):
    """What is in its place afterwards."""

    GONE = "nothing"
    STAYS = "what was there before"
    MARKED = "a marker that it was protected"


GONE, STAYS, MARKED = After
ORDER = (Zap.DONTNEED, Zap.TRUNCATE, Zap.HOLE, Zap.UNMAP)
OF_A_FILE: dict[str, tuple[After, After, After, After]] = {
    "copy": (MARKED, MARKED, STAYS, GONE),
    "copy, written": (GONE, GONE, STAYS, GONE),
    "page": (MARKED, MARKED, MARKED, GONE),
    "marker": (STAYS, STAYS, STAYS, GONE),
    "swapped": (MARKED, MARKED, STAYS, GONE),
    "swapped, written": (GONE, GONE, STAYS, GONE),
    "device": (MARKED, MARKED, STAYS, GONE),
    "guard": (STAYS, STAYS, STAYS, GONE),
    "armed guard": (STAYS, STAYS, STAYS, GONE),
    "poison": (GONE, GONE, STAYS, GONE),
    "failed": (GONE, GONE, STAYS, GONE),
}
"""What becomes of a page of a private mapping of a file, by how it is zapped, in that order."""


def after(area: Area, before: int) -> After | int:
    spot = entry_of(area)
    if spot.entry == before:
        return STAYS
    if not spot.entry:
        return GONE
    return MARKED if spot.fmt.marker(spot.entry) == MARKER_UFFD_WP else spot.entry


def zapped(area: Area, what: str, how: Zap) -> After | int:
    """What becomes of a page prepared so."""
    PREPARED[what](area)
    before = entry_of(area).entry
    assert before
    zap(area, how)
    check(area.kernel.machine)
    return after(area, before)


@pytest.mark.parametrize("how", ORDER)
@pytest.mark.parametrize("what", PREPARED)
def test_protection_of_a_files_memory_stays_as_a_marker_and_a_hole_leaves_private_copies(what: str, how: Zap) -> None:
    assert zapped(file_area(1), what, how) is OF_A_FILE[what][ORDER.index(how)]


@pytest.mark.parametrize("how", [Zap.DONTNEED, Zap.UNMAP])
@pytest.mark.parametrize("what", PREPARED)
def test_of_anonymous_memory_guards_alone_stay_unless_it_is_unmapped(what: str, how: Zap) -> None:
    assert zapped(Area(1), what, how) is (STAYS if "guard" in what and how is Zap.DONTNEED else GONE)


def test_a_hole_in_the_file_does_not_reach_a_copy_that_is_on_a_device() -> None:
    area = file_area(1)
    area.process.store(area.start, b"mine")
    assert area.process.migrate_to_device(area.start, PAGE) == [area.start]
    file = area_of(area).file
    assert file is not None
    area.kernel.punch_hole(file, 0, PAGE)
    assert area.load(0, 4) == b"mine"
    check(area.kernel.machine)


def test_a_hole_leaves_what_is_known_of_a_failed_page() -> None:
    area = file_area(1)
    area.load(0)
    area.kernel.memory_failure(folio_of(area).pfn)
    before = entry_of(area).entry
    zap(area, Zap.HOLE)
    assert after(area, before) is STAYS
    zap(area, Zap.TRUNCATE)
    assert after(area, before) is GONE


def test_a_marker_that_a_registration_left_stays_in_a_files_memory() -> None:
    area = file_area(1)
    area.load(0)
    spot = entry_of(area)
    zap(area, Zap.DONTNEED)
    spot.table.write(spot.slot, spot.fmt.marker_entry(MARKER_UFFD_WP), "test")
    zap(area, Zap.DONTNEED)
    assert after(area, spot.entry) is MARKED


@pytest.mark.parametrize("what", ["copy", "swapped", "device"])
def test_what_was_taken_out_is_given_back(what: str) -> None:
    area = Area(1)
    machine = area.kernel.machine
    folios = len(machine.memory.folios)
    PREPARED[what](area)
    assert len(machine.memory.folios) + len(machine.swap.slots) == folios + 1
    zap(area, Zap.DONTNEED)
    assert (len(machine.memory.folios), len(machine.swap.slots)) == (folios, 0)


def test_the_zero_page_is_taken_out_and_given_back_to_nobody() -> None:
    area = Area(1)
    zero = area.kernel.machine.memory.zero
    before = zero.raw_references, zero.raw_mapcount
    area.load(0)
    assert entry_of(area).entry
    zap(area, Zap.DONTNEED)
    assert not entry_of(area).entry
    assert (zero.raw_references, zero.raw_mapcount) == before


@pytest.mark.parametrize("written", [True, False])
def test_the_dirty_bit_of_a_files_page_goes_to_its_folio(*, written: bool) -> None:
    area = file_area(1, shared=True)
    area.load(0)
    if written:
        area.store(0)
    folio = folio_of(area)
    folio.raw_dirty = False
    zap(area, Zap.DONTNEED)
    assert folio.raw_dirty is written


def test_a_page_is_released_when_no_cpu_translates_it_any_more() -> None:
    area = Area(3)
    for cpu in (0, 1):
        area.store(0, 1, 2, cpu=cpu)
    with observed(watch := Watch(area)):
        zap(area, Zap.DONTNEED)
    assert watch.translating("zap: clear") == [[0, 1]] * 3
    assert watch.translating("zap: release") == [[]] * 3


@pytest.mark.parametrize(
    ("shared", "access", "translated"),
    [(True, "store", []), (True, "load", [1]), (False, "store", [1])],
    ids=["shared and dirty", "shared and clean", "private"],
)
def test_only_for_dirty_pages_of_a_file_the_flush_comes_before_the_lock_is_dropped(
    *, shared: bool, access: str, translated: list[int]
) -> None:
    area = file_area(1, shared=shared)
    if access == "store":
        area.store(0, cpu=1)
    else:
        area.process.load(area.start, 1, cpu=1)
    lock = entry_of(area).table.lock
    with observed(watch := Watch(area)):
        zap(area, Zap.DONTNEED)
    assert watch.translating(lock.label) == [translated]
    assert not any(cpu.tlb for cpu in area.kernel.machine.cpus)


def test_part_of_a_huge_page_goes_alone_and_all_of_it_at_once() -> None:
    area = Area(N, at=HUGE)
    area.advise(Advice.HUGEPAGE, 0, N)
    area.store(0, 3)
    zap(area, Zap.DONTNEED, 0, 2)
    assert (entry_of(area, 0).entry, entry_of(area, 2).level) == (0, 0)
    assert (area.load(0), area.load(3)) == (b"\0", b"x")
    again = Area(N, at=HUGE)
    again.advise(Advice.HUGEPAGE, 0, N)
    again.store(0)
    huge = folio_of(again)
    assert huge.order == 9
    zap(again, Zap.DONTNEED)
    assert entry_of(again).level == 1
    assert again.kernel.machine.memory.find(huge.pfn) is None


def test_of_a_files_huge_page_no_protection_stays() -> None:
    area = Area(N, shared=True, at=HUGE)
    area.store(0)
    area.advise(Advice.COLLAPSE, 0, N)
    registered(area)
    area.load(0)
    area.raw(flags=WP_MATCHING)
    assert entry_of(area).level == 1
    assert area.pages() == []
    zap(area, Zap.DONTNEED)
    assert area.pages() == list(range(N))
