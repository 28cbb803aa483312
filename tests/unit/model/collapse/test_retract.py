"""Taking tables from other mappings: what the second look at the area is for."""

from collections.abc import Callable

import pytest

from pagewatch.model import Quirks
from pagewatch.model.collapse.retract import retract_page_tables
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.uffd.context import Feature
from pagewatch.vocab.categories import Category
from support.modelled import PAGE, Area
from support.schedules import interrupted_once

N = 512


def two_mappings(quirks: Quirks | None = None, **options: object) -> tuple[Area, Area]:
    one = Area(N, shared=True, quirks=quirks)
    one.store(0)
    other = Area(N, process=one.process, file=one.process.areas[0].file, **{"shared": True, **options})
    other.load(0)
    return one, other


def has_table(area: Area) -> bool:
    return bool(area.rows()[0][2] & Category.WRITTEN)


@pytest.mark.parametrize("spared", ["private copy", "armed", "guard", "misaligned"])
def test_areas_that_may_have_entries_of_their_own_keep_their_tables(spared: str) -> None:
    one, other = two_mappings(shared=spared != "private copy")
    if spared == "private copy":
        other.store(3)
    elif spared == "armed":
        other.armed()
    elif spared == "guard":
        other.advise(Advice.GUARD_INSTALL, 3, 4)
    elif spared == "misaligned":
        other.process.munmap(other.start, PAGE)
    one.advise(Advice.COLLAPSE, 0, N)
    if spared == "private copy":
        assert other.load(3) == b"x"
    elif spared == "armed":
        assert other.pages() == []
    elif spared == "guard":
        assert other.categories(3) & Category.GUARD
    check(one.kernel.machine)


def test_others_lose_them_and_fault_the_huge_page_in() -> None:
    one, other = two_mappings()
    one.advise(Advice.COLLAPSE, 0, N)
    assert not has_table(other)
    assert other.load(0) == b"x"
    assert other.rows()[0][2] & Category.HUGE
    check(one.kernel.machine)


@pytest.mark.parametrize(("skips", "loses"), [(True, True), (False, False)], ids=["one look", "two looks"])
def test_protection_installed_between_two_looks_is_not_lost(*, skips: bool, loses: bool) -> None:
    """Registering needs the mmap lock, which the retraction does not hold: it may happen in between."""
    areas: list[Area] = []

    def build() -> list[Callable[[], object]]:
        one, other = two_mappings(Quirks(retract_skips_recheck=skips))
        areas.append(other)
        file = one.process.areas[0].file
        for folio in {id(f): f for f in file.folios.values()}.values():
            file.remove(folio, "test: only the tables are at stake")
        one.advise(Advice.DONTNEED, 0, N)
        other.advise(Advice.DONTNEED, 1, 2)
        return [
            lambda: retract_page_tables(file, 0),
            lambda: other.armed(Feature.PAGEFAULT_FLAG_WP | Feature.WP_UNPOPULATED),
        ]

    unprotected = []
    for run in interrupted_once(build, at=lambda label: label.startswith("retract")):
        assert not run.errors
        assert not run.deadlocked
        unprotected.append(areas[-1].pages() != [])
    assert len(unprotected) > 3
    assert any(unprotected) is loses
