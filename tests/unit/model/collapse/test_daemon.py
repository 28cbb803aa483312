"""khugepaged: what it does by itself, and what it leaves to a call."""

from pagewatch.model import Quirks
from pagewatch.model.collapse.daemon import khugepaged
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from support.modelled import Area

N = 512


def asking(n_pages: int = N, **options: object) -> Area:
    area = Area(n_pages, **options)
    area.store(0)
    area.advise(Advice.HUGEPAGE, 0, n_pages)
    return area


def test_it_collapses_areas_that_ask_for_huge_pages_and_no_others() -> None:
    area = asking(2 * N)
    assert khugepaged(area.process.mm) == [area.start]
    assert khugepaged(area.process.mm) == []
    plain = Area(N)
    plain.store(0)
    assert khugepaged(plain.process.mm) == []
    cramped = Area(N, quirks=Quirks(thp_enabled="always"))
    cramped.process.munmap(cramped.start, 4096)
    cramped.store(1)
    assert khugepaged(cramped.process.mm) == []
    check(area.kernel.machine)


def test_it_leaves_what_is_swapped_out_or_shared_for_the_most_part() -> None:
    swapped = asking()
    swapped.store(*range(N))
    swapped.advise(Advice.PAGEOUT, 0, N // 8 + 1)
    assert khugepaged(swapped.process.mm) == []
    shared = asking()
    shared.store(*range(N))
    child = shared.process.fork()
    assert khugepaged(shared.process.mm) == []
    child.exit()
    swapped.load(0)
    assert khugepaged(swapped.process.mm) == [swapped.start]


def test_it_maps_a_files_huge_page_for_nobody_in_particular() -> None:
    area = asking(shared=True)
    assert khugepaged(area.process.mm) == [area.start]
    assert area.rows() == [(0, N, 0)]
    assert area.load(0) == b"x"
    assert area.rows(last=1)[0][2] & 0x40
