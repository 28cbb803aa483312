"""Mapping a file's huge page by one entry: nothing that stands in the table may go with it."""

import errno
from collections.abc import Callable

import pytest

from pagewatch.model import Kernel, Quirks
from pagewatch.model.collapse.ptemapped import collapse_pte_mapped
from pagewatch.model.collapse.result import Result
from pagewatch.model.invariants import broken_invariants, check
from pagewatch.model.madvise import Advice
from pagewatch.model.uffd.context import Feature, Mode
from support.modelled import Area
from support.schedules import interrupted_once

N = 512


def small_entries_of_a_huge_page() -> Area:
    """A private mapping that has a table, and a file that is huge."""
    shared = Area(N, shared=True)
    shared.store(0, 5)
    private = Area(N, process=shared.process, file=shared.process.areas[0].file)
    private.store(9)
    shared.advise(Advice.COLLAPSE, 0, N)
    private.load(0)
    return private


def attempt(area: Area) -> Result:
    with area.process.mm.mmap_lock.shared:
        return collapse_pte_mapped(area.process.mm, area.start)


def test_a_private_page_in_the_table_forbids_it() -> None:
    area = small_entries_of_a_huge_page()
    assert attempt(area) is Result.FAIL
    assert area.load(9) == b"x"
    area.advise(Advice.DONTNEED, 9, 10)
    assert attempt(area) is Result.SUCCEED
    assert attempt(area) is Result.PMD_MAPPED
    assert (area.load(0), area.load(9)) == (b"x", b"\0")
    check(area.kernel.machine)


def test_without_a_huge_page_in_the_cache_there_is_nothing_to_map() -> None:
    area = Area(N, shared=True)
    assert attempt(area) is Result.PAGE_NULL
    area.store(0)
    assert attempt(area) is Result.FAIL
    assert attempt(Area(N)) is Result.VMA_CHECK


class Filling:
    """A private mapping of a huge memfd, watched for missing pages, with a table; and who fills one."""

    def __init__(self, quirks: Quirks) -> None:
        self.kernel = Kernel("ppc64-radix-64k", cpus=2, quirks=quirks)
        self.page = self.kernel.machine.page_bytes
        n_bytes = self.kernel.machine.thp_bytes
        file = self.kernel.memfd(n_bytes)
        self.process = self.kernel.spawn()
        self.n_bytes = n_bytes
        shared = self.process.mmap(n_bytes, shared=True, file=file)
        self.start = self.process.mmap(n_bytes, file=file)
        self.process.store(shared, b"cached")
        self.process.store(self.start + 9 * self.page, b"own")
        self.process.madvise(shared, n_bytes, Advice.COLLAPSE)
        self.process.load(self.start, 1)
        self.process.madvise(self.start + 9 * self.page, self.page, Advice.DONTNEED)
        self.uffd = self.process.userfaultfd(Feature(0))
        self.uffd.register(self.start, n_bytes, Mode.MISSING)
        self.filled = False

    def fill(self) -> None:
        try:
            self.uffd.copy(self.start + 7 * self.page, b"precious".ljust(self.page, b"\0"))
        except OSError as error:
            assert error.errno == errno.EEXIST  # noqa: PT017 - the huge page was mapped first
        else:
            self.filled = True

    def store(self) -> None:
        self.process.store(self.start + 7 * self.page, b"precious", cpu=1)
        self.filled = True

    def collapse(self) -> None:
        with self.process.mm.mmap_lock.shared:
            collapse_pte_mapped(self.process.mm, self.start)

    def lost(self) -> bool:
        if list(broken_invariants(self.kernel.machine)):
            return True
        return self.filled and self.process.load(self.start + 7 * self.page, 8) != b"precious"


@pytest.mark.parametrize(("drops", "loses"), [(True, True), (False, False)], ids=["lock dropped", "lock held"])
def test_a_page_that_userfaultfd_puts_there_meanwhile_is_not_lost_with_the_table(*, drops: bool, loses: bool) -> None:
    races: list[Filling] = []

    def build() -> list[Callable[[], object]]:
        race = Filling(Quirks(collapse_drops_lock_before_copies=drops))
        races.append(race)
        return [race.collapse, race.fill]

    lost = []
    for run in interrupted_once(build):
        assert not run.deadlocked
        assert not run.errors
        lost.append(races[-1].lost())
    assert len(lost) > 20
    assert any(lost) is loses


def test_a_private_store_beside_it_is_not_lost_either() -> None:
    races: list[Filling] = []

    def build() -> list[Callable[[], object]]:
        race = Filling(Quirks())
        race.uffd.close()
        races.append(race)
        return [race.collapse, race.store]

    for run in interrupted_once(build):
        assert not run.deadlocked
        assert not run.errors
        assert not races[-1].lost()
