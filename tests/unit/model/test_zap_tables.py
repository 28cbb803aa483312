"""The page tables that zapping and unmapping empty: which are freed, and not before everybody is out of them."""

from collections.abc import Callable

import pytest

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Quirks
from pagewatch.model.gather import Gather, Zap
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.walk import spans
from pagewatch.model.zap import free_table
from pagewatch.steps import observed
from support.hardware import try_load
from support.modelled import PAGE, Area
from support.zapping import Watch, entry_of, zap

N = 512
HUGE = N * PAGE


@pytest.mark.parametrize(
    ("how", "last", "frees", "quirk"),
    [
        (Zap.DONTNEED, N, True, True),
        (Zap.DONTNEED, N, False, False),
        (Zap.DONTNEED, N - 1, False, True),
        (Zap.UNMAP, N, False, True),
    ],
    ids=["all", "before 6.14", "part", "unmapping does so later"],
)
def test_a_table_that_is_emptied_as_a_whole_is_freed(how: Zap, last: int, *, frees: bool, quirk: bool) -> None:
    area = Area(N, at=HUGE, quirks=Quirks(zap_frees_tables=quirk))
    area.store(1, N - 2)
    tables = area.kernel.machine.tables
    before = len(tables)
    zap(area, how, 0, last)
    assert len(tables) == before - frees
    assert entry_of(area).level == int(frees)
    area.store(1)
    check(area.kernel.machine)


def test_a_table_with_a_guard_in_it_stays() -> None:
    area = Area(N, at=HUGE)
    area.store(1)
    area.advise(Advice.GUARD_INSTALL, 5, 6)
    before = len(area.kernel.machine.tables)
    zap(area, Zap.DONTNEED)
    assert len(area.kernel.machine.tables) == before


def test_a_table_is_freed_when_no_reader_can_be_in_it_any_more() -> None:
    area = Area(N, at=HUGE)
    area.store(1)
    table = entry_of(area).table
    with area.kernel.machine.rcu:
        zap(area, Zap.DONTNEED)
        assert entry_of(area).level == 1
        assert table.read(1, "test") == 0
        assert table in area.kernel.machine.tables
    assert table not in area.kernel.machine.tables


def test_a_table_that_was_filled_meanwhile_is_not_freed() -> None:
    area = Area(N, at=HUGE)
    area.store(1)
    mm = area.process.mm
    (span,) = spans(mm, area.start, area.end)
    free_table(Gather(mm), span)
    assert area.load(1) == b"x"
    zap(area, Zap.UNMAP)
    free_table(Gather(mm), span)
    assert entry_of(area).level == 1
    area.store(1)
    free_table(Gather(mm), span)
    assert area.load(1) == b"x"
    check(area.kernel.machine)


def test_a_cpu_forgets_its_way_through_a_table_before_that_is_freed() -> None:
    area = Area(N, at=HUGE)
    area.store(1, cpu=1)
    with observed(watch := Watch(area)):
        zap(area, Zap.DONTNEED)
    order = ("free table: unhook", "flush: who ran it?", "rcu: call")
    # The last flush is that of the page.
    assert [label for label, *_ in watch.steps if label in order] == [*order, "flush: who ran it?"]


@pytest.mark.parametrize("parts", [(0, 256), (256, 0)], ids=["lower half first", "upper half first"])
def test_unmapping_frees_the_tables_that_no_area_needs_any_more(parts: tuple[int, int]) -> None:
    area = Area(N, at=HUGE)
    tables = area.kernel.machine.tables
    before = len(tables)
    area.store(0, 300)
    full = len(tables)
    area.process.munmap(area.at(parts[0]), 256 * PAGE)
    assert len(tables) == full
    assert area.load(0 if parts[0] else 300) == b"x"
    table = entry_of(area).table
    with area.kernel.machine.rcu, observed(watch := Watch(area)):
        area.process.munmap(area.at(parts[1]), 256 * PAGE)
        assert table in tables
    assert len(tables) == before
    order = ("free tables: unhook", "flush: who ran it?", "rcu: call")
    assert list(dict.fromkeys(label for label, *_ in reversed(watch.steps) if label in order)) == [*reversed(order)]
    check(area.kernel.machine)


def test_no_cpu_walks_through_a_table_that_unmapping_has_freed() -> None:
    loaded: list[list[bytes | None]] = []

    def build() -> list[Callable[[], object]]:
        area, found = Area(1), []
        loaded.append(found)
        area.process.store(area.start, b"x", cpu=1)
        area.kernel.machine.cpus[1].tlb.clear()
        return [
            lambda: area.process.munmap(area.start, PAGE),
            lambda: found.append(try_load(area.process, area.start, 1, cpu=1)),
        ]

    outcomes = {(bool(run.errors), bool(run.deadlocked), *loaded[-1]) for run in enumerate_traces(build)}
    assert outcomes == {(False, False, None), (False, False, b"x")}


def test_unmapping_far_apart_frees_the_tables_of_both_ends_and_none_between() -> None:
    area = Area(3 * N, at=HUGE)
    tables, process = area.kernel.machine.tables, area.process
    before = len(tables)
    area.store(0, 2 * N)
    far = process.mmap(PAGE, at=1 << 40)
    process.store(far, b"x")
    stays = len(tables)
    process.munmap(area.start, N * PAGE)
    assert len(tables) == stays - 1
    process.munmap(area.start, (1 << 40) - area.start)
    assert process.load(far, 1) == b"x"
    process.munmap(far, PAGE)
    assert len(tables) == before
