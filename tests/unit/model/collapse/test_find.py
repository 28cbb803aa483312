"""What every collapse asks first."""

from pagewatch.model.collapse.find import find_directory, revalidate
from pagewatch.model.collapse.result import Result
from pagewatch.model.madvise import Advice
from pagewatch.model.thp import Purpose
from support.modelled import PAGE, Area

N = 512


def found(area: Area) -> Result:
    return find_directory(area.process.mm, area.start)[1]


def test_the_directory_entry_says_whether_there_is_a_table() -> None:
    area = Area(N)
    assert found(area) is Result.NO_DIRECTORY
    area.store(0)
    assert found(area) is Result.SUCCEED
    area.advise(Advice.COLLAPSE, 0, N)
    assert found(area) is Result.PMD_MAPPED
    area.advise(Advice.DONTNEED, 0, N)
    assert found(area) is Result.NO_TABLE


def test_an_area_is_only_right_while_it_holds_the_whole_range() -> None:
    area = Area(N)
    area.store(0)
    mm = area.process.mm
    assert revalidate(mm, area.start, Purpose.COLLAPSE) is area.process.areas[0]
    assert revalidate(mm, area.start, Purpose.KHUGEPAGED) is None
    assert revalidate(mm, area.start + PAGE, Purpose.COLLAPSE) is None
    area.process.munmap(area.at(N - 1), PAGE)
    assert revalidate(mm, area.start, Purpose.COLLAPSE) is None
    area.process.exit()
    assert revalidate(mm, area.start, Purpose.COLLAPSE) is None
