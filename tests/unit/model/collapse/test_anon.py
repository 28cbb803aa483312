"""Collapse of anonymous memory against what runs beside it: no store is lost, no page is taken from a pinner."""

from collections.abc import Callable

import pytest

from pagewatch.model import Kernel, Quirks, UseAfterFree
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.walk import seek
from support.schedules import At, anywhere, interrupted_once, overlapping


class Race:
    """A huge page's range with two small pages, the second never looked at by CPU 1."""

    def __init__(self, arch: str, quirks: Quirks) -> None:
        self.kernel = Kernel(arch, cpus=2, quirks=quirks)
        self.process = self.kernel.spawn()
        self.n_bytes = self.kernel.machine.thp_bytes
        self.start = self.process.mmap(self.n_bytes)
        self.process.store(self.start, b"old")

    def storer(self) -> None:
        self.process.store(self.start, b"new", cpu=1)

    def collapser(self) -> None:
        self.process.madvise(self.start, self.n_bytes, Advice.COLLAPSE)

    def reader(self) -> None:
        assert self.process.load(self.start, 3, cpu=1) in (b"old", b"new")


def races(arch: str, quirks: Quirks, *others: Callable[[Race], None]) -> tuple[list[Race], Callable[[], list]]:
    made: list[Race] = []

    def build() -> list[Callable[[], object]]:
        race = Race(arch, quirks)
        made.append(race)
        return [lambda other=other: other(race) for other in others]

    return made, build


def copying(label: str) -> bool:
    """The steps between the clearing of the directory entry and the new one."""
    return label in ("collapse: copy", "rmap: remove", "collapse: map huge", "collapse: clear entry")


@pytest.mark.parametrize("arch", ["x86_64", "ppc64-radix-64k", "ppc64-hash-64k"])
@pytest.mark.parametrize(("first", "at"), [(0, anywhere), (1, copying)], ids=["store", "collapse"])
def test_a_store_beside_a_collapse_is_never_lost(arch: str, first: int, at: At) -> None:
    quirks = Quirks(flush_is_broadcast=arch != "x86_64")
    made, build = races(arch, quirks, Race.storer, Race.collapser)
    n = 0
    for run in interrupted_once(build, first=first, at=at):
        assert not run.errors
        assert not run.deadlocked
        race = made[-1]
        assert race.process.load(race.start, 3) == b"new"
        check(race.kernel.machine)
        n += 1
    assert n > 3


@pytest.mark.parametrize(("interrupts", "survives"), [(True, True), (False, False)], ids=["interrupt", "none"])
def test_the_hash_mmu_needs_the_interrupt_however_fast_gup_looks(*, interrupts: bool, survives: bool) -> None:
    """A translation that a hash fault was about to insert lets a CPU store into the page that was replaced."""
    quirks = Quirks(flush_is_broadcast=True, collapse_sends_no_interrupt=not interrupts)
    made, build = races("ppc64-hash-64k", quirks, Race.storer, Race.collapser)
    outcomes = []
    for run in interrupted_once(build):
        race = made[-1]
        outcomes.append(not run.errors and race.process.load(race.start, 3) == b"new")
        assert all(isinstance(error, UseAfterFree) for error in run.errors.values())
    assert all(outcomes) is survives


def test_radix_does_not_need_it() -> None:
    quirks = Quirks(flush_is_broadcast=True, collapse_sends_no_interrupt=True)
    made, build = races("ppc64-radix-64k", quirks, Race.storer, Race.collapser)
    for run in interrupted_once(build):
        assert not run.errors
        assert made[-1].process.load(made[-1].start, 3) == b"new"


def test_a_reader_sees_bytes_of_the_page_however_the_two_fall() -> None:
    made, build = races("ppc64-radix-64k", Quirks(flush_is_broadcast=True), Race.reader, Race.collapser)
    for run in overlapping(build, second=copying):
        assert not run.errors
        check(made[-1].kernel.machine)


def test_two_collapses_of_one_range_end_with_one_huge_page() -> None:
    made, build = races("ppc64-radix-64k", Quirks(), Race.collapser, Race.collapser)
    for run in interrupted_once(build, at=lambda label: label.startswith(("collapse", "mmap", "refs"))):
        assert all(isinstance(error, OSError) for error in run.errors.values())
        race = made[-1]
        assert seek(race.process.mm, race.start).level == 1
        check(race.kernel.machine)
