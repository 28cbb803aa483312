"""Write faults on protected pages: what they look at before they copy or reuse."""

from collections.abc import Callable

import pytest

from pagewatch.model import Kernel
from pagewatch.model.uffd.context import Feature
from support.hardware import try_load, try_store
from support.modelled import PAGE, Area
from support.schedules import interrupted_once


def knows(area: Area, cpu: int) -> bool:
    """Whether a CPU's TLB holds the first page."""
    return (area.process.mm.id, area.start // PAGE) in area.kernel.machine.cpus[cpu].tlb


def test_areas_that_nobody_watches_do_not_pay_for_the_look() -> None:
    area = Area(1, shared=True)
    area.load(0)
    area.process.mprotect(area.start, PAGE, 1)
    area.process.load(area.start, 1, cpu=1)
    area.process.mprotect(area.start, PAGE, 3)
    area.process.load(area.start, 1, cpu=1)
    area.process.mm.pending_flushes += 1
    area.store(0)
    area.process.mm.pending_flushes -= 1
    assert knows(area, 1)


@pytest.mark.parametrize("pending", [True, False])
def test_a_resolved_page_stays_in_other_tlbs_unless_a_flush_is_pending(*, pending: bool) -> None:
    """UFFDIO_WRITEPROTECT has changed an entry and not flushed yet: others may still store by the old one."""
    area = Area(1)
    area.store(0)
    area.armed(Feature.WP_ASYNC)
    area.process.load(area.start, 1, cpu=1)
    area.process.mm.pending_flushes += pending
    area.store(0)
    area.process.mm.pending_flushes -= pending
    assert knows(area, 1) is not pending
    assert area.pages() == [0]


def test_after_a_copy_no_cpu_reads_the_old_page_any_more() -> None:
    area = Area(1)
    area.store(0)
    child = area.process.fork()
    assert area.process.load(area.start, 3, cpu=1) == b"x\0\0"
    area.process.store(area.start, b"new", cpu=0)
    assert area.process.load(area.start, 3, cpu=1) == b"new"
    assert child.load(area.start, 3) == b"x\0\0"


def test_nobody_writes_to_a_copy_while_another_cpu_still_reads_the_old_page() -> None:
    """CPU 0 copies the page; CPU 1 stores as soon as it can, and then CPU 2 loads."""
    made: list[list[bytes | None]] = []

    def build() -> list[Callable[[], None]]:
        kernel, loaded = Kernel(cpus=3), []
        made.append(loaded)
        area = Area(1, process=kernel.spawn())
        area.store(0)
        area.process.fork()
        area.process.load(area.start, 1, cpu=2)

        def store_and_load() -> None:
            if try_store(area.process, area.start, b"1", cpu=1):
                loaded.append(try_load(area.process, area.start, 1, cpu=2))

        return [lambda: area.process.store(area.start, b"0"), store_and_load]

    runs = list(interrupted_once(build))
    assert len(runs) > 20
    assert not any(run.errors or run.deadlocked for run in runs)
    seen = {content for loaded in made for content in loaded}
    assert b"1" in seen
    assert b"x" not in seen
