"""MMU notifiers: a secondary MMU never holds what the primary has given up."""

from pagewatch.model import Quirks
from pagewatch.model.madvise import Advice
from pagewatch.model.notifier import Event, SecondaryMmu, invalidating
from pagewatch.model.walk import seek
from support.modelled import PAGE, Area


def mirrored(area: Area) -> SecondaryMmu:
    mmu = SecondaryMmu(area.process.mm)
    for page in range(area.n_pages):
        spot = seek(area.process.mm, area.at(page))
        assert mmu.establish(area.at(page), spot.fmt.pfn(spot.entry), writable=True)
    return mmu


def test_whatever_takes_memory_away_drops_the_secondary_translation_first() -> None:
    for action, event in (
        (lambda a: a.advise(Advice.DONTNEED, 1, 2), Event.CLEAR),
        (lambda a: a.process.munmap(a.at(1), PAGE), Event.UNMAP),
        (lambda a: a.process.mprotect(a.at(1), PAGE, 1), Event.PROTECTION_VMA),
    ):
        area = Area(3)
        area.store(0, 1, 2)
        mmu = mirrored(area)
        action(area)
        assert mmu.events == [(event, area.at(1), area.at(2))]
        assert [page for page in range(3) if mmu.lookup(area.at(page))] == [0, 2]


def test_protecting_by_a_scan_drops_them_and_a_plain_scan_does_not() -> None:
    area = Area(2)
    area.store(0, 1)
    area.armed()
    area.store(0, 1)
    mmu = mirrored(area)
    area.raw()
    assert mmu.events == []
    area.raw(flags=1)
    assert mmu.events == [(Event.PROTECTION_VMA, area.start, area.end)]


def test_clear_refs_spans_the_whole_address_space() -> None:
    area = Area(1)
    area.store(0)
    mmu = mirrored(area)
    area.process.clear_refs("4")
    assert mmu.events == [(Event.SOFT_DIRTY, 0, area.process.mm.top)]


def test_nothing_is_established_inside_a_bracket() -> None:
    area = Area(1)
    mmu = SecondaryMmu(area.process.mm)
    with invalidating(area.process.mm, Event.CLEAR, area.start, area.end):
        assert not mmu.establish(area.start, 1, writable=False)
    assert mmu.establish(area.start, 1, writable=False)


def test_change_pte_finds_nothing_to_change_inside_the_bracket_of_a_copy() -> None:
    area = Area(1, quirks=Quirks(notifier_change_pte=True))
    area.store(0)
    child = area.process.fork()
    mmu = mirrored(area)
    area.store(0)
    assert mmu.events == [(Event.CLEAR, area.start, area.end)]
    assert mmu.lookup(area.start) is None
    assert child.load(area.start, 1) == b"x"


def test_change_pte_outside_any_bracket_would_replace_the_translation() -> None:
    area = Area(1)
    area.store(0)
    mmu = mirrored(area)
    assert mmu.change(area.start, 77)
    assert mmu.lookup(area.start) == (77, False)


def test_unmapping_two_areas_is_two_brackets() -> None:
    area = Area(4)
    area.process.mprotect(area.start, 2 * PAGE, 1)
    mmu = SecondaryMmu(area.process.mm)
    area.process.munmap(area.start, 4 * PAGE)
    assert [event[1:] for event in mmu.events] == [(area.start, area.at(2)), (area.at(2), area.end)]
