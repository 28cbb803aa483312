"""TLBs: stale until flushed, dirty set late, and every flush reaches every CPU that ran the process."""

from collections.abc import Callable, Iterator

import pytest

from pagewatch.explore.engine import Build, Execution, enumerate_all
from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Quirks
from pagewatch.model.arch.format import DIRTY
from pagewatch.model.mmu import touch
from pagewatch.model.tlb import Cpu, flush_range
from pagewatch.model.walk import seek
from pagewatch.steps import READ, WRITE, access
from support.modelled import PAGE, Area


def clean(area: Area) -> None:
    """Clear the dirty bit of page 0 without a flush, as a buggy cleaner does."""
    spot = seek(area.process.mm, area.start)
    spot.table.write(spot.slot, spot.fmt.mkclean(spot.entry), "test: clean")


def is_dirty(area: Area) -> bool:
    spot = seek(area.process.mm, area.start)
    return bool(spot.fmt.flags(spot.entry) & DIRTY)


def test_a_cached_dirty_translation_stores_without_setting_dirty_again() -> None:
    area = Area(1)
    area.store(0)
    clean(area)
    area.store(0)
    assert not is_dirty(area)


def test_after_a_flush_the_store_sets_dirty() -> None:
    area = Area(1)
    area.store(0)
    clean(area)
    flush_range(area.process.mm, area.start, area.end)
    area.store(0)
    assert is_dirty(area)


def test_an_eviction_may_happen_any_time_and_has_the_same_effect() -> None:
    area = Area(1)
    area.store(0)
    clean(area)
    area.kernel.machine.cpus[0].evict(area.process.mm.id, area.start // PAGE)
    area.store(0)
    assert is_dirty(area)


def test_a_translation_filled_by_a_read_sets_dirty_late() -> None:
    area = Area(1, shared=True)
    area.load(0)
    assert not is_dirty(area)
    area.store(0)
    assert is_dirty(area)


def test_a_speculative_fill_caches_what_is_mapped_and_nothing_else() -> None:
    area = Area(2)
    area.store(0)
    cpu = area.kernel.machine.cpus[1]
    assert touch(area.process.mm, cpu, area.start)
    assert not touch(area.process.mm, cpu, area.at(1))
    assert [vpn for _, vpn in cpu.tlb] == [area.start // PAGE]


def test_a_flush_reaches_every_cpu_and_only_the_range() -> None:
    area = Area(3)
    for cpu in (0, 1):
        area.store(0, 1, 2, cpu=cpu)
    flush_range(area.process.mm, area.at(1), area.at(2))
    left = [sorted(vpn - area.start // PAGE for _, vpn in cpu.tlb) for cpu in area.kernel.machine.cpus]
    assert left == [[0, 2], [0, 2]]


def test_a_store_is_never_cut_in_two_by_a_flush() -> None:
    """An interrupt is taken between instructions: after the flush returned, no old translation writes."""
    areas: list[tuple[Area, list[bool]]] = []

    def build() -> list[Callable[[], None]]:
        area = Area(1)
        area.store(0, cpu=1)
        done: list[bool] = []
        areas.append((area, done))

        def cleaner() -> None:
            clean(area)
            flush_range(area.process.mm, area.start, area.end)
            done.append(area.load(0) == b"y")

        return [cleaner, lambda: area.process.store(area.start, b"y", cpu=1)]

    outcomes = set()
    for run in enumerate_traces(build):
        assert not run.errors
        area, written_before = areas[-1]
        outcomes.add((written_before[0], is_dirty(area)))
    # Stored with the old translation: in memory before the flush returned. Else: dirty again.
    assert (False, False) not in outcomes
    assert (True, False) in outcomes


@pytest.mark.parametrize("enumerate_runs", [enumerate_all, enumerate_traces])
def test_a_broadcast_passes_a_section_with_interrupts_off_until_its_very_end(
    enumerate_runs: Callable[[Build], Iterator[Execution]],
) -> None:
    passed: list[str] = []

    def build() -> list[Callable[[], None]]:
        cpu = Cpu(0)
        done: list[str] = []
        passed.clear()

        def section() -> None:
            with cpu.interrupts_off():
                access("word", READ, "look")
                passed.extend(done)

        def broadcast() -> None:
            cpu.drain()
            access("word", WRITE, "reuse")
            done.append("reused")

        return [section, broadcast]

    orders = {run.order: tuple(passed) for run in enumerate_runs(build)}
    off = on = "cpu0: instruction"
    assert orders[off, "flush: wait for instructions", "reuse", "look", on] == ("reused",)
    assert set(orders.values()) == {(), ("reused",)}
    if enumerate_runs is enumerate_all:
        assert (off, "look", "flush: wait for instructions", on, "reuse") in orders


@pytest.mark.parametrize("n_pages", [1, 2], ids=["of a page", "of a range"])
def test_a_broadcast_flush_may_look_before_and_after_a_cpu_fills_its_tlb(n_pages: int) -> None:
    cpus = []

    def build() -> list[Callable[[], object]]:
        area = Area(n_pages, quirks=Quirks(flush_is_broadcast=True))
        area.store(0, cpu=1)
        cpu = area.kernel.machine.cpus[1]
        cpu.evict(area.process.mm.id, area.start // PAGE)
        cpus.append(cpu)
        return [
            lambda: flush_range(area.process.mm, area.start, area.end),
            lambda: touch(area.process.mm, cpu, area.start),
        ]

    found_at_once, left = set(), set()
    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
        flush = [step.label for step in run.steps if step.thread == 0]
        found_at_once.add("flush: invalidate" in flush[: flush.index("flush: wait for instructions")])
        left.add(bool(cpus[-1].tlb))
    assert found_at_once == {True, False}
    assert left == {True, False}
