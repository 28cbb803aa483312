"""Collapse of shared memory against those who use it: every store is in the huge page."""

from collections.abc import Callable

import pytest

from pagewatch.model import Kernel
from pagewatch.model.collapse.file import collapse_file
from pagewatch.model.collapse.result import Result
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.thp import Purpose
from support.schedules import interrupted_once


class Race:
    """A memfd with one page, mapped twice."""

    def __init__(self) -> None:
        self.kernel = Kernel("ppc64-radix-64k", cpus=2)
        self.n_bytes = self.kernel.machine.thp_bytes
        self.file = self.kernel.memfd(self.n_bytes)
        self.process = self.kernel.spawn()
        self.one = self.process.mmap(self.n_bytes, shared=True, file=self.file)
        self.two = self.process.mmap(self.n_bytes, shared=True, file=self.file)
        self.process.store(self.one, b"old")

    def collapse(self) -> None:
        self.process.madvise(self.one, self.n_bytes, Advice.COLLAPSE)

    def store(self) -> None:
        self.process.store(self.two, b"new", cpu=1)

    def store_elsewhere(self) -> None:
        self.process.store(self.two + 3 * self.kernel.machine.page_bytes, b"new", cpu=1)

    def write(self) -> None:
        self.file.write(0, b"new")


@pytest.mark.parametrize(
    ("act", "page"), [(Race.store, 0), (Race.store_elsewhere, 3), (Race.write, 0)], ids=["store", "hole", "write"]
)
@pytest.mark.parametrize("first", [0, 1], ids=["collapse interrupted", "other interrupted"])
def test_a_write_beside_it_is_never_lost(act: Callable[[Race], None], page: int, first: int) -> None:
    races: list[Race] = []

    def build() -> list[Callable[[], object]]:
        race = Race()
        races.append(race)
        return [race.collapse, lambda: act(race)]

    for run in interrupted_once(build, first=first):
        assert not run.deadlocked
        # A page that is locked, held or filled meanwhile makes the collapse give up.
        assert all(isinstance(error, OSError) for error in run.errors.values())
        race = races[-1]
        at = page * race.kernel.machine.page_bytes
        assert race.process.load(race.one + at, 3) == b"new"
        assert race.process.load(race.two + at, 3) == b"new"
        assert race.file.read(at, 3) == b"new"
        check(race.kernel.machine)


def test_a_file_that_is_huge_already_only_has_to_be_mapped() -> None:
    race = Race()
    race.collapse()
    assert collapse_file(race.file, 0, Purpose.KHUGEPAGED) is Result.PTE_MAPPED_HUGEPAGE
    check(race.kernel.machine)


def test_a_page_that_somebody_holds_leaves_everything_as_it_was() -> None:
    race = Race()
    folio = race.file.bring_in(0)
    assert collapse_file(race.file, 0, Purpose.COLLAPSE) is Result.PAGE_COUNT
    race.kernel.machine.memory.put(folio, "test")
    assert race.process.load(race.two, 3) == b"old"
    check(race.kernel.machine)
