"""Write faults on protected pages: what they look at before they copy or reuse."""

import pytest

from pagewatch.model.uffd.context import Feature
from support.modelled import PAGE, Area


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
